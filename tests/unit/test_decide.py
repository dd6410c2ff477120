from datetime import timedelta
from uuid import UUID

import orjson
import pytest

from jobs.outcomes import (
    Abandoned,
    Failed,
    FailedForGood,
    Failure,
    GivenBack,
    Snoozed,
    Stopped,
    Succeeded,
)
from jobs.retry import Exponential, Steps
from models.job import Ref
from models.moves import Ending, Started
from models.states import Move
from workers.decide import _BY_WORKER, Decision, as_json, decide

REF = Ref(UUID(int=7), 7)
POLICY = Steps((timedelta(seconds=10), timedelta(seconds=100)), jitter=0)
FAILURE = Failure("acme.Broken", "it broke", "exception", "Traceback: ...")
ERROR = '{"type":"acme.Broken","message":"it broke","code":"exception","trace":"Traceback: ..."}'


def started(attempt: int) -> Started:
    """A job at that attempt of three."""
    return Started(
        REF.id, REF.lease, UUID(int=1), "acme.job", "default", {}, attempt, 3, 60, {}, None, None, None, None
    )


DEAD_OF_IT = Decision(Move.BURY, Ending(REF, error=ERROR, reason="attempts exhausted"))
FIRST, LAST, BEYOND = 1, 3, 4

TABLE = [
    (Succeeded(b'{"n":1}'), FIRST, Decision(Move.SUCCEED, Ending(REF, result='{"n":1}'))),
    (
        Succeeded(b"1", 40.0, "nearly"),
        FIRST,
        Decision(Move.SUCCEED, Ending(REF, result="1", percent=40.0, message="nearly")),
    ),
    (Succeeded(b"null"), LAST, Decision(Move.SUCCEED, Ending(REF, result="null"))),
    (Failed(FAILURE), FIRST, Decision(Move.RETRY, Ending(REF, error=ERROR, delay_seconds=10))),
    (Failed(FAILURE), 2, Decision(Move.RETRY, Ending(REF, error=ERROR, delay_seconds=100))),
    (Failed(FAILURE), LAST, DEAD_OF_IT),
    (Failed(FAILURE), BEYOND, DEAD_OF_IT),
    (
        Failed(FAILURE, timedelta(seconds=1.5)),
        FIRST,
        Decision(Move.RETRY, Ending(REF, error=ERROR, delay_seconds=1.5)),
    ),
    (Failed(FAILURE, timedelta(0)), FIRST, Decision(Move.RETRY, Ending(REF, error=ERROR, delay_seconds=0))),
    (Failed(FAILURE, timedelta(seconds=1.5)), LAST, DEAD_OF_IT),
    (FailedForGood(FAILURE), FIRST, Decision(Move.BURY, Ending(REF, error=ERROR, reason="permanent error"))),
    (FailedForGood(FAILURE), LAST, Decision(Move.BURY, Ending(REF, error=ERROR, reason="permanent error"))),
    (
        Snoozed(timedelta(hours=1), "too early"),
        FIRST,
        Decision(Move.SNOOZE, Ending(REF, delay_seconds=3600, reason="too early")),
    ),
    (
        Snoozed(timedelta(hours=1), "too early"),
        LAST,
        Decision(Move.SNOOZE, Ending(REF, delay_seconds=3600, reason="too early")),
    ),
    (Stopped(), FIRST, Decision(Move.STOP, Ending(REF, reason="the handler stopped as asked"))),
    (Stopped(), LAST, Decision(Move.STOP, Ending(REF, reason="the handler stopped as asked"))),
    (GivenBack(), FIRST, Decision(Move.INTERRUPT, Ending(REF, reason="the worker stopped"))),
    (GivenBack(), LAST, Decision(Move.INTERRUPT, Ending(REF, reason="the worker stopped"))),
    (Abandoned(), FIRST, None),
    (Abandoned(), LAST, None),
]


@pytest.mark.parametrize(("outcome", "attempt", "decision"), TABLE, ids=repr)
def test_each_outcome_makes_its_move(outcome, attempt, decision):
    assert decide(outcome, started(attempt), POLICY, chance=0.5) == decision


def test_every_move_that_a_worker_makes_is_decided_on_and_can_be_applied():
    decided = {decision.move for _, _, decision in TABLE if decision}
    assert decided == {*_BY_WORKER, Move.SUCCEED}


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 6.0), (0.5, 8.0), (1.0, 10.0)])
def test_the_chance_spreads_the_policys_delay(chance, seconds):
    policy = Exponential(first=timedelta(seconds=4), factor=2, jitter=0.25)
    decision = decide(Failed(FAILURE), started(2), policy, chance)
    assert decision is not None
    assert decision.ending.delay_seconds == pytest.approx(seconds)


class Odd:
    """A policy of the user's own, with a fault."""

    name = "odd"

    def __init__(self, answer: timedelta | None) -> None:
        self.answer = answer

    def delay(self, attempt: int, chance: float) -> timedelta:
        if self.answer is None:
            raise ZeroDivisionError
        return self.answer

    def describe(self) -> dict[str, float | str | list[float]]:
        return {}


@pytest.mark.parametrize(
    ("answer", "least", "most"),
    [
        (timedelta(days=-1), 0, 0),
        (timedelta(days=10_000), 365 * 86_400, 365 * 86_400),
        (None, 0.5, 1.5),
    ],
    ids=["a negative wait", "a wait for ever", "no answer"],
)
def test_a_policy_of_the_users_own_cannot_cost_the_record_of_the_attempt(answer, least, most):
    decision = decide(Failed(FAILURE), started(1), Odd(answer), chance=0.5)
    assert decision is not None
    assert decision.move is Move.RETRY
    assert least <= decision.ending.delay_seconds <= most


def test_a_failure_without_a_trace_has_no_empty_one():
    assert orjson.loads(as_json(Failure("E", "m", "c"))) == {"type": "E", "message": "m", "code": "c"}
