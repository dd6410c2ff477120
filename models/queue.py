"""Queues, as far as an operator has said something of them: paused or not, and their limits.

They are of the installation. A queue without a row is neither paused nor limited.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Column, ColumnElement, Float, Integer, Table, Text, exists, or_, select, update
from sqlalchemy.orm import Session

from models.dialect import UtcTime, dialect_of, held, insert_or_ignore, locked, now
from models.schema import metadata

MOST_RUNNING = 1_000_000
LEAST_PER_SECOND, MOST_PER_SECOND = 0.001, 100_000.0

queues = Table(
    "queues",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused_at", UtcTime),
    Column("paused_by", Text),
    # Of jobs that are dispatched or running; NULL is no limit.
    Column("max_running", Integer),
    Column("max_per_second", Float(53)),
    # Until then what was claimed so far keeps to max_per_second; the row keeps it, so that each leader goes on from it.
    Column("paced_until", UtcTime),
    CheckConstraint("(paused_at IS NULL) = (paused_by IS NULL)", name="paused"),
    CheckConstraint("max_running >= 1 AND max_per_second >= 0.001", name="limits"),
)

_c = queues.c


@dataclass(frozen=True)
class Queue:
    """What an operator has said of a queue."""

    name: str
    paused_at: datetime | None = None
    paused_by: str | None = None
    max_running: int | None = None
    max_per_second: float | None = None
    paced_until: datetime | None = None

    @property
    def paused(self) -> bool:
        """Whether none of its jobs begins."""
        return self.paused_at is not None

    @property
    def limited(self) -> bool:
        """Whether its jobs are counted before more of them are handed out."""
        return self.max_running is not None or self.max_per_second is not None


_QUEUE = tuple(_c[known.name] for known in fields(Queue))
paused_names = select(_c.name).where(_c.paused_at.is_not(None))
"""The queues of which no job begins, for statements over jobs."""
_restrained = or_(_c.paused_at.is_not(None), _c.max_running.is_not(None), _c.max_per_second.is_not(None))
restrained_names = select(_c.name).where(_restrained)
"""The queues that are paused or limited, for a statement that asks more."""


def unrestrained(name: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether the queue is neither paused nor limited, for a claim that counts nothing."""
    return ~exists().where(_c.name == name, _restrained)


def find_queue(session: Session, name: str) -> Queue | None:
    """What was said of the queue, if anything was."""
    return _first(session, select(*_QUEUE).where(_c.name == name))


def find_queues(session: Session, names: Sequence[str]) -> dict[str, Queue]:
    """What was said of those queues of which anything was."""
    return {row["name"]: Queue(**row) for row in session.execute(select(*_QUEUE).where(_c.name.in_(names))).mappings()}


def restrained(session: Session) -> dict[str, Queue]:
    """The queues that are paused or limited, by name."""
    return {row["name"]: Queue(**row) for row in session.execute(select(*_QUEUE).where(_restrained)).mappings()}


def hold_queue(session: Session, name: str) -> Queue | None:
    """What was said of the queue; until the transaction ends nobody says anything else, or claims by its limits."""
    return _first(session, held(select(*_QUEUE).where(_c.name == name), dialect_of(session)))


def take_queue(session: Session, name: str) -> Queue | None:
    """Like `hold_queue` for a dispatcher: None also while somebody else holds it, who is not waited for."""
    return _first(session, locked(select(*_QUEUE).where(_c.name == name), dialect_of(session)))


def pause(session: Session, name: str, actor: str) -> tuple[Queue, Queue]:
    """Let none of its jobs begin; gives the queue before and after. One that is paused stays so since when it was."""
    before = _made(session, name)
    if not before.paused:
        _change(session, name, paused_at=now(), paused_by=actor)
    return before, _as_it_is(session, name)


def resume(session: Session, name: str) -> tuple[Queue, Queue]:
    """Let its jobs begin again; gives the queue before and after."""
    before = _made(session, name)
    _change(session, name, paused_at=None, paused_by=None)
    return before, _as_it_is(session, name)


def limit(session: Session, name: str, **limits: float | None) -> tuple[Queue, Queue]:
    """Set `max_running`, `max_per_second` or both (None: no limit); gives the queue before and after."""
    before = _made(session, name)
    if limits:
        _change(session, name, **limits)
    return before, _as_it_is(session, name)


def pace(session: Session, name: str, until: datetime) -> None:
    """Keep until when what was claimed of a queue that is held keeps to its rate."""
    _change(session, name, paced_until=until)


def _made(session: Session, name: str) -> Queue:
    """The queue's row, made if need be, and held."""
    session.execute(insert_or_ignore(dialect_of(session), queues).values(name=name))
    return hold_queue(session, name) or Queue(name)


def _change(session: Session, name: str, **values: Any) -> None:
    session.execute(update(queues).where(_c.name == name).values(**values))


def _as_it_is(session: Session, name: str) -> Queue:
    return find_queue(session, name) or Queue(name)


def _first(session: Session, query: Any) -> Queue | None:
    row = session.execute(query).mappings().one_or_none()
    return Queue(**row) if row else None
