import os
from datetime import timedelta
from unittest.mock import sentinel

import pytest
from pydantic import BaseModel

from jobs.context import Context
from jobs.outcomes import Permanent, RetryLater, Snooze, Succeeded
from jobs.registry import Registry, UnknownJobType, job
from jobs.testing import run_job

own = Registry()


class Greet(BaseModel):
    name: str
    mode: str = "plain"


class Greeting(BaseModel):
    text: str


@job("acme.greet", into=own)
def greet(args: Greet, context: Context) -> Greeting:
    match args.mode:
        case "tell":
            context.progress(10, "began")
            context.checkpoint({"step": 1})
            context.progress(90)
        case "retry":
            raise RetryLater(timedelta(seconds=3))
        case "snooze":
            raise Snooze(timedelta(hours=1))
        case "permanent":
            raise Permanent("never", "no-way")
        case "session":
            assert context.session is sentinel.session
        case "call":
            context.http.request("GET", "https://example.com")
    return Greeting(text=f"Hello {args.name} {context.attempt}/{context.max_attempts} {dict(context.tags)}")


def run(mode: str = "plain", **given):
    return run_job(greet, {"name": "Ada", "mode": mode}, registry=own, **given)


def test_a_handler_runs_by_itself_or_by_its_name():
    expected = {"text": "Hello Ada 1/5 {}"}
    assert run().result == expected
    assert run_job("acme.greet", Greet(name="Ada"), registry=own).result == expected


def test_a_handler_finds_what_its_job_would_have():
    ran = run(attempt=2, max_attempts=3, tags={"a": "b"})
    assert ran.result == {"text": "Hello Ada 2/3 {'a': 'b'}"}
    assert isinstance(ran.outcome, Succeeded)
    assert ran.error is None


def test_what_a_handler_told_is_listed():
    ran = run("tell")
    assert [(told.percent, told.message) for told in ran.progress] == [(10, "began"), (90, None)]
    assert ran.checkpoints == [{"step": 1}]


def test_answers_are_facts_to_assert_on():
    assert run("retry").retry_after == timedelta(seconds=3)
    assert run("snooze").snoozed == timedelta(hours=1)
    assert run("permanent").permanent
    assert run("permanent").error.code == "no-way"
    assert run("permanent").retry_after is None


def test_asking_for_a_result_that_is_not_there_shows_why():
    with pytest.raises(AssertionError, match="never"):
        _ = run("permanent").result


def test_arguments_are_validated_as_a_worker_would():
    assert run_job(greet, {"nmae": "Ada"}, registry=own).error.code == "invalid-args"


def test_arguments_that_are_no_json_are_the_tests_own_fault():
    with pytest.raises(ValueError, match="object"):
        run_job(greet, {"name": object()}, registry=own)


def test_a_session_is_handed_through_and_missed_by_name():
    assert run("session", session=sentinel.session).result
    assert "session=" in run("session").error.message


def test_calling_out_by_accident_says_so():
    assert "http=" in run("call").error.message


def test_what_is_not_declared_is_not_found():
    with pytest.raises(LookupError, match="@job"):
        run_job(lambda args: None, {}, registry=own)
    with pytest.raises(UnknownJobType):
        run_job("acme.unknown", {}, registry=own)


def test_a_handler_that_is_isolated_in_life_runs_in_the_tests_own_process():
    isolated = Registry()

    @job("acme.where", isolation="process", memory_limit_mb=64, into=isolated)
    def where(args: Greet) -> int:
        return os.getpid()

    assert run_job(where, {"name": "Ada"}, registry=isolated).result == os.getpid()
