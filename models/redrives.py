"""Redrives: dead letters that go back by the thousand. Their tables, and what is read and written of a redrive itself.

A redrive is a job of its own; its row here has the same id. Its letters are in redrive_letters.py.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Session

from models.dialect import POSTGRESQL, Document, UtcTime, dialect_of, now
from models.job import jobs
from models.schema import metadata
from models.states import State
from models.tenancy import of_tenant

TYPE = "dead_letters.redrive"
"""The type of its job. A filter of dead letters means it only by name."""


class Action(StrEnum):
    """What a redrive does with each letter."""

    REPLAY = "replay"
    DISCARD = "discard"


class RedriveState(StrEnum):
    """Where a redrive is; the last three are final."""

    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    CANCELLED = "cancelled"


OPEN = (RedriveState.RUNNING, RedriveState.PAUSED)


class Fate(StrEnum):
    """What has become of a letter since it was pinned; a letter without one waits for its turn."""

    REPLAYED = "replayed"
    FAILING = "failing"
    SUCCEEDED = "succeeded_again"
    DIED = "died_again"
    OTHERWISE = "ended_otherwise"
    DISCARDED = "discarded"
    SKIPPED = "skipped"


UNANSWERED = (Fate.REPLAYED, Fate.FAILING)
"""Replayed, and not final yet; a failing one has failed at least once and waits for its next attempt."""


def _words(words: type[StrEnum]) -> str:
    return ", ".join(f"'{word}'" for word in words)


redrives = Table(
    "redrives",
    metadata,
    # It goes with its job, when the retention of that ends.
    Column("id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("tenant_id", Uuid),  # whose letters; NULL: those of the whole installation
    Column("action", Text, nullable=False),
    Column("filter", Document(), nullable=False),
    Column("rate_per_second", Float(53), nullable=False),
    Column("ramp_seconds", Float(53), nullable=False),
    Column("abort_when_failure_ratio", Float(53)),
    Column("priority", SmallInteger),  # NULL: each letter keeps its own
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("finished_at", UtcTime),
    Column("matched", Integer, nullable=False),
    Column("handled", Integer, nullable=False),  # letters up to this place have had their turn
    *(Column(fate, Integer, nullable=False) for fate in Fate),
    # What paces it: how long it has run, the letters it may handle at once, when it last looked, and the end of the
    # line of answers, `s` for a success and `d` for a death.
    Column("active_seconds", Float(53), nullable=False),
    Column("credit", Float(53), nullable=False),
    Column("stepped_at", UtcTime),
    Column("recent", Text, nullable=False),
    Column("swept", Integer, nullable=False),  # where the look at unanswered letters goes on
    Column("last_handled_at", UtcTime),
    Column("steered_at", UtcTime),  # when an operator last paused, resumed or cancelled it
    CheckConstraint(f"action IN ({_words(Action)})", name="action"),
    CheckConstraint(f"state IN ({_words(RedriveState)})", name="state"),
    CheckConstraint("(finished_at IS NULL) = (state IN ('running', 'paused'))", name="finished"),
    CheckConstraint("handled BETWEEN 0 AND matched", name="handled"),
    Index("redrives_page", "tenant_id", "id"),
)
_r = redrives.c


@dataclass(frozen=True)
class NewRedrive:
    """A redrive to record. `filter` is as it was asked for; `priority` None leaves each letter its own."""

    id: UUID
    tenant_id: UUID | None
    action: Action
    filter: Any
    rate_per_second: float
    ramp_seconds: float
    abort_when_failure_ratio: float | None
    priority: int | None
    created_by: str


@dataclass(frozen=True)
class Redrive(NewRedrive):
    """A redrive as it is kept; the members named as a Fate count the letters that have it now.

    `replayed` is of those that are not failing; how many were replayed in all is `ever_replayed`.
    """

    state: RedriveState
    reason: str | None
    created_at: datetime
    finished_at: datetime | None
    matched: int
    handled: int
    replayed: int
    failing: int
    succeeded_again: int
    died_again: int
    ended_otherwise: int
    discarded: int
    skipped: int
    active_seconds: float
    credit: float
    stepped_at: datetime | None
    recent: str
    swept: int
    last_handled_at: datetime | None
    steered_at: datetime | None

    @property
    def unanswered(self) -> int:
        """Letters that were replayed and are not final yet."""
        return self.replayed + self.failing

    @property
    def ever_replayed(self) -> int:
        """Letters that were replayed, whatever came of them."""
        return self.unanswered + self.succeeded_again + self.died_again + self.ended_otherwise


COLUMNS = tuple(_r[field.name] for field in fields(Redrive))


@dataclass(frozen=True)
class Seen:
    """A redrive, where its job is, and the database's clock."""

    redrive: Redrive
    job_state: State
    job_finished_at: datetime | None
    now: datetime


def add(session: Session, new: NewRedrive) -> None:
    """Keep a redrive whose job is recorded."""
    counts = dict.fromkeys((*Fate, "matched", "handled", "swept", "active_seconds", "credit"), 0)
    beginning = {"state": RedriveState.RUNNING, "created_at": now(), "recent": ""}
    session.execute(insert(redrives).values(**vars(new), **counts, **beginning))


def pinned(session: Session, redrive_id: UUID, matched: int) -> None:
    """Tell a new redrive how many letters were pinned for it."""
    session.execute(update(redrives).where(_r.id == redrive_id).values(matched=matched))


def find(session: Session, redrive_id: UUID, tenant_id: UUID | None) -> Seen | None:
    """The redrive, if it is there and of that tenant (None: any)."""
    row = session.execute(_seen().where(_r.id == redrive_id, of_tenant(_r.tenant_id, tenant_id))).mappings().first()
    return None if row is None else _as_seen(row)


def list_redrives(session: Session, tenant_id: UUID | None, before: UUID | None, limit: int) -> list[Seen]:
    """The tenant's redrives (None: all), newest first, those older than the id `before`."""
    query = _seen().where(of_tenant(_r.tenant_id, tenant_id)).order_by(_r.id.desc()).limit(limit)
    if before is not None:
        query = query.where(_r.id < before)
    return [_as_seen(row) for row in session.execute(query).mappings()]


def take_hold(session: Session, redrive_id: UUID) -> Seen | None:
    """The redrive, for this transaction alone to change."""
    query = _seen().where(_r.id == redrive_id)
    if dialect_of(session) == POSTGRESQL:  # SQLite has one writer
        query = query.with_for_update(of=redrives)
    row = session.execute(query).mappings().first()
    return None if row is None else _as_seen(row)


def keep(session: Session, redrive: Redrive) -> None:
    """Keep what changed of a redrive that this transaction has taken hold of."""
    session.execute(update(redrives).where(_r.id == redrive.id).values(vars(redrive)))


def steer(session: Session, redrive_id: UUID, sources: tuple[RedriveState, ...], target: RedriveState) -> bool:
    """Bring a redrive from one of those states to another; False if it is in none of them."""
    finished = None if target in OPEN else now()
    moved = update(redrives).where(_r.id == redrive_id, _r.state.in_(sources))
    return session.execute(moved.values(state=target, finished_at=finished, steered_at=now())).rowcount > 0  # type: ignore[attr-defined,no-any-return]


def _seen() -> Any:
    of_job = jobs.c.state.label("job_state"), jobs.c.finished_at.label("job_finished_at")
    return select(*COLUMNS, *of_job, now().label("now")).join(jobs, jobs.c.id == _r.id)


def _as_seen(row: Any) -> Seen:
    told = dict(row)
    job_state, job_finished_at, at = State(told.pop("job_state")), told.pop("job_finished_at"), told.pop("now")
    redrive = Redrive(**{**told, "action": Action(told["action"]), "state": RedriveState(told["state"])})
    return Seen(redrive, job_state, job_finished_at, at)
