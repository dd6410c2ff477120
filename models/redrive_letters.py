"""The letters of redrives: which were pinned, which have their turn next, and what came of each.

What pins a letter is its lease: whoever replays it gives it another one sooner or later, and it dies under that. So
no letter is replayed twice, whoever else replays it, and none that dies again comes back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    Update,
    Uuid,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from models.dead_letters import DeadFilter, matches
from models.dialect import dialect_of, given, rows_parameter, seconds_from_now
from models.job import Ref, in_state, jobs
from models.redrives import UNANSWERED, Fate, redrives
from models.schema import metadata
from models.states import State

redrive_letters = Table(
    "redrive_letters",
    metadata,
    Column("redrive_id", Uuid, ForeignKey("redrives.id", ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("job_id", Uuid, nullable=False),  # no foreign key: a job may be pruned before its redrive
    Column("lease", BigInteger, nullable=False),
    Column("fate", Text),
    CheckConstraint("fate IN ({})".format(", ".join(f"'{fate}'" for fate in Fate)), name="fate"),
)
_l = redrive_letters.c
_UNANSWERED = "fate IN ({})".format(", ".join(f"'{fate}'" for fate in UNANSWERED))
Index(
    "redrive_letters_unanswered",
    _l.redrive_id,
    _l.place,
    sqlite_where=text(_UNANSWERED),
    postgresql_where=text(_UNANSWERED),
)
_c = jobs.c


class Pinned(NamedTuple):
    """A pinned letter: its place among those of its redrive, and the job under the lease it died with."""

    place: int
    ref: Ref


@dataclass(frozen=True)
class Sighting:
    """What a replayed letter was last known as, and how its job is now; `state` None: it is gone."""

    place: int
    fate: Fate
    state: State | None
    attempt: int | None
    finished_at: datetime | None


class Tally(NamedTuple):
    """How many letters were last known as that and have a job in this state (None: gone), begun or not."""

    fate: Fate
    state: State | None
    attempted: int
    letters: int


def pin(session: Session, redrive_id: UUID, wanted: DeadFilter, limit: int) -> int:
    """Pin the dead letters that match now, those first that died first, `limit` at most; gives how many."""
    place = func.row_number().over(order_by=(_c.finished_at, _c.id))
    dead = select(_c.id, _c.lease, place.label("place")).where(*matches(wanted))
    first = dead.order_by(_c.finished_at, _c.id).limit(limit).subquery("first")
    rows = select(literal(redrive_id, Uuid()), first.c.place, first.c.id, first.c.lease)
    session.execute(insert(redrive_letters).from_select(["redrive_id", "place", "job_id", "lease"], rows))
    # psycopg does not tell how many rows an INSERT of a SELECT made.
    return session.scalars(select(func.count()).select_from(redrive_letters).where(_l.redrive_id == redrive_id)).one()


def following(session: Session, redrive_id: UUID, after: int, limit: int) -> list[Pinned]:
    """The letters behind that place."""
    query = select(_l.place, _l.job_id, _l.lease).where(_l.redrive_id == redrive_id, _l.place > after)
    rows = session.execute(query.order_by(_l.place).limit(limit))
    return [Pinned(place, Ref(job_id, lease)) for place, job_id, lease in rows]


def sightings(session: Session, redrive_id: UUID, after: int, limit: int) -> list[Sighting]:
    """How the jobs of unanswered letters behind that place are now."""
    query = select(_l.place, _l.fate, _c.state, _c.attempt, _c.finished_at).outerjoin(jobs, _c.id == _l.job_id)
    # Written out, as the partial index has it.
    unanswered = query.where(_l.redrive_id == redrive_id, text(_UNANSWERED), _l.place > after)
    rows = session.execute(unanswered.order_by(_l.place).limit(limit)).all()
    return [Sighting(place, Fate(fate), State(state) if state else None, *rest) for place, fate, state, *rest in rows]


def tallies(session: Session, redrive_id: UUID) -> list[Tally]:
    """How the jobs of all unanswered letters are now, counted."""
    attempted = case((_c.attempt > 0, 1), else_=0)
    query = select(_l.fate, _c.state, attempted, func.count()).outerjoin(jobs, _c.id == _l.job_id)
    unanswered = query.where(_l.redrive_id == redrive_id, text(_UNANSWERED)).group_by(_l.fate, _c.state, attempted)
    return [
        Tally(Fate(fate), State(state) if state else None, attempt, count)
        for fate, state, attempt, count in session.execute(unanswered)
    ]


def forget(session: Session, state: State, older_than: timedelta, limit: int) -> int:
    """Delete up to `limit` letters of redrives whose jobs reached that state so long ago; gives how many.

    They would go with their redrive, all in the statement that prunes it.
    """
    of = redrives.join(jobs, _c.id == redrives.c.id).join(redrive_letters, _l.redrive_id == redrives.c.id)
    old = in_state(state), _c.finished_at < seconds_from_now(-older_than.total_seconds())
    gone = select(_l.redrive_id, _l.place).select_from(of).where(*old).limit(limit)
    deleted = delete(redrive_letters).where(tuple_(_l.redrive_id, _l.place).in_(gone)).returning(_l.place)
    return len(session.scalars(deleted).all())


def settle(session: Session, redrive_id: UUID, fates: Mapping[int, Fate]) -> None:
    """Keep what has become of the letters at those places."""
    if fates:
        rows = rows_parameter([{"place": place, "fate": fate} for place, fate in fates.items()])
        session.execute(_settle(dialect_of(session)), {**rows, "of_redrive": redrive_id})


@cache
def _settle(dialect: str) -> Update:
    rows = given(dialect, place=int, fate=str)
    settled = update(redrive_letters).where(_l.redrive_id == bindparam("of_redrive"), _l.place == rows.c.place)
    return settled.values(fate=rows.c.fate)
