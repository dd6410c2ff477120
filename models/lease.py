"""The leases by which one process of several acts, and what the renewal of one tells its holder besides."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Table, Text, Uuid, bindparam, delete, exists, or_, select
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
    c, name, by_holder = leases.c, bindparam("of_name", type_=Text()), bindparam("by_holder", type_=Uuid())
    row = (name, by_holder, seconds_from_now(bindparam("seconds")))
    held = leases.alias("held")
    # Who finds it held inserts nothing: the conflict alone would lock the row, and keep its holder from renewing it.
    others = exists().where(held.c.name == name, held.c.holder != by_holder, held.c.expires_at >= now())
    told = select(*row).where(~others)
    taken = insert_or_change(
        dialect,
        leases,
        c.name,
        ["name", "holder", "expires_at"],
        told,
        only_if=or_(c.holder == by_holder, c.expires_at < now()),
    )
    claimed, running = _any_in(State.DISPATCHED, jobs.c.queue), _any_in(State.RUNNING, jobs.c.worker_id)
    waiting = _any_in(State.QUEUED, jobs.c.queue, jobs.c.priority)
    return taken.returning(waiting.label("waiting"), or_(claimed, running).label("in_motion"))


def _any_in(state: State, *by: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether any job is in that state, by the first entry of its index.

    An EXISTS would lose its order, and with that a planner whose statistics still tell of a backlog the index.
    """
    return select(jobs.c.id).where(in_state(state)).order_by(*by).limit(1).scalar_subquery().is_not(None)


def is_held(session: Session) -> bool:
    """Whether anybody holds a lease: a dispatcher leads."""
    return bool(session.scalar(select(exists().where(leases.c.expires_at > now()))))


def resign(session: Session, name: str, holder: UUID) -> None:
    """Give the lease up, so that a standby need not wait for its end."""
    session.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))


def vacate(session: Session, name: str) -> None:
    """End anyone's term. Only for a process that is alone: whoever held the lease is dead."""
    session.execute(delete(leases).where(leases.c.name == name))
