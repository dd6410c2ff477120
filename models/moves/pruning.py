"""The last move of all: final jobs that have been kept long enough are deleted, letters once they are written down."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from uuid import UUID

from sqlalchemy import Delete, delete, exists, literal, select
from sqlalchemy.orm import Session

from models import letters
from models.crashpoints import crashpoint
from models.dialect import among, dialect_of, given, seconds_from_now
from models.job import Ref, in_state, jobs
from models.letters import Letter
from models.moves.frame import asked, in_source_of, refs_rows
from models.states import FINAL, Move, State

_c = jobs.c


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
    return _gone(session, delete(jobs).where(_c.id.in_(old), in_source_of(Move.PRUNE)))


def prune_letters(session: Session, written: Sequence[Letter]) -> int:
    """Delete those letters that are still as they were written down; gives how many.

    They are held first, and compared: an edit changes a letter and leaves its lease. What differs goes another time.
    """
    now = {letter.job.id: letter for letter in letters.held(session, [letter.job.id for letter in written])}
    same = [Ref(letter.job.id, letter.job.lease) for letter in written if now.get(letter.job.id) == letter]
    return _gone(session, _prune_refs(dialect_of(session)), refs_rows(same))


@cache
def _prune_refs(dialect: str) -> Delete:
    rows = given(dialect, id=UUID, lease=int)
    under_lease = exists().where(rows.c.id == _c.id, rows.c.lease == _c.lease)
    by_id = among(dialect, _c.id, asked(dialect))
    return delete(jobs).where(by_id, under_lease, in_source_of(Move.PRUNE))


def _gone(session: Session, statement: Delete, parameters: Mapping[str, str] | None = None) -> int:
    pruned = session.scalars(statement.returning(_c.id), parameters).all()
    crashpoint("prune.before_commit")
    return len(pruned)
