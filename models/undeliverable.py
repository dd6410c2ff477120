"""Messages that RabbitMQ could not deliver and that start no job: kept as they came, until an operator discards them.

Of one kind, a queue and a reason, the newest are kept, so that a flood of one kind pushes out nothing of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    LargeBinary,
    Table,
    Text,
    Uuid,
    delete,
    null,
    select,
    type_coerce,
)
from sqlalchemy.orm import Session

from models.dialect import Document, UtcTime, dialect_of, insert_or_ignore, now
from models.schema import metadata

MOST_OF_A_KIND = 1000
MOST_BODY_BYTES = 64 * 1024


class UndeliverableReason(StrEnum):
    """Why a message started no job."""

    UNDECODABLE = "undecodable"
    """Its body is no JSON: cut short, or not meant for us."""
    TOO_LARGE = "too_large"
    UNKNOWN_ACTOR = "unknown_actor"
    """It is one of Dramatiq's own, for an actor that Jobmill does not have."""
    FOREIGN = "foreign"
    """Its body is JSON, and not of our form."""
    DELIVERY_LIMIT = "delivery_limit"
    """It was handed out as often as RabbitMQ does that, and names no job that is there."""
    UNKNOWN_JOB = "unknown_job"
    """It is of our form, and names no job that is there."""


_REASONS = ", ".join(f"'{reason}'" for reason in UndeliverableReason)

undeliverable = Table(
    "undeliverable",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("body_bytes", BigInteger, nullable=False),
    Column("headers", Document, nullable=False),
    Column("properties", Document, nullable=False),
    Column("dead_lettered_at", UtcTime),
    Column("collected_at", UtcTime, nullable=False),
    # What a message is known by when it comes again.
    Column("digest", LargeBinary, nullable=False),
    CheckConstraint(f"reason IN ({_REASONS})", name="reason"),
    Index("undeliverable_of_a_kind", "queue", "reason", "id"),
    Index("undeliverable_digest", "digest"),
)
_c = undeliverable.c
_LARGE = {"body", "headers", "properties"}


@dataclass(frozen=True)
class Undeliverable:
    """One message: at most MOST_BODY_BYTES of its body, and how long that was.

    The database writes a `collected_at` of its own.
    """

    id: UUID
    queue: str
    reason: UndeliverableReason
    detail: str
    body: bytes
    body_bytes: int
    headers: Any
    properties: Any
    dead_lettered_at: datetime | None
    digest: bytes
    collected_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def known(session: Session, digests: Sequence[bytes]) -> set[bytes]:
    """Those of the digests of which a message is kept."""
    return set(session.scalars(select(_c.digest).where(_c.digest.in_(digests)))) if digests else set()


def keep(session: Session, messages: Sequence[Undeliverable]) -> None:
    """Add messages, at the database's time; one that is there already, of a try whose answer was lost, stays."""
    rows = [{name: value for name, value in vars(message).items() if name != "collected_at"} for message in messages]
    if rows:
        session.execute(insert_or_ignore(dialect_of(session), undeliverable).values(collected_at=now()), rows)


def forget_oldest(session: Session, queue: str, reason: UndeliverableReason, most: int = MOST_OF_A_KIND) -> int:
    """Delete what there is of a kind beyond the newest `most`; gives how many."""
    of_kind = select(_c.id).where(_c.queue == queue, _c.reason == reason).order_by(_c.id.desc())
    # On SQLite an OFFSET needs a LIMIT.
    old = of_kind.offset(most).limit(most * 10)
    return session.execute(delete(undeliverable).where(_c.id.in_(old))).rowcount  # type: ignore[attr-defined,no-any-return]


def list_undeliverable(
    session: Session, queue: str | None, reason: UndeliverableReason | None, before: UUID | None, limit: int
) -> list[Undeliverable]:
    """Messages without bodies and headers, newest first, those older than the id `before`; None means any."""
    wanted = [_without(column) if column.name in _LARGE else column for column in _columns()]
    query = select(*wanted).order_by(_c.id.desc()).limit(limit)
    for condition in (
        None if queue is None else _c.queue == queue,
        None if reason is None else _c.reason == reason,
        None if before is None else _c.id < before,
    ):
        query = query if condition is None else query.where(condition)
    return [_read(row) for row in session.execute(query).mappings()]


def find_undeliverable(session: Session, message_id: UUID) -> Undeliverable | None:
    """The message, if it is there."""
    row = session.execute(select(*_columns()).where(_c.id == message_id)).mappings().one_or_none()
    return _read(row) if row else None


def discard(session: Session, message_id: UUID) -> bool:
    """Delete a message; False if it is not there."""
    return bool(session.execute(delete(undeliverable).where(_c.id == message_id)).rowcount)  # type: ignore[attr-defined]


def _columns() -> list[Column[Any]]:
    return [_c[known.name] for known in fields(Undeliverable)]


def _without(column: Column[Any]) -> Any:
    return type_coerce(null(), column.type).label(column.name)


def _read(row: Any) -> Undeliverable:
    return Undeliverable(**{**row, "reason": UndeliverableReason(row["reason"]), "body": row["body"] or b""})
