"""Messages that RabbitMQ could not deliver, as rows for tests."""

from typing import Any
from uuid import UUID

from models import undeliverable
from models.database import Database
from models.ids import new_id
from models.undeliverable import Undeliverable, UndeliverableReason
from tests.factories import ago


def keep(database: Database, **columns: Any) -> UUID:
    """Keep one; gives its id."""
    body = columns.get("body", b'{"task": "send_mail"}')
    told = {
        "id": new_id(),
        "queue": "default",
        "reason": UndeliverableReason.FOREIGN,
        "detail": "the body is not of our form",
        "body": body,
        "body_bytes": len(body),
        "headers": {"x-death": [{"reason": "rejected"}]},
        "properties": {"app_id": "mailer"},
        "dead_lettered_at": ago(seconds=3),
        "digest": new_id().bytes,
    }
    message = Undeliverable(**(told | columns))
    with database.transaction() as session:
        undeliverable.keep(session, [message])
    return message.id
