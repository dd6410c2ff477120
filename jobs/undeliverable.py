"""What an operator of the installation may do with messages that RabbitMQ could not deliver: read and discard them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from jobs.scopes import Principal
from models import undeliverable
from models.undeliverable import Undeliverable, UndeliverableReason


class NoSuchMessage(LookupError):  # noqa: N818
    """There is no message of that id, or the asker is of a tenant, to whom there is none at all."""


def found(
    session: Session,
    principal: Principal,
    queue: str | None,
    reason: UndeliverableReason | None,
    before: UUID | None,
    limit: int,
) -> Sequence[Undeliverable]:
    """Messages newest first, without bodies and headers; to a tenant's key there are none."""
    if principal.tenant_id is not None:
        return []
    return undeliverable.list_undeliverable(session, queue, reason, before, limit)


def find(session: Session, principal: Principal, message_id: UUID) -> Undeliverable:
    """The message. Raises NoSuchMessage."""
    message = undeliverable.find_undeliverable(session, message_id) if principal.tenant_id is None else None
    if message is None:
        raise NoSuchMessage(f"There is no undeliverable message {message_id}.")
    return message


def discard(session: Session, message: Undeliverable, *, again: bool = False) -> None:
    """Delete the message for good. Raises NoSuchMessage, unless `again`: an earlier try may have been committed."""
    if not undeliverable.discard(session, message.id) and not again:
        raise NoSuchMessage(f"There is no undeliverable message {message.id} any more.")
