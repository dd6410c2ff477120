"""What every move is made of: the records it gives and takes, the set, the guard, and the history."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import (
    ColumnElement,
    Select,
    Update,
    case,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.orm import Session

from models.dialect import (
    given,
    looked_up,
    now,
    rows_parameter,
)
from models.fingerprint import error_type, fingerprint
from models.ids import new_id
from models.job import GATED_QUEUE, Ref, job_events, jobs, still_in
from models.states import MOVES, Move, State

_c = jobs.c


class Moved(NamedTuple):
    """A job that a move just moved, as it is afterwards.

    A tuple, as Started and Ending are: each job makes several, and a frozen dataclass takes several times as long.
    """

    id: UUID
    lease: int
    tenant_id: UUID
    type: str
    queue: str
    state: State
    attempt: int
    lost: int
    gate_id: UUID | None = None
    told: bool = False
    """Whether somebody is to be told of it: a delivery was recorded with the move."""

    @property
    def ref(self) -> Ref:
        """The job under the lease it moved with."""
        return Ref(self.id, self.lease)

    @property
    def share_id(self) -> UUID:
        """Whose turn it took, as `models.lineup` has it."""
        return self.gate_id if self.gate_id is not None and self.queue == GATED_QUEUE else self.tenant_id


class Started(NamedTuple):
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
    tracestate: str | None

    @property
    def ref(self) -> Ref:
        """The job under the lease it was started with."""
        return Ref(self.id, self.lease)


class Ending(NamedTuple):
    """How one run ended: the job, and what its move needs: `result` or `error` (JSON texts), a delay, progress."""

    ref: Ref
    result: str | None = None
    error: str | None = None
    delay_seconds: float = 0
    reason: str | None = None
    percent: float | None = None
    message: str | None = None


MOVED = (_c.id, _c.lease, _c.tenant_id, _c.type, _c.queue, _c.state, _c.attempt, _c.lost, _c.gate_id)
OFF_THE_BROKER: dict[str, Any] = {"dispatched_at": null(), "lease_expires_at": null()}
OFF_THE_WORKER: dict[str, Any] = {**OFF_THE_BROKER, "started_at": null(), "worker_id": null()}
REF = (_c.id, _c.lease)
ATTEMPT_GIVEN_BACK = _c.attempt - 1


GIVE_BACK = {Move.SNOOZE, Move.INTERRUPT, Move.RESCUE}
"""Moves after which the attempt does not count."""


def fenced(dialect: str, move: Move, rows: Any = None, returning: Any = MOVED) -> Update:
    """The UPDATE of a fenced move: only jobs that are under the given lease, and where the move may begin."""
    rows = given(dialect, id=UUID, lease=int) if rows is None else rows
    return (
        update(jobs)
        .where(
            _c.id == rows.c.id, looked_up(dialect, _c.id, asked(dialect)), _c.lease == rows.c.lease, in_source_of(move)
        )
        .returning(*returning)
    )


def asked(dialect: str) -> Select[Any]:
    """The ids of the set, as `looked_up` takes them."""
    return select(given(dialect, "asked", id=UUID).c.id)


def in_source_of(move: Move) -> ColumnElement[bool]:
    """Whether a job is where the move may begin."""
    return still_in(*MOVES[move].sources)


def unless(condition: ColumnElement[bool], value: Any) -> Any:
    """The value, or NULL where the condition holds."""
    return case((condition, null()), else_=value)


def refs_rows(refs: Sequence[Ref]) -> dict[str, str]:
    """The set as the parameter of a statement over refs."""
    return rows_parameter([{"id": job_id, "lease": lease} for job_id, lease in refs])


def ending_rows(endings: Sequence[Ending]) -> dict[str, str]:
    """The set as the parameter of a statement over endings."""
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


def dying_rows(endings: Sequence[Ending]) -> dict[str, str]:
    """The set as the parameter of a statement by which jobs may die: their errors, and what those are found by."""
    errors = [(ending, _loaded(ending.error)) for ending in endings]
    return rows_parameter(
        [
            {
                "id": ending.ref.id,
                "lease": ending.ref.lease,
                "error": ending.error,
                "error_type": error_type(error),
                "fingerprint": fingerprint(error),
            }
            for ending, error in errors
        ]
    )


def make(session: Session, statement: Update, parameters: Mapping[str, Any]) -> list[Moved]:
    """Make the move; gives the jobs that moved."""
    return [moved(*row) for row in session.execute(statement, parameters).all()]


def moved(job_id: UUID, lease: int, tenant_id: UUID, *rest: Any) -> Moved:
    """The job of a row, whose columns are those of MOVED."""
    job_type, queue, state, *counts = rest
    return Moved(job_id, lease, tenant_id, job_type, queue, State(state), *counts)


def remember(
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
                # The attempt that this is about, also when the move has given it back.
                "attempt": job.attempt + (move in GIVE_BACK),
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
