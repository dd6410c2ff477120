"""The named moves: every statement that writes a job's state, one per move.

Each is one statement over a set of jobs, guarded by state and, where a worker or an operator acts on what
it read before, by lease. The rows that come back are those that moved; what is missing was stale. None
commits. The moves themselves are told in `models.states`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    ColumnElement,
    Select,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models.dialect import (
    UtcTime,
    dialect_of,
    document,
    given,
    insert_or_ignore,
    locked,
    looked_up,
    now,
    rows_parameter,
    seconds_from_now,
)
from models.ids import new_id
from models.job import JOB_COLUMNS, Job, NewJob, Ref, as_job, in_state, job_events, jobs, still_in
from models.states import FINAL, LIVE, LOSSES_UNTIL_DEAD, MOVES, Move, State

_c = jobs.c


@dataclass(frozen=True)
class Moved:
    """A job that a move just moved, as it is afterwards."""

    id: UUID
    lease: int
    tenant_id: UUID
    type: str
    queue: str
    state: State
    attempt: int

    @property
    def ref(self) -> Ref:
        """The job under the lease it moved with."""
        return Ref(self.id, self.lease)


@dataclass(frozen=True)
class Started:
    """A job that this worker now runs, with all that its handler needs."""

    id: UUID
    lease: int
    tenant_id: UUID
    type: str
    queue: str
    args: Any
    attempt: int
    max_attempts: int
    timeout_seconds: int
    tags: dict[str, str]
    checkpoint: Any
    request_id: str | None
    traceparent: str | None

    @property
    def ref(self) -> Ref:
        """The job under the lease it was started with."""
        return Ref(self.id, self.lease)


@dataclass(frozen=True)
class Ending:
    """How one run ended: the job, and what its move needs: `result` or `error` (JSON texts), a delay, progress."""

    ref: Ref
    result: str | None = None
    error: str | None = None
    delay_seconds: float = 0
    reason: str | None = None
    percent: float | None = None
    message: str | None = None


_MOVED = (_c.id, _c.lease, _c.tenant_id, _c.type, _c.queue, _c.state, _c.attempt)
_OFF_THE_BROKER: dict[str, Any] = {"dispatched_at": null(), "lease_expires_at": null()}
_OFF_THE_WORKER: dict[str, Any] = {**_OFF_THE_BROKER, "started_at": null(), "worker_id": null()}
_ATTEMPT_GIVEN_BACK = _c.attempt - 1
_TRIES_FOR_KEYS = 5


def record(session: Session, new: Sequence[NewJob]) -> list[Job]:
    """Insert jobs as `queued`; gives those that were, less those whose id or keys were there already."""
    if not new:
        return []  # an INSERT without rows would try one of defaults only
    rows = [{**vars(job), "asked_due_at": job.due_at} for job in new]
    for row in rows:
        del row["due_at"]
    return [as_job(row) for row in session.execute(_record(dialect_of(session)), rows).mappings()]


@cache
def _record(dialect: str) -> Any:
    values = {
        "state": State.QUEUED,
        "attempt": 0,
        "lost": 0,
        "lease": 0,
        "created_at": now(),
        "due_at": func.coalesce(
            bindparam("asked_due_at", type_=UtcTime()), seconds_from_now(bindparam("delay_seconds"))
        ),
    }
    return insert_or_ignore(dialect, jobs).values(values).returning(*JOB_COLUMNS)


def claim(session: Session, queue: str, priority: int, limit: int, expires_after: timedelta) -> list[Moved]:
    """Take up to `limit` due jobs of one queue and priority for delivery, longest due first."""
    parameters = {
        "of_queue": queue,
        "of_priority": priority,
        "most": limit,
        "expiry_seconds": expires_after.total_seconds(),
    }
    return _moved(session, _claim(dialect_of(session)), parameters)


@cache
def _claim(dialect: str) -> Update:
    due = locked(
        select(_c.id)
        .where(
            in_state(State.QUEUED),
            _c.queue == bindparam("of_queue"),
            _c.priority == bindparam("of_priority"),
            _c.due_at <= now(),
        )
        .order_by(_c.due_at, _c.id)
        .limit(bindparam("most")),
        dialect,
    ).cte("due")
    return (
        update(jobs)
        .where(_c.id == due.c.id, looked_up(dialect, _c.id, select(due.c.id)), still_in(State.QUEUED))
        .values(
            state=State.DISPATCHED,
            lease=_c.lease + 1,
            dispatched_at=now(),
            lease_expires_at=seconds_from_now(bindparam("expiry_seconds")),
        )
        .returning(*_MOVED)
    )


def release(session: Session, refs: Sequence[Ref]) -> list[Moved]:
    """Take jobs back from the broker: their message was not confirmed, was lost, or their claim expired.

    No history: while a broker is down this may happen every second, and a metric counts it.
    """
    return _moved(session, _release(dialect_of(session)), _refs(refs))


@cache
def _release(dialect: str) -> Update:
    return _fenced(dialect, Move.RELEASE).values(state=State.QUEUED, **_OFF_THE_BROKER)


def start(session: Session, refs: Sequence[Ref], worker_id: UUID) -> list[Started]:
    """Begin an attempt at each job that is still dispatched under this lease."""
    rows = session.execute(_start(dialect_of(session)), {**_refs(refs), "by_worker": worker_id}).mappings()
    return [Started(**row) for row in rows]


@cache
def _start(dialect: str) -> Update:
    return _fenced(dialect, Move.START, returning=[_c[name] for name in Started.__dataclass_fields__]).values(
        state=State.RUNNING,
        attempt=_c.attempt + 1,
        started_at=now(),
        lease_expires_at=null(),
        worker_id=bindparam("by_worker"),
    )


def succeed(session: Session, endings: Sequence[Ending]) -> list[Moved]:
    """Keep the results of jobs that were done."""
    return _moved(session, _succeed(dialect_of(session)), _endings(endings))


@cache
def _succeed(dialect: str) -> Update:
    rows = given(dialect, id=UUID, lease=int, result=str, percent=float, message=str)
    said = rows.c.percent.is_not(None)
    return _fenced(dialect, Move.SUCCEED, rows).values(
        state=State.SUCCEEDED,
        result=document(rows.c.result, dialect),
        error=null(),
        finished_at=now(),
        progress_percent=case((said, rows.c.percent), else_=_c.progress_percent),
        progress_message=case((said, rows.c.message), else_=_c.progress_message),
    )


def retry(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Put failed attempts back in the queue, due after their delay; not those that are to be cancelled."""
    moved = _moved(session, _retry(dialect_of(session)), _endings(endings))
    return _remember(session, Move.RETRY, moved, actor, endings)


@cache
def _retry(dialect: str) -> Update:
    rows = given(dialect, id=UUID, lease=int, error=str, delay_seconds=float)
    return (
        _fenced(dialect, Move.RETRY, rows)
        .where(_c.cancel_requested_at.is_(None))
        .values(
            state=State.QUEUED,
            error=document(rows.c.error, dialect),
            due_at=seconds_from_now(rows.c.delay_seconds),
            **_OFF_THE_WORKER,
        )
    )


def snooze(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Put jobs back that asked to run later; the attempt is given back."""
    moved = _moved(session, _put_back(dialect_of(session), Move.SNOOZE), _endings(endings))
    return _remember(session, Move.SNOOZE, moved, actor, endings)


def interrupt(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Put jobs back, due now, that a draining worker could not finish; the attempt is given back."""
    moved = _moved(session, _put_back(dialect_of(session), Move.INTERRUPT), _endings(endings))
    return _remember(session, Move.INTERRUPT, moved, actor, endings)


@cache
def _put_back(dialect: str, move: Move) -> Update:
    rows = given(dialect, id=UUID, lease=int, delay_seconds=float)
    return (
        _fenced(dialect, move, rows)
        .where(_c.cancel_requested_at.is_(None))
        .values(
            state=State.QUEUED,
            attempt=_ATTEMPT_GIVEN_BACK,
            due_at=seconds_from_now(rows.c.delay_seconds),
            **_OFF_THE_WORKER,
        )
    )


def bury(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Make dead letters of jobs that failed for good."""
    moved = _moved(session, _bury(dialect_of(session)), _endings(endings))
    return _remember(session, Move.BURY, moved, actor, endings)


@cache
def _bury(dialect: str) -> Update:
    rows = given(dialect, id=UUID, lease=int, error=str)
    return _fenced(dialect, Move.BURY, rows).values(
        state=State.DEAD, error=document(rows.c.error, dialect), finished_at=now()
    )


def rescue(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Take jobs from workers that died. `error` is what a job carries that is dead after too many losses."""
    moved = _moved(session, _rescue(dialect_of(session)), _endings(endings))
    return _remember(session, Move.RESCUE, moved, actor, endings)


@cache
def _rescue(dialect: str) -> Update:
    rows = given(dialect, id=UUID, lease=int, error=str)
    cancelled = _c.cancel_requested_at.is_not(None)
    dead = and_(~cancelled, _c.lost + 1 >= LOSSES_UNTIL_DEAD)
    queued = and_(~cancelled, ~dead)
    return _fenced(dialect, Move.RESCUE, rows).values(
        state=case((cancelled, State.CANCELLED), (dead, State.DEAD), else_=State.QUEUED),
        lost=_c.lost + 1,
        attempt=_ATTEMPT_GIVEN_BACK,
        error=case((dead, document(rows.c.error, dialect)), else_=_c.error),
        finished_at=case((queued, null()), else_=now()),
        dispatched_at=_unless(queued, _c.dispatched_at),
        started_at=_unless(queued, _c.started_at),
        worker_id=_unless(queued, _c.worker_id),
        due_at=case((queued, now()), else_=_c.due_at),
    )


def cancel(session: Session, ids: Sequence[UUID], actor: str) -> list[Moved]:
    """Cancel waiting jobs, and ask running ones to stop; those already asked are left alone."""
    moved = _moved(session, _cancel(dialect_of(session)), rows_parameter([{"id": job_id} for job_id in ids]))
    return _remember(session, Move.CANCEL, moved, actor)


@cache
def _cancel(dialect: str) -> Update:
    rows = given(dialect, id=UUID)
    running = _c.state == State.RUNNING
    return (
        update(jobs)
        .where(_c.id == rows.c.id, looked_up(dialect, _c.id, _asked(dialect)))
        .where(_from(Move.CANCEL), _c.cancel_requested_at.is_(None))
        .values(
            state=case((running, State.RUNNING), else_=State.CANCELLED),
            cancel_requested_at=now(),
            finished_at=case((running, null()), else_=now()),
            lease_expires_at=null(),
        )
        .returning(*_MOVED)
    )


def stop(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Cancel running jobs whose cancellation was asked for and whose handler has let go."""
    moved = _moved(session, _stop(dialect_of(session)), _endings(endings))
    return _remember(session, Move.STOP, moved, actor, endings)


@cache
def _stop(dialect: str) -> Update:
    return (
        _fenced(dialect, Move.STOP)
        .where(_c.cancel_requested_at.is_not(None))
        .values(state=State.CANCELLED, finished_at=now())
    )


def redrive(session: Session, refs: Sequence[Ref], actor: str, reason: str | None = None) -> list[Moved]:
    """Queue dead jobs again with fresh attempts; not one whose unique key another job holds meanwhile."""
    moved = _redriven(session, refs)
    return _remember(session, Move.REDRIVE, moved, actor, [Ending(ref, reason=reason) for ref in refs])


def _redriven(session: Session, refs: Sequence[Ref]) -> list[Moved]:
    # A key that another transaction takes while the statement runs is seen by the unique index only, which
    # refuses the whole set. The next try sees its holder, and leaves that one job dead.
    for _ in range(_TRIES_FOR_KEYS - 1):
        try:
            with session.begin_nested():
                return _moved(session, _redrive(dialect_of(session)), _refs(refs))
        except IntegrityError:
            continue
    return _moved(session, _redrive(dialect_of(session)), _refs(refs))


@cache
def _redrive(dialect: str) -> Update:
    asked, dead, other = given(dialect, id=UUID, lease=int), jobs.alias("dead"), jobs.alias("other")
    # Of several dead jobs in one set that share a key, the oldest goes; the others stay dead.
    place = func.row_number().over(partition_by=(dead.c.tenant_id, dead.c.type, dead.c.unique_key), order_by=dead.c.id)
    rows = (
        select(dead.c.id, dead.c.lease, place.label("place"))
        .where(dead.c.id == asked.c.id, dead.c.lease == asked.c.lease, in_state(State.DEAD, of=dead))
        .subquery("placed")
    )
    held = exists().where(
        other.c.tenant_id == _c.tenant_id,
        other.c.type == _c.type,
        other.c.unique_key == _c.unique_key,
        in_state(*LIVE, of=other),
    )
    return (
        _fenced(dialect, Move.REDRIVE, rows)
        .where(or_(_c.unique_key.is_(None), and_(rows.c.place == 1, ~held)))
        .values(
            state=State.QUEUED,
            attempt=0,
            lost=0,
            due_at=now(),
            finished_at=null(),
            cancel_requested_at=null(),
            progress_percent=null(),
            progress_message=null(),
            **_OFF_THE_WORKER,
        )
    )


def discard(session: Session, refs: Sequence[Ref], actor: str, reason: str | None = None) -> list[Moved]:
    """Give dead jobs up for good."""
    moved = _moved(session, _discard(dialect_of(session)), _refs(refs))
    return _remember(session, Move.DISCARD, moved, actor, [Ending(ref, reason=reason) for ref in refs])


@cache
def _discard(dialect: str) -> Update:
    return _fenced(dialect, Move.DISCARD).values(state=State.DISCARDED, finished_at=now())


def prune(session: Session, state: State, older_than: timedelta, limit: int) -> int:
    """Delete up to `limit` jobs that reached a final state that long ago, oldest first; gives how many."""
    if state not in FINAL:
        raise ValueError(f"only final jobs are pruned, not {state}")
    old = (
        select(_c.id)
        .where(
            in_state(state),
            _c.finished_at < seconds_from_now(-older_than.total_seconds()),
        )
        .order_by(_c.finished_at)
        # Written out as well: a plan for any limit at all would rather read the whole table.
        .limit(literal(limit, literal_execute=True))
    )
    return len(session.scalars(delete(jobs).where(_c.id.in_(old), _from(Move.PRUNE)).returning(_c.id)).all())


def _fenced(dialect: str, move: Move, rows: Any = None, returning: Any = _MOVED) -> Update:
    rows = given(dialect, id=UUID, lease=int) if rows is None else rows
    return (
        update(jobs)
        .where(_c.id == rows.c.id, looked_up(dialect, _c.id, _asked(dialect)), _c.lease == rows.c.lease, _from(move))
        .returning(*returning)
    )


def _asked(dialect: str) -> Select[Any]:
    return select(given(dialect, "asked", id=UUID).c.id)


def _from(move: Move) -> ColumnElement[bool]:
    return still_in(*MOVES[move].sources)


def _unless(condition: ColumnElement[bool], value: Any) -> Any:
    return case((condition, null()), else_=value)


def _refs(refs: Sequence[Ref]) -> dict[str, str]:
    return rows_parameter([{"id": job_id, "lease": lease} for job_id, lease in refs])


def _endings(endings: Sequence[Ending]) -> dict[str, str]:
    return rows_parameter(
        [
            {
                "id": ending.ref.id,
                "lease": ending.ref.lease,
                "result": ending.result,
                "error": ending.error,
                "delay_seconds": ending.delay_seconds,
                "percent": ending.percent,
                "message": ending.message,
            }
            for ending in endings
        ]
    )


def _moved(session: Session, statement: Update, parameters: Mapping[str, Any]) -> list[Moved]:
    rows = session.execute(statement, parameters).mappings()
    return [Moved(**{**row, "state": State(row["state"])}) for row in rows]


def _remember(
    session: Session, move: Move, moved: list[Moved], actor: str, endings: Sequence[Ending] = ()
) -> list[Moved]:
    """Write the history of a move off the straight path."""
    told = {ending.ref.id: ending for ending in endings}
    events = []
    for job in moved:
        ending = told.get(job.id)
        events.append(
            {
                "id": new_id(),
                "job_id": job.id,
                "tenant_id": job.tenant_id,
                "move": move,
                "state": job.state,
                "attempt": job.attempt,
                "lease": job.lease,
                "actor": actor,
                "reason": ending.reason if ending else None,
                "error": _loaded(ending.error) if ending else None,
            }
        )
    if events:
        session.execute(insert(job_events).values(at=now()), events)
    return moved


def _loaded(text: str | None) -> Any:
    return orjson.loads(text) if text else None
