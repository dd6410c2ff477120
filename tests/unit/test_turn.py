import time
from typing import Any

from workers.turn import Turn

ONE, TWO, THREE = jobs = ["one", "two", "three"]


def turn_of(*names: str) -> Any:
    return Turn(names)  # type: ignore[arg-type]


def test_each_job_has_its_turn():
    assert list(turn_of(*jobs)) == jobs


def test_what_waits_behind_a_slow_job_is_taken_away_and_has_no_turn():
    turn = turn_of(*jobs)
    running = iter(turn)
    assert next(running) == ONE
    assert turn.take_waiting(since=time.monotonic()) == [TWO, THREE]
    assert list(running) == []


def test_behind_a_quick_job_everything_stays():
    turn = turn_of(*jobs)
    running = iter(turn)
    assert next(running) == ONE
    assert turn.take_waiting(since=time.monotonic() - 1) == []
    assert list(running) == [TWO, THREE]


def test_what_could_not_be_taken_away_has_its_turn_after_all():
    turn = turn_of(*jobs)
    running = iter(turn)
    assert next(running) == ONE
    assert turn.put_back(turn.take_waiting(since=time.monotonic()))
    assert list(running) == [TWO, THREE]


def test_once_its_thread_is_through_nothing_can_be_put_back():
    turn = turn_of(*jobs)
    running = iter(turn)
    assert next(running) == ONE
    taken = turn.take_waiting(since=time.monotonic())
    assert list(running) == []
    assert not turn.put_back(taken)
    assert list(turn) == []
