"""What `jobmill webhooks listen` makes of a request: what it answers, and what it prints of it."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from cli import output
from cli.visible import visible
from jobs import signing
from jobs.signing import NotVerified

_INDENT = "    "


@dataclass(frozen=True)
class Received:
    """The answer to a request with the reason for a refusal, and the lines to print: of an event, or of the refusal."""

    status: HTTPStatus
    lines: Sequence[str]
    reason: str = ""


@dataclass
class Receiver:
    """Takes what one of the secrets signed, but fails for the first `failures` events. Threads may share it."""

    secrets: Sequence[str] = field(repr=False)
    failures: int = 0
    shows_body: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def receive(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Received:
        """Judge a request by its headers and the bytes of its body."""
        try:
            signing.verify(self.secrets, headers, body, now.timestamp())
        except NotVerified as error:
            return refused(HTTPStatus.UNAUTHORIZED, str(error), now)
        told = [*_event(headers, body), *(["answered 500"] if (fails := self._fails()) else [])]
        lines = [_line(now, *told), *(_body(body) if self.shows_body else ())]
        return Received(HTTPStatus.INTERNAL_SERVER_ERROR if fails else HTTPStatus.NO_CONTENT, lines)

    def _fails(self) -> bool:
        with self._lock:
            fails = self.failures > 0
            self.failures -= fails
        return fails


def refused(status: HTTPStatus, reason: str, now: datetime) -> Received:
    """A request that is no event, and why."""
    return Received(status, [_line(now, f"refused with {status.value}: {reason}")], reason)


def _event(headers: Mapping[str, str], body: bytes) -> list[str]:
    """The event, its id, and of a job's its id and state."""
    told = _object(_parsed(body))
    data = _object(told.get("data"))
    event = str(told.get("type", output.NOTHING))
    of_job = [data.get(part) for part in ("id", "state")] if event.startswith("job.") else []
    event_id = next((value for name, value in headers.items() if name.lower() == signing.ID), output.NOTHING)
    return [event, event_id, *(str(part) for part in of_job)]


def _body(body: bytes) -> list[str]:
    """The body in lines that are easy to read; as it came if it is no JSON."""
    told = _parsed(body)
    text = body.decode(errors="backslashreplace") if told is None else json.dumps(told, indent=2, ensure_ascii=False)
    return [_INDENT + visible(line) for line in text.split("\n")]


def _line(now: datetime, *parts: str) -> str:
    time = now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return visible("  ".join([time, *parts]))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
