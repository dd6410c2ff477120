"""Workers: who is alive, what each could take, and which are gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    Column,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    case,
    delete,
    exists,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from models.dialect import UtcTime, dialect_of, insert_or_ignore, now, seconds_from_now
from models.job import in_state, jobs
from models.schema import metadata
from models.states import State

HEARTBEAT_EVERY = timedelta(seconds=5)
DEAD_AFTER = timedelta(seconds=20)
LONG_AFTER = timedelta(seconds=1)

workers = Table(
    "workers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("queues", JSON, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    # No index on what every heartbeat writes: the table is small, and updates stay in place.
    Column("heartbeat_at", UtcTime, nullable=False),
    Column("draining_at", UtcTime),
    Column("stopped_at", UtcTime),
    # Since when it takes messages; NULL while it lives and takes none, because its broker is away or not reached yet.
    Column("consuming_at", UtcTime),
    # The process that watches over it and takes signals for it; NULL in the embedded mode.
    Column("parent_pid", Integer),
    # How long handlers of each job type ran lately: see models.durations.
    Column("seconds_by_type", JSON),
    postgresql_with={"fillfactor": "50"},
)

_STATE = case(
    (workers.c.stopped_at.is_not(None), "stopped"),
    (workers.c.heartbeat_at < seconds_from_now(-DEAD_AFTER.total_seconds()), "silent"),
    (workers.c.draining_at.is_not(None), "draining"),
    (workers.c.consuming_at.is_(None), "connecting"),
    else_="live",
)


@dataclass(frozen=True)
class Worker:
    """A worker process; `busy` is the number of jobs it runs now, of which `long` began over a second ago."""

    id: UUID
    host: str
    pid: int
    queues: tuple[str, ...]
    threads: int
    busy: int
    version: str
    started_at: datetime
    heartbeat_at: datetime
    state: str
    parent_pid: int | None = None
    long: int = 0


@dataclass(frozen=True)
class Capacity:
    """What the live workers of one queue could take: their threads, and how many of those are free.

    And how many are not busy with a `long` job: they take the next when they have done what is short.
    """

    threads: int
    free: int
    long: int = 0

    @property
    def quick(self) -> int:
        """Threads that are free, or soon are."""
        return max(0, self.threads - self.long)


def register(  # noqa: PLR0913 - a row's columns
    session: Session,
    worker_id: UUID,
    *,
    host: str,
    pid: int,
    queues: Sequence[str],
    threads: int,
    version: str,
    parent_pid: int | None = None,
    consuming: bool = True,
) -> None:
    """Say that a worker is alive, and whether it takes jobs. May be said twice, since an answer can be lost."""
    session.execute(
        insert_or_ignore(dialect_of(session), workers).values(
            id=worker_id,
            host=host,
            pid=pid,
            queues=list(queues),
            threads=threads,
            version=version,
            started_at=now(),
            heartbeat_at=now(),
            consuming_at=now() if consuming else null(),
            parent_pid=parent_pid,
        )
    )


def beat(session: Session, worker_id: UUID, *, consuming: bool = True) -> bool:
    """Say that a worker is still alive, even if it was given up for dead; False if its row was pruned."""
    alive = (
        update(workers)
        .where(workers.c.id == worker_id)
        .values(
            heartbeat_at=now(),
            stopped_at=null(),
            consuming_at=func.coalesce(workers.c.consuming_at, now()) if consuming else null(),
        )
    )
    return bool(session.execute(alive).rowcount)  # type: ignore[attr-defined]


def mark_draining(session: Session, worker_id: UUID) -> None:
    """Say that a worker takes nothing new."""
    session.execute(update(workers).where(workers.c.id == worker_id).values(draining_at=now()))


def mark_stopped(session: Session, worker_ids: Sequence[UUID]) -> None:
    """Say that workers are gone."""
    session.execute(
        update(workers).where(workers.c.id.in_(worker_ids), workers.c.stopped_at.is_(None)).values(stopped_at=now())
    )


def silent(session: Session, limit: int) -> list[UUID]:
    """Workers whose heartbeat stopped without a word."""
    gone = and_(workers.c.stopped_at.is_(None), workers.c.heartbeat_at < seconds_from_now(-DEAD_AFTER.total_seconds()))
    return list(session.scalars(select(workers.c.id).where(gone).limit(limit)))


def stopped_with_jobs(session: Session, limit: int) -> list[UUID]:
    """Workers that are gone, of which a job still says that they run it.

    A worker that is killed may have sent a start that the database commits only after its jobs were taken from it.
    """
    running = select(jobs.c.worker_id).where(in_state(State.RUNNING))
    gone = select(workers.c.id).where(workers.c.stopped_at.is_not(None), workers.c.id.in_(running))
    return list(session.scalars(gone.limit(limit)))


def told_to_stop(session: Session, ids: Sequence[UUID]) -> list[UUID]:
    """Those of the workers that were told to stop, whatever became of them then."""
    told = select(workers.c.id).where(workers.c.id.in_(ids), workers.c.draining_at.is_not(None))
    return list(session.scalars(told)) if ids else []


def unstopped(session: Session, limit: int) -> list[UUID]:
    """Workers that never said that they stopped."""
    return list(session.scalars(select(workers.c.id).where(workers.c.stopped_at.is_(None)).limit(limit)))


def list_workers(session: Session, limit: int = 1000, *, before: UUID | None = None) -> list[Worker]:
    """Workers that live, or were alive within the last hour, newest first.

    Their state is one word: `live` takes jobs; `connecting` lives and takes none, since it has not reached its broker,
    or has lost it; `draining` finishes what it has; `silent` stopped beating without a word; `stopped` is gone.
    """
    known = or_(workers.c.stopped_at.is_(None), workers.c.heartbeat_at > seconds_from_now(-3600))
    query = _told().where(known).order_by(workers.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(workers.c.id < before)
    return _workers(session, query)


def live_workers(session: Session) -> list[Worker]:
    """Those that take jobs now, a thousand at most."""
    return _workers(session, _live())


@cache
def _live() -> Select[Any]:
    # Kept, as a dispatcher asks five times a second, and to put it together takes longer than its answer.
    taking = (workers.c.stopped_at.is_(None), _STATE == "live")
    return _told().where(*taking).order_by(workers.c.id.desc()).limit(1000)


def serving(session: Session, queue: str, limit: int = 1000) -> list[Worker]:
    """Workers that have not stopped and that serve the queue, the last heard of first."""
    present = _told().where(workers.c.stopped_at.is_(None)).order_by(workers.c.heartbeat_at.desc()).limit(limit)
    return [one for one in _workers(session, present) if queue in one.queues]


def find_worker(session: Session, worker_id: UUID) -> Worker | None:
    """The worker, if its row is still there."""
    return next(iter(_workers(session, _told().where(workers.c.id == worker_id))), None)


def _told() -> Select[Any]:
    """What is told of workers."""
    c = workers.c
    running = select(func.count()).where(jobs.c.worker_id == c.id, in_state(State.RUNNING))
    long = running.where(jobs.c.started_at < seconds_from_now(-LONG_AFTER.total_seconds()))
    return select(
        c.id,
        c.host,
        c.pid,
        c.queues,
        c.threads,
        running.scalar_subquery().label("busy"),
        long.scalar_subquery().label("long"),
        c.version,
        c.started_at,
        c.heartbeat_at,
        _STATE.label("state"),
        c.parent_pid,
    )


def _workers(session: Session, query: Select[Any]) -> list[Worker]:
    return [Worker(**{**row, "queues": tuple(row["queues"])}) for row in session.execute(query).mappings()]


def capacities(session: Session) -> dict[str, Capacity]:
    """For each queue with a worker that consumes, what its workers could take."""
    totals: dict[str, Capacity] = {}
    for worker in live_workers(session):
        for queue in worker.queues:
            known = totals.get(queue, Capacity(0, 0))
            totals[queue] = Capacity(
                known.threads + worker.threads,
                known.free + max(0, worker.threads - worker.busy),
                known.long + min(worker.threads, worker.long),
            )
    return totals


def known_queues(session: Session) -> set[str]:
    """The queues that any worker served whose row is still here: for a day after it stopped."""
    return {queue for queues in session.scalars(select(workers.c.queues)) for queue in queues}


def any_is_live(session: Session) -> bool:
    """Whether a worker takes jobs."""
    return bool(session.scalar(select(exists().where(_STATE == "live"))))


def forget(session: Session, older_than: timedelta, limit: int) -> int:
    """Delete rows of workers that stopped long ago and run nothing; gives how many."""
    c = workers.c
    running = exists().where(jobs.c.worker_id == c.id, in_state(State.RUNNING))
    old = select(c.id).where(c.stopped_at < seconds_from_now(-older_than.total_seconds()), ~running).limit(limit)
    return session.execute(delete(workers).where(c.id.in_(old))).rowcount  # type: ignore[attr-defined,no-any-return]
