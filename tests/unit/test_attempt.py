from datetime import timedelta
from typing import Any
from unittest.mock import create_autospec

import pytest
from pydantic import BaseModel, model_validator

from jobs.attempt import attempt, outcome_of
from jobs.context import Context
from jobs.outcomes import (
    Abandoned,
    CancelRequested,
    Draining,
    Failed,
    FailedForGood,
    GivenBack,
    LeaseLost,
    Permanent,
    RetryLater,
    Snooze,
    Snoozed,
    Stopped,
    Succeeded,
    TimedOut,
)
from jobs.registry import Registry, job


class Args(BaseModel):
    number: int = 0


class Unlucky(BaseModel):
    @model_validator(mode="after")
    def _break(self):
        raise RuntimeError("the model itself broke")


class Answered(BaseModel):
    number: int


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def run(handler, args: Any = None):
    registry = Registry()
    job("test.job", into=registry)(handler)
    return attempt(registry.get("test.job"), {} if args is None else args, create_autospec(Context))


def run_raising(error: BaseException | type[BaseException]):
    def handler(args: Args) -> None:
        raise error

    return run(handler)


def test_a_value_is_a_success_and_its_json_is_kept():
    def handler(args: Args) -> Answered:
        return Answered(number=args.number)

    assert run(handler, {"number": 7}) == Succeeded(b'{"number":7}')


def test_a_handler_that_returns_nothing_succeeds_with_null():
    def handler(args: Args) -> None:
        return None

    assert run(handler) == Succeeded(b"null")


def test_arguments_that_do_not_fit_are_final_and_their_values_are_not_told():
    def handler(args: Args) -> None:
        raise AssertionError("must not run")

    outcome = run(handler, {"number": "canary"})
    assert isinstance(outcome, FailedForGood)
    assert outcome.failure.code == "invalid-args"
    assert outcome.failure.message.startswith("/number: ")
    assert "canary" not in outcome.failure.message


def test_a_model_that_breaks_while_parsing_fails_the_attempt_only():
    def handler(args: Unlucky) -> None:
        raise AssertionError("must not run")

    outcome = run(handler)
    assert isinstance(outcome, Failed)
    assert outcome.failure.message == "the model itself broke"


@pytest.mark.parametrize(
    ("interrupt", "outcome"),
    [(CancelRequested, Stopped()), (Draining, GivenBack()), (LeaseLost, Abandoned())],
)
def test_an_interrupt_inside_the_handler_says_how_the_job_goes_on(interrupt, outcome):
    assert run_raising(interrupt) == outcome
    assert outcome_of(interrupt()) == outcome


def test_a_time_out_is_a_failure_that_shows_where_the_handler_was():
    outcome = run_raising(TimedOut)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "timed-out"
    assert outcome.failure.trace is not None
    assert "in handler" in outcome.failure.trace


def test_an_interrupt_outside_the_handler_is_left_to_the_worker(monkeypatch):
    def handler(args: Args) -> None:
        return None

    def struck(*_: object) -> None:
        raise TimedOut

    monkeypatch.setattr("jobs.attempt.to_json", struck)
    with pytest.raises(TimedOut):
        run(handler)


def test_an_ordinary_exception_keeps_its_type_message_and_trace():
    outcome = run_raising(ValueError("no such customer"))
    assert isinstance(outcome, Failed)
    assert outcome.after is None
    assert (outcome.failure.type, outcome.failure.message) == ("ValueError", "no such customer")
    assert outcome.failure.code == "exception"
    assert "raise error" in (outcome.failure.trace or "")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), StopIteration()])
def test_nothing_that_a_handler_raises_leaves_the_attempt(error):
    outcome = run_raising(error)
    assert isinstance(outcome, Failed)
    assert outcome.failure.type == type(error).__name__
    assert outcome.failure.code == ("out-of-memory" if isinstance(error, MemoryError) else "exception")


def test_an_exception_that_cannot_tell_its_message_is_recorded_all_the_same():
    outcome = run_raising(MuteError())
    assert isinstance(outcome, Failed)
    assert outcome.failure.type.endswith("MuteError")
    assert "could not say" in outcome.failure.message


@pytest.mark.parametrize("text", ["x" * 100_000, "😀" * 100_000, "a\x00b\ud800" * 50_000])
def test_what_an_exception_says_is_cut_and_cleaned(text):
    outcome = run_raising(RuntimeError(text))
    assert isinstance(outcome, Failed)
    message, trace = outcome.failure.message, outcome.failure.trace or ""
    assert len(message.encode()) <= 2048
    assert len(message.encode()) > 2000
    assert len(trace.encode()) <= 16 * 1024
    assert "\x00" not in message + trace


def test_a_long_trace_keeps_its_end():
    outcome = run_raising(RuntimeError("x" * 20_000 + " bottom"))
    assert isinstance(outcome, Failed)
    assert (outcome.failure.trace or "").rstrip().endswith("x bottom")


def test_a_deep_trace_keeps_its_innermost_frames():
    def handler(args: Args) -> None:
        def sink(depth: int) -> None:
            if not depth:
                raise RuntimeError("bottom")
            # By way of a second function, since frames that repeat are folded together.
            return rise(depth)

        def rise(depth: int) -> None:
            return sink(depth - 1)

        sink(200)

    trace = run(handler).failure.trace
    assert 'raise RuntimeError("bottom")' in trace
    assert 10 < trace.count("in rise") < 100


def test_an_endless_recursion_is_a_failure():
    def handler(args: Args) -> None:
        handler(args)

    assert run(handler).failure.type == "RecursionError"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (timedelta(seconds=5), timedelta(seconds=5)),
        (timedelta(seconds=-5), timedelta(0)),
        (timedelta(days=9999), timedelta(days=365)),
    ],
)
def test_a_wait_that_a_handler_asks_for_is_kept_within_bounds(asked, given):
    retry, snooze = run_raising(RetryLater(asked, "busy")), run_raising(Snooze(asked, "early"))
    assert isinstance(retry, Failed)
    assert (retry.after, retry.failure.message, retry.failure.code) == (given, "busy", "retry-later")
    assert snooze == Snoozed(given, "early")


def test_a_wait_that_is_no_timedelta_is_a_failure_of_the_handler():
    outcome = run_raising(RetryLater(5))  # type: ignore[arg-type]
    assert isinstance(outcome, Failed)
    assert outcome.after is None


def test_permanent_is_final_and_keeps_its_code():
    outcome = run_raising(Permanent("no such file", "not-found"))
    assert isinstance(outcome, FailedForGood)
    assert (outcome.failure.message, outcome.failure.code) == ("no such file", "not-found")


def any_result(value: object):
    def handler(args: Args) -> Any:
        return value

    return run(handler)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "object"),
        (float("nan"), "nan"),
        ({"mean": float("inf")}, "inf"),
        (2**63, "2^63"),
        ("x" * 1024 * 1024, "larger than"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_result_that_is_not_json_is_final(value, words):
    outcome = any_result(value)
    assert isinstance(outcome, FailedForGood)
    assert outcome.failure.code == "result-not-serialisable"
    assert words in outcome.failure.message


def test_a_result_that_is_not_what_was_declared_is_final():
    def handler(args: Args) -> Answered:
        return {"number": "seven"}  # type: ignore[return-value]

    outcome = run(handler)
    assert isinstance(outcome, FailedForGood)
    assert outcome.failure.code == "result-not-serialisable"
    assert "/number" in outcome.failure.message


def test_text_that_no_database_takes_is_mended_in_a_result():
    assert any_result({"a": "x\x00\ud800"}) == Succeeded('{"a":"x\ufffd\ufffd"}'.encode())
