"""The moves that people make, and the last one of all: run now, cancel, edit, redrive, discard, prune."""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from uuid import UUID

from sqlalchemy import (
    Text,
    Update,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models.crashpoints import crashpoint
from models.dialect import (
    dialect_of,
    document,
    given,
    looked_up,
    now,
    rows_parameter,
    seconds_from_now,
)
from models.job import Ref, in_state, jobs
from models.moves.frame import (
    MOVED,
    OFF_THE_WORKER,
    Ending,
    Moved,
    asked,
    fenced,
    in_source_of,
    make,
    refs_rows,
    remember,
)
from models.states import FINAL, LIVE, Move, State

_c = jobs.c
_TRIES_FOR_KEYS = 5


def run_now(session: Session, ids: Sequence[UUID], actor: str) -> list[Moved]:
    """Make jobs due that wait for a later time; those that are due already keep their place in the queue."""
    moved = make(session, _run_now(dialect_of(session)), rows_parameter([{"id": job_id} for job_id in ids]))
    return remember(session, Move.RUN_NOW, moved, actor)


@cache
def _run_now(dialect: str) -> Update:
    rows = given(dialect, id=UUID)
    return (
        update(jobs)
        .where(_c.id == rows.c.id, looked_up(dialect, _c.id, asked(dialect)))
        .where(in_source_of(Move.RUN_NOW), _c.due_at > now())
        .values(due_at=now())
        .returning(*MOVED)
    )


def cancel(session: Session, ids: Sequence[UUID], actor: str) -> list[Moved]:
    """Cancel waiting jobs, and ask running ones to stop; those already asked are left alone."""
    moved = make(session, _cancel(dialect_of(session)), rows_parameter([{"id": job_id} for job_id in ids]))
    return remember(session, Move.CANCEL, moved, actor)


@cache
def _cancel(dialect: str) -> Update:
    rows = given(dialect, id=UUID)
    running = _c.state == State.RUNNING
    return (
        update(jobs)
        .where(_c.id == rows.c.id, looked_up(dialect, _c.id, asked(dialect)))
        .where(in_source_of(Move.CANCEL), _c.cancel_requested_at.is_(None))
        .values(
            state=case((running, State.RUNNING), else_=State.CANCELLED),
            cancel_requested_at=now(),
            finished_at=case((running, null()), else_=now()),
            lease_expires_at=null(),
        )
        .returning(*MOVED)
    )


def edit(session: Session, ref: Ref, before: str, args: str, actor: str, reason: str) -> list[Moved]:
    """Give a dead job other arguments, unless they are not `before` any more; both JSON texts, that one as it is kept.

    What a handler saved of its work on the old ones goes with them.
    """
    rows = rows_parameter([{"id": ref.id, "lease": ref.lease, "before": before, "args": args}])
    return remember(
        session, Move.EDIT, make(session, _edit(dialect_of(session)), rows), actor, [Ending(ref, reason=reason)]
    )


@cache
def _edit(dialect: str) -> Update:
    rows = given(dialect, id=UUID, lease=int, before=str, args=str)
    edited = fenced(dialect, Move.EDIT, rows).where(cast(_c.args, Text) == rows.c.before)
    return edited.values(args=document(rows.c.args, dialect), checkpoint=null())


def redrive(session: Session, refs: Sequence[Ref], actor: str, reason: str | None = None) -> list[Moved]:
    """Queue dead jobs again with fresh attempts; not one whose unique key another job holds meanwhile."""
    moved = _redriven(session, refs)
    return remember(session, Move.REDRIVE, moved, actor, [Ending(ref, reason=reason) for ref in refs])


def _redriven(session: Session, refs: Sequence[Ref]) -> list[Moved]:
    # A key that another transaction takes while the statement runs is seen by the unique index only, which
    # refuses the whole set. The next try sees its holder, and leaves that one job dead.
    for _ in range(_TRIES_FOR_KEYS - 1):
        try:
            with session.begin_nested():
                return make(session, _redrive(dialect_of(session)), refs_rows(refs))
        except IntegrityError:
            continue
    return make(session, _redrive(dialect_of(session)), refs_rows(refs))


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
        fenced(dialect, Move.REDRIVE, rows)
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
            **OFF_THE_WORKER,
        )
    )


def discard(session: Session, refs: Sequence[Ref], actor: str, reason: str | None = None) -> list[Moved]:
    """Give dead jobs up for good."""
    moved = make(session, _discard(dialect_of(session)), refs_rows(refs))
    return remember(session, Move.DISCARD, moved, actor, [Ending(ref, reason=reason) for ref in refs])


@cache
def _discard(dialect: str) -> Update:
    return fenced(dialect, Move.DISCARD).values(state=State.DISCARDED, finished_at=now())


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
    pruned = session.scalars(delete(jobs).where(_c.id.in_(old), in_source_of(Move.PRUNE)).returning(_c.id)).all()
    crashpoint("prune.before_commit")
    return len(pruned)
