"""Messages that RabbitMQ could not deliver and that start no job, as types."""

import base64
from datetime import datetime
from typing import Any

from jobmill_client.documents import Document


class Undeliverable(Document):
    """A message: the queue it came to, why it starts no job, how long its body was."""

    id: str
    queue: str
    reason: str
    detail: str
    body_bytes: int
    dead_lettered_at: datetime | None
    collected_at: datetime


class WholeUndeliverable(Undeliverable):
    """A message with its body, or the first 64 KiB of it if that is `truncated`."""

    body: str
    body_encoding: str
    truncated: bool
    headers: dict[str, Any]
    properties: dict[str, Any]

    def content(self) -> bytes:
        """The body, or what is kept of it, as bytes."""
        return base64.b64decode(self.body) if self.body_encoding == "base64" else self.body.encode()
