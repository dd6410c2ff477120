"""Every move from every state, under the right and the wrong lease, on both databases, generated from MOVES."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import moves
from models.ids import new_id
from models.job import Ref, jobs
from models.moves import Ending
from models.states import FINAL, LIVE, LOSSES_UNTIL_DEAD, MOVES, Move, State
from tests.factories import LEASE, ago, history_of, job_in, new_job, row_of

WORKER = new_id()
ACTOR = "tester"
REASON = "because"
ERROR = {"type": "Boom", "message": "it broke"}
ERROR_TEXT = '{"type": "Boom", "message": "it broke"}'
QUEUE = "matrix"
ARGS_TEXT = '{"value":1}'
"""The factories' arguments as the databases keep them."""

Maker = Callable[[Session, Sequence[Ref]], Sequence[Any]]


def _endings(refs: Sequence[Ref], **told: Any) -> list[Ending]:
    return [Ending(ref, reason=REASON, **told) for ref in refs]


def _failed(refs: Sequence[Ref]) -> list[Ending]:
    return _endings(refs, error=ERROR_TEXT)


FENCED: dict[Move, Maker] = {
    Move.RELEASE: moves.release,
    Move.START: lambda session, refs: moves.start(session, refs, WORKER),
    Move.SUCCEED: lambda session, refs: moves.succeed(session, _endings(refs, result='{"rows": 1}')),
    Move.RETRY: lambda session, refs: moves.retry(session, _failed(refs), ACTOR),
    Move.SNOOZE: lambda session, refs: moves.snooze(session, _endings(refs, delay_seconds=60), ACTOR),
    Move.INTERRUPT: lambda session, refs: moves.interrupt(session, _endings(refs), ACTOR),
    Move.BURY: lambda session, refs: moves.bury(session, _failed(refs), ACTOR),
    Move.RESCUE: lambda session, refs: moves.rescue(session, _failed(refs), ACTOR),
    Move.STOP: lambda session, refs: moves.stop(session, _endings(refs), ACTOR),
    Move.EDIT: lambda session, refs: [
        job for ref in refs for job in moves.edit(session, ref, ARGS_TEXT, '{"value":3}', ACTOR, REASON)
    ],
    Move.REDRIVE: lambda session, refs: moves.redrive(session, refs, ACTOR, REASON),
    Move.DISCARD: lambda session, refs: moves.discard(session, refs, ACTOR, REASON),
}


def _record_again(session: Session, refs: Sequence[Ref]) -> Sequence[Any]:
    return moves.record(session, [new_job(session, id=ref.id, queue=QUEUE, args={"value": 2}) for ref in refs])


def _claim(session: Session, _refs: Sequence[Ref]) -> Sequence[Any]:
    return moves.claim(session, QUEUE, 0, 100, timedelta(seconds=30))


def _prune(session: Session, _refs: Sequence[Ref]) -> Sequence[Any]:
    return [moves.prune(session, state, timedelta(0), 100) for state in FINAL]


UNFENCED: dict[Move, Maker] = {
    Move.RECORD: _record_again,
    Move.CLAIM: _claim,
    Move.RUN_NOW: lambda session, refs: moves.run_now(session, [ref.id for ref in refs], ACTOR),
    Move.CANCEL: lambda session, refs: moves.cancel(session, [ref.id for ref in refs], ACTOR),
    Move.PRUNE: _prune,
}
MAKERS = FENCED | UNFENCED

# What keeps no history: the straight path is told by the row's own timestamps, a release by a metric,
# and a pruned job's history goes with it.
SILENT = {Move.RECORD, Move.CLAIM, Move.RELEASE, Move.START, Move.SUCCEED, Move.PRUNE}
GIVES_ATTEMPT_BACK = {Move.SNOOZE, Move.INTERRUPT, Move.RESCUE}
GIVES_NO_REASON = {Move.CANCEL, Move.RUN_NOW}
KEEPS_ERROR = {Move.RETRY, Move.BURY, Move.RESCUE}
REFUSES_THE_CANCELLED = {Move.RETRY, Move.SNOOZE, Move.INTERRUPT}


@dataclass(frozen=True)
class Case:
    """A job that a move fits, and where the move takes it; None: it is gone."""

    move: Move
    source: State
    target: State | None
    columns: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        about = "-".join(self.columns)
        return f"{self.move}-{self.source}-to-{self.target}{about and '-' + about}"


def _cases_of(move: Move, source: State) -> list[Case]:
    asked = {"cancel_requested_at": ago(minutes=1)}
    match move:
        case Move.RUN_NOW:
            return [Case(move, source, source, {"due_at": ago(hours=-1)})]
        case Move.CANCEL:
            return [Case(move, source, source if source == State.RUNNING else State.CANCELLED)]
        case Move.STOP:
            return [Case(move, source, State.CANCELLED, asked)]
        case Move.RESCUE:
            return [
                Case(move, source, State.QUEUED),
                Case(move, source, State.DEAD, {"lost": LOSSES_UNTIL_DEAD - 1}),
                Case(move, source, State.CANCELLED, asked),
                Case(move, source, State.CANCELLED, {"lost": LOSSES_UNTIL_DEAD - 1, **asked}),
            ]
        case _:
            return [Case(move, source, target) for target in MOVES[move].targets or (None,)]


CASES = [case for move in Move for source in MOVES[move].sources for case in _cases_of(move, source)]
FENCED_CASES = [case for case in CASES if case.move in FENCED]
MISFITS = [(move, state) for move, state in product(Move, State) if state not in MOVES[move].sources]


def _fitting(session: Session, case: Case, **columns: Any) -> Ref:
    return job_in(session, case.source, **{"queue": QUEUE, **case.columns, **columns})


def _all_of(session: Session, ref: Ref) -> tuple[Any, ...]:
    return row_of(session, ref), history_of(session, ref)


# The table itself


def test_every_move_has_a_maker_here() -> None:
    assert set(MAKERS) == set(Move)


def test_every_move_is_fenced_by_the_lease_that_the_table_says_is() -> None:
    assert {move for move in Move if MOVES[move].fenced} == set(FENCED)


@pytest.mark.parametrize("move", [move for move in Move if move != Move.RECORD])
def test_every_target_of_the_table_is_reached_by_a_case(move: Move) -> None:
    assert {case.target for case in CASES if case.move == move} == set(MOVES[move].targets or (None,))


# The matrix


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_move_takes_a_job_from_its_source_to_its_target(session: Session, case: Case) -> None:
    ref = _fitting(session, case)
    before = row_of(session, ref)

    moved = MAKERS[case.move](session, [ref])

    assert moved
    if case.target is None:
        assert _count(session) == 0
        return
    after = row_of(session, ref)
    assert after["state"] == case.target
    assert after["lease"] == before["lease"] + (case.move == Move.CLAIM)
    assert [(job.id, job.lease) for job in moved] == [(ref.id, after["lease"])]


@pytest.mark.parametrize(("move", "state"), MISFITS, ids=str)
def test_a_move_from_any_other_state_changes_nothing(session: Session, move: Move, state: State) -> None:
    ref = job_in(session, state, queue=QUEUE)
    before = _all_of(session, ref)

    moved = MAKERS[move](session, [ref])

    assert not any(moved)
    assert _all_of(session, ref) == before


@pytest.mark.parametrize("off_by", [-1, 1], ids=["older lease", "newer lease"])
@pytest.mark.parametrize("case", FENCED_CASES, ids=str)
def test_a_move_under_another_lease_changes_nothing(session: Session, case: Case, off_by: int) -> None:
    ref = _fitting(session, case)
    before = _all_of(session, ref)

    assert not MAKERS[case.move](session, [Ref(ref.id, ref.lease + off_by)])
    assert _all_of(session, ref) == before


@pytest.mark.parametrize("case", FENCED_CASES, ids=str)
def test_of_a_mixed_set_exactly_the_fitting_jobs_move(session: Session, case: Case) -> None:
    fitting = [_fitting(session, case) for _ in range(3)]
    misfits = [job_in(session, state) for state in State if state not in MOVES[case.move].sources]
    stale = [Ref(_fitting(session, case).id, LEASE - 1)]
    unknown = [Ref(new_id(), LEASE)]
    before = [_all_of(session, ref) for ref in misfits + stale]

    moved = MAKERS[case.move](session, [*misfits, *fitting, *stale, *unknown, fitting[0]])

    assert sorted(job.id for job in moved) == [ref.id for ref in fitting]
    assert [_all_of(session, ref) for ref in misfits + stale] == before


@pytest.mark.parametrize("move", [*FENCED, Move.CANCEL, Move.RUN_NOW, Move.RECORD])
def test_a_move_of_no_jobs_moves_none(session: Session, move: Move) -> None:
    ref = job_in(session, (MOVES[move].sources or LIVE)[0])
    before = _all_of(session, ref)

    assert not MAKERS[move](session, [])
    assert _all_of(session, ref) == before


# What holds for every move


@pytest.mark.parametrize("case", [case for case in CASES if case.target], ids=str)
def test_the_attempt_is_given_back_by_snooze_interrupt_and_rescue_only(session: Session, case: Case) -> None:
    ref = _fitting(session, case)
    before = row_of(session, ref)["attempt"]

    MAKERS[case.move](session, [ref])

    expected = {Move.START: before + 1, Move.REDRIVE: 0} | dict.fromkeys(GIVES_ATTEMPT_BACK, before - 1)
    assert row_of(session, ref)["attempt"] == expected.get(case.move, before)


@pytest.mark.parametrize("case", [case for case in CASES if case.target], ids=str)
def test_history_says_who_when_why_and_the_error_as_given(session: Session, case: Case) -> None:
    ref = _fitting(session, case)

    MAKERS[case.move](session, [ref])

    row, history = row_of(session, ref), history_of(session, ref)
    if case.move in SILENT:
        assert history == []
        return
    (event,) = history
    assert abs(event.pop("at") - ago()) < timedelta(seconds=5)
    assert isinstance(event.pop("id"), UUID)
    assert event == {
        "job_id": ref.id,
        "tenant_id": row["tenant_id"],
        "move": case.move,
        "state": case.target,
        "attempt": row["attempt"] + (case.move in GIVES_ATTEMPT_BACK),
        "lease": row["lease"],
        "actor": ACTOR,
        "reason": None if case.move in GIVES_NO_REASON else REASON,
        "error": ERROR if case.move in KEEPS_ERROR else None,
    }


@pytest.mark.parametrize("move", sorted(REFUSES_THE_CANCELLED))
def test_a_job_whose_cancellation_was_asked_for_is_not_put_back(session: Session, move: Move) -> None:
    ref = job_in(session, State.RUNNING, cancel_requested_at=ago(minutes=1))
    before = _all_of(session, ref)

    assert not MAKERS[move](session, [ref])
    assert _all_of(session, ref) == before


def test_a_job_whose_cancellation_nobody_asked_for_is_not_stopped(session: Session) -> None:
    ref = job_in(session, State.RUNNING)
    before = _all_of(session, ref)

    assert not MAKERS[Move.STOP](session, [ref])
    assert _all_of(session, ref) == before


@pytest.mark.parametrize("state", LIVE)
def test_a_live_state_cannot_even_be_named_to_prune(session: Session, state: State) -> None:
    job_in(session, state)

    with pytest.raises(ValueError, match=state):
        moves.prune(session, state, timedelta(0), 100)
    assert _count(session) == 1


def _count(session: Session) -> int:
    return session.execute(select(func.count()).select_from(jobs)).scalar_one()
