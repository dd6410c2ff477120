import itertools

import pytest

from cli import waiting
from cli.failures import Interrupted, TimedOut
from cli.server import Answer


class Clock:
    """Time that only passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds


class Script:
    """A server whose job goes through the given states, the last for ever."""

    def __init__(self, *states: str, retry_after: float | None = None) -> None:
        self._states = itertools.chain(states, itertools.repeat(states[-1]))
        self._retry_after = retry_after
        self.patience: list[float] = []

    def get(self, path: str, *, patience: float) -> Answer:
        self.patience.append(patience)
        return Answer({"id": path, "state": next(self._states)}, b"", self._retry_after)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    return clock


@pytest.mark.parametrize("final", ["succeeded", "dead", "cancelled", "discarded"])
def test_a_wait_ends_with_the_job_and_reports_every_poll(clock, final):
    seen: list[str] = []
    answer = waiting.wait(Script("queued", "running", final), "j", 60, lambda job: seen.append(job["state"]))
    assert answer.document == {"id": "/v1/jobs/j", "state": final}
    assert seen == ["queued", "running", final]


def test_a_job_that_has_ended_costs_no_sleep(clock):
    waiting.wait(Script("succeeded"), "j", 0, lambda _: None)
    assert clock.slept == []


def test_the_pace_slows_from_a_fifth_of_a_second_to_two(clock):
    with pytest.raises(TimedOut):
        waiting.wait(Script("running"), "j", 30, lambda _: None)
    assert clock.slept[0] == pytest.approx(0.2)
    assert clock.slept[:-1] == sorted(clock.slept[:-1])
    assert max(clock.slept) == 2.0


def test_the_server_sets_the_pace_when_it_says_so(clock):
    with pytest.raises(TimedOut):
        waiting.wait(Script("running", retry_after=5), "j", 12, lambda _: None)
    assert clock.slept == [5, 5, 2]


def test_a_wait_never_passes_its_deadline_and_looks_once_more_at_it(clock):
    server = Script("running", retry_after=3600)
    with pytest.raises(TimedOut, match=r"still running after 10 s.*jobmill jobs wait j"):
        waiting.wait(server, "j", 10, lambda _: None)
    assert clock.now == 1010
    assert server.patience == [10, 1]


def test_ctrl_c_says_that_the_job_goes_on(clock, monkeypatch):
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep", interrupt)
    with pytest.raises(Interrupted, match=r"the job goes on.*jobmill jobs wait j") as failure:
        waiting.wait(Script("running"), "j", 10, lambda _: None)
    assert failure.value.exit_code == 130
