"""Waiting for a job: held by the server, at the pace it sets, and never past the deadline."""

from math import inf
from typing import Any

import httpx2
import pytest

from jobmill_client import Client, ConnectionFailed, JobFailed, WaitTimedOut, connection, waiting
from tests.scripted import ADDRESS, ID, KEY, Scripted, job, problem, says


class Clock:
    """Time that only passes while somebody sleeps, or the server holds its answer."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(connection, "_backoff", lambda _: 0)
    return clock


def client(*answers: Any) -> tuple[Client, Scripted]:
    server = Scripted(*answers)
    return Client(ADDRESS, KEY, transport=server), server


def holding(clock: Clock, state: str = "running", early: float = 0.0, pace: str = "30") -> Any:
    """A server that holds each look as long as it is asked to, or answers so much earlier, and tells a slow pace."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        held = request.headers.get("Prefer", "wait=0").removeprefix("wait=")
        clock.now += max(0, int(held) - early)
        applied = {"Preference_Applied": f"wait={held}"} if int(held) else {}
        return says(job(state), Retry_After=pace, **applied)

    return answer


@pytest.mark.parametrize("final", ["succeeded", "dead", "cancelled", "discarded"])
def test_a_wait_ends_with_the_job(clock, final):
    opened, server = client(says(job("queued")), says(job("running")), says(job(final)))
    ended = opened.wait(ID)
    assert (ended.state, ended.final, len(server.asked)) == (final, True, 3)


def test_the_server_is_asked_to_hold_each_look_and_not_asked_again_until_then(clock):
    opened, server = client(holding(clock))
    with pytest.raises(WaitTimedOut):
        opened.wait(ID, 50)
    assert list(server.sent("Prefer")) == ["wait=20", "wait=20", "wait=10"]
    assert clock.slept == [0, 0]
    assert clock.now == 1050


@pytest.mark.parametrize("every", [0.3, 1.0, 2.0])
def test_what_happens_on_the_way_is_seen_however_slow_the_type_is(clock, every):
    opened, server = client(*[holding(clock)] * 5, holding(clock, "succeeded"))
    assert len(list(opened.watch(ID, every=every))) == 6
    assert set(server.sent("Prefer")) == {f"wait={max(1, int(every))}"}
    assert set(clock.slept) == {0}


def test_a_held_look_without_a_change_is_followed_at_once_by_the_next(clock):
    def unchanged(request: httpx2.Request) -> httpx2.Response:
        clock.now += 20
        held = {"Retry-After": "30", "Preference-Applied": request.headers["Prefer"]}
        return httpx2.Response(304, headers=held)

    opened, _ = client(says(job("running"), ETag='"a"', Retry_After="0"), unchanged, says(job("succeeded")))
    opened.wait(ID)
    assert clock.now == 1020


@pytest.mark.parametrize("pace", ["1", "30"])
def test_a_hold_that_ends_early_is_no_reason_to_hurry(clock, pace):
    opened, server = client(holding(clock, early=19.5, pace=pace), holding(clock, "succeeded", early=20))
    opened.wait(ID)
    assert (clock.slept, len(server.asked)) == ([0.5], 2)


def test_each_look_names_what_was_seen_and_an_unchanged_job_is_not_sent_again(clock):
    unchanged = httpx2.Response(304, headers={"ETag": '"a"', "Retry-After": "1"})
    opened, server = client(
        says(job("queued"), ETag='"a"'), unchanged, says(job("running"), ETag='"b"'), says(job("succeeded"), ETag='"c"')
    )
    assert [seen.state for seen in opened.watch(ID)] == ["queued", "running", "succeeded"]
    assert list(server.sent("If-None-Match")) == [None, '"a"', '"a"', '"b"']


def test_a_job_that_has_ended_costs_no_sleep(clock):
    opened, _ = client(says(job("succeeded", result=3)))
    assert opened.result(ID, 0) == 3
    assert clock.slept == []


def test_without_a_word_from_the_server_the_pace_slows_from_a_fifth_of_a_second_to_two(clock):
    opened, _ = client(says(job("running")))
    with pytest.raises(WaitTimedOut):
        opened.wait(ID, 30)
    assert clock.slept[0] == pytest.approx(0.2)
    assert clock.slept[:-1] == sorted(clock.slept[:-1])
    assert max(clock.slept) == 2.0


def test_a_server_that_does_not_hold_a_look_sets_the_pace(clock):
    opened, _ = client(says(job("running"), Retry_After="5"))
    with pytest.raises(WaitTimedOut):
        opened.wait(ID, 12)
    assert clock.slept == [5, 5, 2]


def test_a_wait_never_passes_its_deadline_and_looks_once_more_at_it(clock):
    opened, server = client(says(job("running"), Retry_After="3600"))
    with pytest.raises(WaitTimedOut, match=f"Job {ID} is still running after 10 s") as raised:
        opened.wait(ID, 10)
    assert (raised.value.job_id, raised.value.state, raised.value.seconds) == (ID, "running", 10)
    assert (clock.now, len(server.asked)) == (1010, 2)
    assert isinstance(raised.value, TimeoutError)


def test_a_wait_may_have_no_end(clock):
    opened, server = client(*[says(job("running"), Retry_After="3600")] * 30, says(job("succeeded")))
    assert opened.wait(ID, inf).succeeded
    assert (len(server.asked), clock.now) == (31, 1000 + 30 * 3600)


def test_a_wait_outlives_a_restart_of_the_server(clock):
    away = [problem(503), httpx2.ConnectError("refused")] * 4
    opened, _ = client(says(job("running")), *away, says(job("succeeded")))
    assert opened.wait(ID).succeeded


def test_a_server_that_stays_away_ends_the_wait(clock, monkeypatch):
    monkeypatch.setattr(connection, "_backoff", lambda _: waiting.PATIENCE_SECONDS + 1)
    opened, server = client(says(job("running")), httpx2.ConnectError("refused"))
    with pytest.raises(ConnectionFailed):
        opened.wait(ID)
    assert len(server.asked) == 2


def test_a_held_look_has_the_time_that_it_asked_for_on_top(clock):
    opened, server = client(says(job("succeeded")))
    opened.wait(ID)
    assert server.asked[0].extensions["timeout"]["read"] == 15 + 20


def test_a_result_is_what_the_handler_returned_and_asks_nothing_more_of_a_job_that_has_ended(clock):
    opened, server = client(says(job("succeeded", result={"rows": 2})))
    done = opened.job(ID)
    assert (done.result(), done.returned, len(server.asked)) == ({"rows": 2}, {"rows": 2}, 1)


@pytest.mark.parametrize("state", ["dead", "cancelled", "discarded"])
def test_a_job_that_did_not_succeed_has_no_result(clock, state):
    error = {"type": "ValueError", "message": "no such column", "code": None}
    opened, _ = client(says(job("queued")), says(job(state, error=error)))
    with pytest.raises(JobFailed, match=f"Job {ID} is {state}: ValueError: no such column") as raised:
        opened.job(ID).result()
    assert raised.value.job.error.message == "no such column"


def test_a_job_that_was_cancelled_before_it_began_has_no_error_to_tell(clock):
    opened, _ = client(says(job("cancelled")))
    with pytest.raises(JobFailed, match=rf"Job {ID} is cancelled\."):
        opened.result(ID)
