from datetime import timedelta

import pytest

from jobs.builtin.demo import echo, fail, flaky, sleep
from jobs.registry import registry
from jobs.testing import run_job


@pytest.fixture
def clock(monkeypatch):
    """Lets `Context.wait` pass at once, while its clock goes on."""
    now = [0.0]

    def wait(event, timeout):
        now[0] += timeout
        return event.is_set()

    monkeypatch.setattr("threading.Event.wait", wait)
    monkeypatch.setattr("jobs.context.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("value", [None, 1, "x", [1, {"a": None}], {"value": 2}])
def test_echo_answers_with_its_arguments(value):
    assert run_job(echo, {"value": value}).result == {"value": value}


def test_sleep_takes_its_time_and_tells_how_far_it_is(clock):
    ran = run_job(sleep, {"seconds": 2})
    assert ran.result == {"seconds": 2}
    assert clock == [2]
    assert [told.percent for told in ran.progress] == [25, 50, 75, 100]


def test_sleep_stops_when_cancelled(clock):
    ran = run_job(sleep, {"seconds": 86_400}, cancelled=True)
    assert ran.cancelled
    assert clock[0] < 1


def test_no_time_is_no_time():
    assert run_job(sleep, {"seconds": 0}).result == {"seconds": 0}


@pytest.mark.parametrize("seconds", [-1, 86_401])
def test_sleep_has_bounds(seconds):
    assert run_job(sleep, {"seconds": seconds}).permanent


def test_fail_fails_with_its_message():
    error = run_job(fail, {"message": "as you wish"}).error
    assert error
    assert (error.message, error.code) == ("as you wish", "exception")


@pytest.mark.parametrize(("attempt", "succeeds"), [(1, False), (2, False), (3, True)])
def test_flaky_fails_so_many_times_and_then_succeeds(attempt, succeeds):
    ran = run_job(flaky, {"failures": 2}, attempt=attempt)
    if succeeds:
        assert ran.result == {"attempt": attempt}
    else:
        assert ran.error
        assert not ran.permanent


@pytest.mark.parametrize("name", ["demo.echo", "demo.sleep", "demo.fail", "demo.flaky"])
def test_trying_out_is_quick(name):
    policy = registry.get(name).retry
    assert policy.delay(1, 0.5) == timedelta(seconds=0.2)
    assert policy.delay(50, 0.999) < timedelta(seconds=7)
