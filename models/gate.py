"""Gates: what keeps jobs that go to one receiver from holding all threads. A job may name one it must pass.

Of a gate's jobs only so many are handed out at once, and none while it is closed. The dispatcher counts; nothing is
counted that is not a row of a job. A gate of which there is no row, since nothing has gone wrong there, is open.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, Uuid, delete, func, select, update
from sqlalchemy.orm import Session

from models.dialect import UtcTime, dialect_of, insert_or_ignore, insert_or_keep, locked, now, seconds_from_now
from models.job import jobs
from models.schema import metadata

gates = Table(
    "gates",
    metadata,
    Column("id", Uuid, primary_key=True),  # its endpoint's, or made of what it leads to
    Column("tenant_id", Uuid, ForeignKey("tenants.id"), nullable=False),
    Column("leads_to", Text, nullable=False),
    Column("unanswered", Integer, nullable=False),  # attempts in a row that got no answer
    Column("failing_since", UtcTime),  # nothing succeeded since then
    Column("closed_until", UtcTime),
    Column("used_at", UtcTime, nullable=False),
    Index("gates_used_at", "used_at"),
)
_c = gates.c
SILENT_PART = 4
ADDED_AT_ONCE = 500


@dataclass(frozen=True)
class Gate:
    """A gate as it stands; `now` is the database's clock when it was read."""

    id: UUID
    tenant_id: UUID
    leads_to: str
    unanswered: int
    failing_since: datetime | None
    closed_until: datetime | None
    used_at: datetime
    now: datetime

    @property
    def closed(self) -> bool:
        """Whether it lets nothing through now."""
        return self.closed_until is not None and self.closed_until > self.now


_GATE = [now().label(field.name) if field.name == "now" else _c[field.name] for field in fields(Gate)]


@dataclass(frozen=True)
class NewGate:
    """A gate as its first job makes it."""

    id: UUID
    tenant_id: UUID
    leads_to: str


def add(session: Session, new: Collection[NewGate]) -> None:
    """Make those gates that are not there."""
    # In one order everywhere: two that make the same gates would else wait for each other.
    rows = [_new(one) for one in sorted(new, key=lambda one: one.id)]
    for first in range(0, len(rows), ADDED_AT_ONCE):
        session.execute(insert_or_ignore(dialect_of(session), gates).values(rows[first : first + ADDED_AT_ONCE]))


def _new(wanted: NewGate) -> dict[str, Any]:
    return {**asdict(wanted), "unanswered": 0, "used_at": now()}


def find(session: Session, gate_id: UUID) -> Gate | None:
    """The gate, if it is there."""
    row = session.execute(select(*_GATE).where(_c.id == gate_id)).mappings().one_or_none()
    return None if row is None else Gate(**row)


def find_all(session: Session, ids: Sequence[UUID]) -> dict[UUID, Gate]:
    """Those of the gates that are there."""
    return {row["id"]: Gate(**row) for row in session.execute(select(*_GATE).where(_c.id.in_(ids))).mappings()}


def hold(session: Session, wanted: NewGate) -> Gate:
    """The gate, made if it was forgotten, which nobody else changes until the transaction ends.

    Whoever holds an endpoint as well takes it after its gate: two that took them the other way round would wait for
    each other.
    """
    # One statement, since it might be deleted between two: an update to what it is takes the row's lock.
    insert = insert_or_keep(dialect_of(session), gates, _c.id).values(_new(wanted))
    return Gate(**session.execute(insert.returning(*_GATE)).mappings().one())


def hold_free(session: Session, ids: Sequence[UUID]) -> tuple[dict[UUID, Gate], set[UUID]]:
    """Those of the gates that nobody holds, which are held until the transaction ends, and the others' ids.

    For a dispatcher that counts and claims: a worker that stands still with a gate in its hands shall not stop it.
    """
    query = locked(select(*_GATE).where(_c.id.in_(ids)), dialect_of(session))
    free = {row["id"]: Gate(**row) for row in session.execute(query).mappings()}
    others = session.scalars(select(_c.id).where(_c.id.in_(ids), _c.id.not_in(list(free)))).all()
    return free, set(others)


def in_hand(session: Session, ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many jobs of each gate are on the broker or run."""
    c = jobs.c
    query = select(c.gate_id, func.count()).where(
        c.gate_id.in_(ids), c.gate_id.is_not(None), c.dispatched_at.is_not(None), c.finished_at.is_(None)
    )
    return {row.gate_id: row[1] for row in session.execute(query.group_by(c.gate_id))}


def in_hand_at_silent(session: Session) -> int:
    """How many jobs on the broker or running go to receivers that gave no answer the last time."""
    c = jobs.c
    query = select(func.count()).join_from(jobs, gates, _c.id == c.gate_id)
    in_hand = c.gate_id.is_not(None), c.dispatched_at.is_not(None), c.finished_at.is_(None)
    return session.scalars(query.where(*in_hand, _c.unanswered > 0)).one()


def most_at_silent(threads: int) -> int:
    """So many jobs of all receivers that gave no answer may hold some of those threads, each of them for long."""
    return max(1, threads // SILENT_PART)


def change(session: Session, gate: Gate) -> None:
    """Keep what was decided of a gate that is held."""
    values = {"unanswered": gate.unanswered, "failing_since": gate.failing_since, "closed_until": gate.closed_until}
    session.execute(update(gates).where(_c.id == gate.id).values(**values, used_at=now()))


def remove(session: Session, gate_id: UUID) -> None:
    """Delete a gate, which lets through what still comes. Whoever holds its endpoint as well takes that after it."""
    session.execute(delete(gates).where(_c.id == gate_id))


def remove_unused(session: Session, older_than: timedelta, limit: int) -> int:
    """Delete gates of which nothing was written for so long; gives how many. The next job makes its own again."""
    unused = _c.used_at < seconds_from_now(-older_than.total_seconds())
    some = locked(select(_c.id).where(unused).order_by(_c.used_at).limit(limit), dialect_of(session)).cte("some")
    gone = delete(gates).where(_c.id.in_(select(some.c.id))).returning(_c.id)
    return len(session.scalars(gone).all())
