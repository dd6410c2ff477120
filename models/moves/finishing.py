"""The moves that end an attempt, each fenced by its lease: by its worker, or for a worker that died."""

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    FromClause,
    Update,
    and_,
    case,
    func,
    null,
)
from sqlalchemy.orm import Session

from models.crashpoints import crashpoint
from models.dialect import (
    dialect_of,
    document,
    given,
    now,
    seconds_from_now,
)
from models.job import Ref, jobs
from models.moves.frame import (
    ATTEMPT_GIVEN_BACK,
    MOVED,
    OFF_THE_WORKER,
    REF,
    Ending,
    Moved,
    dying_rows,
    ending_rows,
    fenced,
    make,
    remember,
    unless,
)
from models.moves.telling import EVENTS, heard, tell
from models.states import LOSSES_UNTIL_DEAD, Move, State

_c = jobs.c


def succeed(session: Session, endings: Sequence[Ending]) -> list[Moved]:
    """Keep the results of jobs that were done, and tell whoever listens."""
    return tell(session, make(session, _succeed(dialect_of(session)), ending_rows(endings)))


def succeed_unheard(session: Session, endings: Sequence[Ending]) -> list[Ref]:
    """The same of those jobs only of whose end nobody is told: one statement, which may be a transaction of its own.

    Most jobs end by this one, so it gives no more of them than their refs.
    """
    moved = session.execute(_succeed_unheard(dialect_of(session)), ending_rows(endings))
    return [Ref(*row) for row in moved.all()]


@cache
def _succeed_unheard(dialect: str) -> Update:
    return _succeed(dialect, REF).where(~heard(EVENTS[State.SUCCEEDED]))


@cache
def _succeed(dialect: str, returning: Any = MOVED) -> Update:
    rows = given(dialect, id=UUID, lease=int, result=str, percent=float, message=str)
    said = rows.c.percent.is_not(None)
    return fenced(dialect, Move.SUCCEED, rows, returning).values(
        state=State.SUCCEEDED,
        result=document(rows.c.result, dialect),
        error=null(),
        finished_at=now(),
        progress_percent=case((said, rows.c.percent), else_=_c.progress_percent),
        progress_message=case((said, rows.c.message), else_=_c.progress_message),
    )


def retry(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Put failed attempts back in the queue, due after their delay; not those that are to be cancelled."""
    moved = make(session, _retry(dialect_of(session)), ending_rows(endings))
    crashpoint("retry.before_commit")
    return remember(session, Move.RETRY, moved, actor, endings)


@cache
def _retry(dialect: str) -> Update:
    rows = given(dialect, id=UUID, lease=int, error=str, delay_seconds=float)
    return (
        fenced(dialect, Move.RETRY, rows)
        .where(_c.cancel_requested_at.is_(None))
        .values(
            state=State.QUEUED,
            error=document(rows.c.error, dialect),
            due_at=seconds_from_now(rows.c.delay_seconds),
            **OFF_THE_WORKER,
        )
    )


def snooze(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Put jobs back that asked to run later; the attempt is given back."""
    moved = make(session, _snooze(dialect_of(session)), ending_rows(endings))
    return remember(session, Move.SNOOZE, moved, actor, endings)


@cache
def _snooze(dialect: str) -> Update:
    rows = given(dialect, id=UUID, lease=int, delay_seconds=float)
    return _given_back(fenced(dialect, Move.SNOOZE, rows)).values(due_at=seconds_from_now(rows.c.delay_seconds))


def interrupt(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Put jobs back in their place, and give their attempts back: of a worker that stops, say."""
    moved = make(session, _interrupt(dialect_of(session)), ending_rows(endings))
    return remember(session, Move.INTERRUPT, moved, actor, endings)


@cache
def _interrupt(dialect: str) -> Update:
    return _given_back(fenced(dialect, Move.INTERRUPT))


def _given_back(update: Update) -> Update:
    """Back in the queue as if it had not begun; not those that are to be cancelled."""
    return update.where(_c.cancel_requested_at.is_(None)).values(
        state=State.QUEUED, attempt=ATTEMPT_GIVEN_BACK, **OFF_THE_WORKER
    )


def bury(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Make dead letters of jobs that failed for good."""
    moved = tell(session, make(session, _bury(dialect_of(session)), dying_rows(endings)))
    crashpoint("bury.before_commit")
    return remember(session, Move.BURY, moved, actor, endings)


@cache
def _bury(dialect: str) -> Update:
    rows = _dying(dialect)
    return fenced(dialect, Move.BURY, rows).values(
        state=State.DEAD,
        error=document(rows.c.error, dialect),
        error_type=rows.c.error_type,
        fingerprint=rows.c.fingerprint,
        finished_at=now(),
    )


def _dying(dialect: str) -> FromClause:
    return given(dialect, id=UUID, lease=int, error=str, error_type=str, fingerprint=str)


def stop(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Cancel running jobs whose cancellation was asked for and whose handler has let go."""
    moved = tell(session, make(session, _stop(dialect_of(session)), ending_rows(endings)))
    return remember(session, Move.STOP, moved, actor, endings)


@cache
def _stop(dialect: str) -> Update:
    return (
        fenced(dialect, Move.STOP)
        .where(_c.cancel_requested_at.is_not(None))
        .values(state=State.CANCELLED, finished_at=now())
    )


def rescue(session: Session, endings: Sequence[Ending], actor: str) -> list[Moved]:
    """Take jobs from workers that died; `error` tells of what, and stays with the job until it succeeds.

    They keep their `due_at` and by it their place: due now, they would wait behind all that came in meanwhile. One that
    kills each worker stands at the head of the line as often as LOSSES_UNTIL_DEAD lets it, and no more.
    """
    moved = tell(session, make(session, _rescue(dialect_of(session)), dying_rows(endings)))
    crashpoint("rescue.before_commit")
    return remember(session, Move.RESCUE, moved, actor, endings)


@cache
def _rescue(dialect: str) -> Update:
    rows = _dying(dialect)
    cancelled = _c.cancel_requested_at.is_not(None)
    dead = and_(~cancelled, _c.lost + 1 >= LOSSES_UNTIL_DEAD)
    queued = and_(~cancelled, ~dead)
    return fenced(dialect, Move.RESCUE, rows).values(
        state=case((cancelled, State.CANCELLED), (dead, State.DEAD), else_=State.QUEUED),
        lost=_c.lost + 1,
        attempt=ATTEMPT_GIVEN_BACK,
        error=case((cancelled, _c.error), else_=func.coalesce(document(rows.c.error, dialect), _c.error)),
        error_type=case((dead, rows.c.error_type), else_=_c.error_type),
        fingerprint=case((dead, rows.c.fingerprint), else_=_c.fingerprint),
        finished_at=case((queued, null()), else_=now()),
        dispatched_at=unless(queued, _c.dispatched_at),
        started_at=unless(queued, _c.started_at),
        worker_id=unless(queued, _c.worker_id),
    )
