"""The small parts of isolation that need no process: outcomes on their way, and what a death means."""

import resource
import signal
import time
from datetime import timedelta
from typing import Any

import orjson
import pytest

from jobs.outcomes import (
    Abandoned,
    CancelRequested,
    Draining,
    Failed,
    FailedForGood,
    Failure,
    GivenBack,
    Outcome,
    Snoozed,
    Stopped,
    Succeeded,
    TimedOut,
)
from workers.isolation import limits
from workers.isolation.answers import packed, unpacked
from workers.isolation.conversation import Hearing
from workers.isolation.deaths import EXIT_OUT_OF_MEMORY, failure_of
from workers.isolation.frames import Frame, Garbled

FAILURE = Failure("acme.BrokenError", "it broke \u00e9", "exception", "Traceback: ...")


# Outcomes


@pytest.mark.parametrize(
    "outcome",
    [
        Succeeded(b'{"text":"\xc3\xa9"}'),
        Failed(FAILURE),
        Failed(FAILURE, timedelta(seconds=1.5)),
        FailedForGood(FAILURE),
        Snoozed(timedelta(days=40), "too early"),
        Stopped(),
        GivenBack("the worker stopped"),
        Abandoned(),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_each_outcome_arrives_as_it_was(outcome: Outcome):
    told, body = packed(outcome)
    assert unpacked(Frame("outcome", orjson.loads(orjson.dumps(told)), body)) == outcome


@pytest.mark.parametrize(
    "told",
    [{}, {"name": "Failed", "told": {}}, {"name": "int", "told": {}}, {"name": "Failed", "told": None}],
)
def test_what_is_no_outcome_is_not_believed(told: dict[str, Any]):
    with pytest.raises(Garbled):
        unpacked(Frame("outcome", told, b""))


# Deaths


@pytest.mark.parametrize(
    ("status", "memory_ran_out", "code", "why"),
    [
        (-signal.SIGSEGV, False, "crashed", "was ended by SIGSEGV"),
        (-signal.SIGABRT, True, "crashed", "was ended by SIGABRT"),
        (-signal.SIGKILL, False, "crashed", "was ended by SIGKILL"),
        (-signal.SIGKILL, True, "out-of-memory", "was killed by the kernel, which was out of memory"),
        (-signal.SIGXCPU, False, "cpu-limit", "used up its cpu_limit_seconds"),
        (-40, False, "crashed", "was ended by signal 40"),
        (0, False, "crashed", "exited with status 0 before its handler returned"),
        (3, False, "crashed", "exited with status 3 before its handler returned"),
        (EXIT_OUT_OF_MEMORY, False, "out-of-memory", "used up its memory_limit_mb"),
    ],
)
def test_a_death_says_of_what(status: int, memory_ran_out: bool, code: str, why: str):
    failure = failure_of(status, memory_ran_out=memory_ran_out).failure
    assert (failure.code, failure.message) == (code, f"The handler's process {why}.")


# Limits


def test_limits_count_from_what_was_used_and_are_lifted_again():
    def soft() -> tuple[int, int]:
        return resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_CPU)[0]

    before = soft()
    held = limits.memory_held()
    with limits.limited(1000, 3600):
        memory, cpu = soft()
    assert held <= memory - 1000 * limits.MEGABYTE <= held + 64 * limits.MEGABYTE
    assert time.process_time() + 3599 < cpu <= time.process_time() + 3601
    assert soft() == before
    with limits.limited(None, None):
        assert soft() == before


# Hearing


def test_a_thread_that_hears_is_asked_once_and_only_inside():
    hearing = Hearing()
    assert not hearing.interrupt(TimedOut)
    hearing.enter()
    assert hearing.interrupt(Draining)
    assert not hearing.interrupt(CancelRequested)
    assert hearing.asked is Draining
    hearing.leave()
    assert not hearing.interrupt(TimedOut)
