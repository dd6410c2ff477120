"""The moves on the way to a worker: record, claim, release, start."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Float,
    Select,
    Update,
    bindparam,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from models.dialect import (
    SQLITE,
    UtcTime,
    among,
    dialect_of,
    first_of_each,
    given,
    insert_new_or_ignore,
    locked,
    new_rows,
    new_rows_parameters,
    now,
    rows_parameter,
    seconds_from_now,
)
from models.job import GATED_QUEUE, SHARE, Job, NewJob, Ref, in_state, jobs, still_in
from models.lineup import waits, waits_in
from models.moves.frame import MOVED, OFF_THE_BROKER, Moved, Started, fenced, make, moved, refs_rows
from models.queue import paused_names, unrestrained
from models.states import LOSSES_UNTIL_ALONE, Move, State

_c = jobs.c

_TOLD = Job.__dataclass_fields__.keys() & NewJob.__dataclass_fields__.keys()
_BEGINNING: dict[str, Any] = {
    **dict.fromkeys(Job.__dataclass_fields__),
    "state": State.QUEUED,
    "attempt": 0,
    "lost": 0,
    "lease": 0,
}
"""What a job has before its first move, less its times and what it was submitted with."""
_WRITTEN = [name for name in NewJob.__dataclass_fields__ if name != "due_at"]
_PLAIN = [name for name in _WRITTEN if name != "delay_seconds"]


def record(session: Session, new: Sequence[NewJob]) -> list[Job]:
    """Insert jobs as `queued`; gives those that were, less those whose id or keys were there already."""
    if not new:
        return []  # an INSERT without rows would try one of defaults only
    dialect = dialect_of(session)
    parameters = new_rows_parameters(dialect, [_row(job) for job in new])
    given = {job.id: job for job in reversed(new)}  # of two with one id the first is inserted
    # Past the session, which has nothing to add to a statement over a table and takes its time for that.
    recorded = session.connection().execute(_record(dialect), parameters)
    return [_queued(given[job_id], created_at, due_at) for job_id, created_at, due_at in recorded.all()]


def _row(new: NewJob) -> dict[str, Any]:
    told = vars(new)
    return {**{name: told[name] for name in _WRITTEN}, "asked_due_at": told["due_at"]}


def _queued(new: NewJob, created_at: datetime, due_at: datetime) -> Job:
    """A job as it was just inserted; reading back the two dozen columns that we wrote was part of the cost."""
    told = {name: value for name, value in vars(new).items() if name in _TOLD}
    return Job(**{**_BEGINNING, **told, "created_at": created_at, "due_at": due_at})


@cache
def _record(dialect: str) -> Any:
    plain, made_of = new_rows(dialect, jobs, _PLAIN, asked_due_at=UtcTime(), delay_seconds=Float(53))
    values = {
        **plain,
        **{name: value for name, value in _BEGINNING.items() if value is not None},
        "created_at": now(),
        "due_at": func.coalesce(made_of["asked_due_at"], seconds_from_now(made_of["delay_seconds"])),
    }
    return insert_new_or_ignore(dialect, jobs, values).returning(_c.id, _c.created_at, _c.due_at)


def claim(
    session: Session, queue: str, priority: int, limit: int, expires_after: timedelta, *, counted: bool = False
) -> list[Moved]:
    """Take up to `limit` due jobs of one queue and priority for delivery, longest due first.

    Of a queue that is paused or limited by then only if that was `counted`, while the queue was held.
    """
    parameters = {
        "counted": counted,
        "of_queue": queue,
        "of_priority": priority,
        "most": limit,
        "expiry_seconds": expires_after.total_seconds(),
    }
    return _in_order(session, _claim(dialect_of(session)), parameters)


@cache
def _claim(dialect: str) -> Update:
    return _dispatched(locked(_due(in_state(State.QUEUED)).limit(bindparam("most")), dialect), dialect)


def _due(*condition: ColumnElement[bool]) -> Select[Any]:
    """The due ones of those jobs, of a queue and priority, longest due first."""
    of_lane = (_c.queue == bindparam("of_queue"), _c.priority == bindparam("of_priority"))
    allowed = or_(bindparam("counted", type_=Boolean()), unrestrained(bindparam("of_queue")))
    return select(_c.id).where(*condition, *of_lane, allowed, _c.due_at <= now()).order_by(_c.due_at, _c.id)


def _dispatched(chosen: Select[Any], dialect: str) -> Update:
    due = chosen.cte("due")
    return (
        update(jobs)
        .where(among(dialect, _c.id, select(due.c.id)), still_in(State.QUEUED))
        .values(
            state=State.DISPATCHED,
            lease=_c.lease + 1,
            dispatched_at=now(),
            lease_expires_at=seconds_from_now(bindparam("expiry_seconds")),
        )
        .returning(_c.due_at, *MOVED)
    )


def _in_order(session: Session, statement: Update, parameters: Mapping[str, Any]) -> list[Moved]:
    """Make a claim; gives the jobs that were claimed, longest due first, as they are to start."""
    rows = sorted(session.execute(statement, parameters).all(), key=lambda row: row[:2])
    return [moved(*row[1:]) for row in rows]


def claim_shares(
    session: Session,
    queue: str,
    priority: int,
    shares: Mapping[UUID, int],
    expires_after: timedelta,
    *,
    counted: bool = False,
) -> list[Moved]:
    """Take up to so many due jobs of each share, each one's longest due first; else as `claim`."""
    parameters = {
        "counted": counted,
        "of_queue": queue,
        "of_priority": priority,
        "expiry_seconds": expires_after.total_seconds(),
        **rows_parameter([{"share_id": share_id, "most": most} for share_id, most in shares.items()]),
    }
    if dialect_of(session) == SQLITE:
        parameters["most_of_any"] = max(shares.values())
    return _in_order(session, _claim_shares(dialect_of(session), gated=queue == GATED_QUEUE), parameters)


@cache
def _claim_shares(dialect: str, *, gated: bool) -> Update:
    rows = given(dialect, "shares", share_id=UUID, most=int)
    # The gated queue by its name, and not as a parameter: its index is found by no other way.
    waiting, share = (waits_in(GATED_QUEUE), SHARE) if gated else (waits(), _c.tenant_id)
    of_one = _due(waiting, share == rows.c.share_id)
    return _dispatched(first_of_each(dialect, rows, of_one, rows.c.most), dialect)


def release(session: Session, refs: Sequence[Ref]) -> list[Moved]:
    """Take jobs back from the broker: their message was not confirmed, was lost, or their claim expired.

    No history: while a broker is down this may happen every second, and a metric counts it.
    """
    return make(session, _release(dialect_of(session)), refs_rows(refs))


@cache
def _release(dialect: str) -> Update:
    return fenced(dialect, Move.RELEASE).values(state=State.QUEUED, **OFF_THE_BROKER)


def release_from(session: Session, queue: str, limit: int) -> list[Moved]:
    """Take back from the broker up to `limit` jobs of a queue that none has begun, those first that came last.

    Their messages are stale from then on: whoever gets one finds its job not dispatched, or under a later lease.
    """
    return make(session, _release_from(dialect_of(session)), {"of_queue": queue, "most": limit})


@cache
def _release_from(dialect: str) -> Update:
    on_broker = select(_c.id).where(in_state(State.DISPATCHED), _c.queue == bindparam("of_queue"))
    newest = on_broker.order_by(_c.dispatched_at.desc()).limit(bindparam("most"))
    back = locked(newest, dialect).cte("back")
    return (
        update(jobs)
        .where(among(dialect, _c.id, select(back.c.id)), still_in(State.DISPATCHED))
        .values(state=State.QUEUED, **OFF_THE_BROKER)
        .returning(*MOVED)
    )


def start(session: Session, refs: Sequence[Ref], worker_id: UUID, *, alone: bool = False) -> list[Started]:
    """Begin an attempt at each job that is still dispatched under this lease, and whose queue is not paused.

    One more loss would bury some of them: these begin only for a worker that says it runs nothing beside them.
    """
    statement = _start(dialect_of(session), alone=alone)
    return [Started(*row) for row in session.execute(statement, {**refs_rows(refs), "by_worker": worker_id}).all()]


@cache
def _start(dialect: str, *, alone: bool) -> Update:
    started = fenced(dialect, Move.START, returning=[_c[name] for name in Started._fields])
    started = started.where(_c.queue.not_in(paused_names))
    return (started if alone else started.where(_c.lost < LOSSES_UNTIL_ALONE)).values(
        state=State.RUNNING,
        attempt=_c.attempt + 1,
        started_at=now(),
        lease_expires_at=null(),
        worker_id=bindparam("by_worker"),
    )
