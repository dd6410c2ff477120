"""The leases by which one process of several acts, and what the renewal of one tells its holder besides."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Table, Text, Uuid, bindparam, delete, exists, or_, select
from sqlalchemy.orm import Session

from models.dialect import UtcTime, dialect_of, insert_or_change, now, seconds_from_now
from models.job import in_state, jobs
from models.schema import metadata
from models.states import State

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Uuid, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)


@dataclass(frozen=True)
class Term:
    """A lease that was taken or kept, and whether any job is `waiting` for its time or turn, or claimed or running.

    Told with the renewal, so that who holds the lease of an installation at rest need not ask all it would ask.
    """

    waiting: bool
    in_motion: bool


def lead(session: Session, name: str, holder: UUID, term: timedelta) -> Term | None:
    """Take or keep the lease of that name for `term`; None while another holds it."""
    values = {"of_name": name, "by_holder": holder, "seconds": term.total_seconds()}
    row = session.execute(_lead(dialect_of(session)), values).one_or_none()
    return None if row is None else Term(bool(row.waiting), bool(row.in_motion))


@cache
def _lead(dialect: str) -> Any:
    c = leases.c
    expiry = seconds_from_now(bindparam("seconds"))
    values = {"name": bindparam("of_name"), "holder": bindparam("by_holder", type_=Uuid()), "expires_at": expiry}
    free = or_(c.holder == bindparam("by_holder", type_=Uuid()), c.expires_at < now())
    taken = insert_or_change(dialect, leases, c.name, values, only_if=free)
    waiting = select(jobs.c.id).where(in_state(State.QUEUED)).order_by(jobs.c.queue, jobs.c.priority).limit(1)
    claimed = select(jobs.c.id).where(in_state(State.DISPATCHED)).order_by(jobs.c.queue).limit(1)
    running = select(jobs.c.id).where(in_state(State.RUNNING)).order_by(jobs.c.worker_id).limit(1)
    return taken.returning(exists(waiting).label("waiting"), or_(exists(claimed), exists(running)).label("in_motion"))


def is_held(session: Session) -> bool:
    """Whether anybody holds a lease: a dispatcher leads."""
    return bool(session.scalar(select(exists().where(leases.c.expires_at > now()))))


def resign(session: Session, name: str, holder: UUID) -> None:
    """Give the lease up, so that a standby need not wait for its end."""
    session.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))


def vacate(session: Session, name: str) -> None:
    """End anyone's term. Only for a process that is alone: whoever held the lease is dead."""
    session.execute(delete(leases).where(leases.c.name == name))
