"""The moves that people make: run now, cancel, edit, redrive, discard."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    SmallInteger,
    Text,
    Update,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models.dialect import (
    dialect_of,
    document,
    given,
    looked_up,
    now,
    rows_parameter,
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
from models.moves.telling import tell
from models.states import LIVE, Move, State

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
    moved = tell(
        session, make(session, _cancel(dialect_of(session)), rows_parameter([{"id": job_id} for job_id in ids]))
    )
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


def redrive(
    session: Session, refs: Sequence[Ref], actor: str, reason: str | None = None, *, priority: int | None = None
) -> list[Moved]:
    """Queue dead jobs again with fresh attempts; not one whose unique key another job holds meanwhile.

    Without a `priority` each keeps its own.
    """
    moved = _redriven(session, {**refs_rows(refs), "other_priority": priority})
    return remember(session, Move.REDRIVE, moved, actor, [Ending(ref, reason=reason) for ref in refs])


def _redriven(session: Session, parameters: Mapping[str, Any]) -> list[Moved]:
    # A key that another transaction takes while the statement runs is seen by the unique index only, which
    # refuses the whole set. The next try sees its holder, and leaves that one job dead.
    for _ in range(_TRIES_FOR_KEYS - 1):
        try:
            with session.begin_nested():
                return make(session, _redrive(dialect_of(session)), parameters)
        except IntegrityError:
            continue
    return make(session, _redrive(dialect_of(session)), parameters)


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
            priority=func.coalesce(bindparam("other_priority", type_=SmallInteger()), _c.priority),
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
    moved = tell(session, make(session, _discard(dialect_of(session)), refs_rows(refs)))
    return remember(session, Move.DISCARD, moved, actor, [Ending(ref, reason=reason) for ref in refs])


@cache
def _discard(dialect: str) -> Update:
    return fenced(dialect, Move.DISCARD).values(state=State.DISCARDED, finished_at=now())
