"""The moves table and the shapes agree with each other, and with the rules that never bend."""

import pytest

from models.job import jobs
from models.states import FINAL, LIVE, MOVES, SHAPES, Move, State

TIMESTAMPS_OF_A_RUN = {"dispatched_at", "started_at", "worker_id"}


def test_every_state_is_either_live_or_final() -> None:
    assert set(LIVE) | set(FINAL) == set(State)
    assert not set(LIVE) & set(FINAL)


def test_every_move_is_told() -> None:
    assert set(MOVES) == set(Move)
    assert all(transition.by and transition.also for transition in MOVES.values())


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_reached_from_a_recorded_job(state: State) -> None:
    reached: set[State] = set(MOVES[Move.RECORD].targets)
    for _ in State:
        reached |= {target for move in MOVES.values() if reached & set(move.sources) for target in move.targets}
    assert state in reached


@pytest.mark.parametrize("state", LIVE)
def test_every_live_state_leads_to_a_final_one(state: State) -> None:
    leading = set(FINAL)
    for _ in State:
        leading |= {source for move in MOVES.values() if leading & set(move.targets) for source in move.sources}
    assert state in leading


def test_a_final_job_is_moved_by_an_operator_or_pruned_only() -> None:
    out_of_final = {move for move, transition in MOVES.items() if set(transition.sources) & set(FINAL)}
    assert out_of_final == {Move.EDIT, Move.REDRIVE, Move.DISCARD, Move.PRUNE}


def test_what_a_worker_moves_is_fenced() -> None:
    assert all(transition.fenced for transition in MOVES.values() if "worker" in transition.by)


@pytest.mark.parametrize("state", State)
def test_shapes_name_real_columns(state: State) -> None:
    shape = SHAPES[state]
    assert set(shape.present) | set(shape.absent) <= set(jobs.c.keys())


@pytest.mark.parametrize("state", FINAL)
def test_a_final_job_has_an_end_and_no_claim(state: State) -> None:
    assert "finished_at" in SHAPES[state].present
    assert "lease_expires_at" in SHAPES[state].absent


@pytest.mark.parametrize("state", LIVE)
def test_a_live_job_has_no_end_and_no_result(state: State) -> None:
    assert {"finished_at", "result"} <= set(SHAPES[state].absent)


def test_only_a_running_job_knows_all_of_its_run_and_a_queued_one_nothing() -> None:
    assert set(SHAPES[State.RUNNING].present) >= TIMESTAMPS_OF_A_RUN
    assert set(SHAPES[State.QUEUED].absent) >= TIMESTAMPS_OF_A_RUN
