"""Who is free: slots for threads, and bells for those who found none."""

import threading
import time

import pytest

from workers.flow import Flow


def nobody() -> None:
    pytest.fail("this bell was not to ring")


def test_there_are_as_many_slots_as_threads():
    flow = Flow(2)
    assert [flow.take(nobody), flow.take(nobody), flow.free] == [True, True, 0]
    assert flow.take(list) is False
    flow.done()
    assert (flow.free, flow.take(nobody), flow.free) == (1, True, 0)


def test_a_bell_rings_once_when_a_thread_is_done():
    flow, rung = Flow(1), []
    bell = lambda: rung.append("rung")  # noqa: E731 - the same bell is left three times
    flow.take(nobody)
    assert [flow.take(bell) for _ in range(3)] == [False] * 3
    flow.done()
    flow.take(nobody)
    flow.done()
    assert rung == ["rung"]


def test_who_waits_longest_is_called_first():
    flow, rung = Flow(1), []
    flow.take(nobody)
    bells = [lambda name=name: rung.append(name) for name in "abc"]
    for bell in bells:
        flow.take(bell)
    flow.listen(bells[0])  # asking again loses nobody his place
    flow.done()
    assert rung == ["a", "b", "c"]


def test_whoever_is_called_finds_the_thread_free():
    flow, seen = Flow(1), []
    flow.take(nobody)
    flow.take(lambda: seen.append(flow.take(nobody)))
    flow.done()
    assert seen == [True]


def test_listening_tells_how_many_are_free_and_takes_none():
    flow, rung = Flow(3), []
    flow.take(nobody)
    assert (flow.listen(lambda: rung.append(1)), flow.free) == (2, 2)
    flow.done()
    assert rung == [1]


def test_full_counts_from_when_the_last_thread_was_taken_until_any_is_done():
    flow = Flow(2)
    flow.take(nobody)
    assert flow.full_for(time.monotonic() + 9) == 0
    flow.take(nobody)
    assert 9 <= flow.full_for(time.monotonic() + 9) < 10
    flow.done()
    assert flow.full_for(time.monotonic() + 9) == 0


def test_many_threads_never_take_more_slots_than_there_are():
    flow, most, lock, held = Flow(3), [], threading.Lock(), 0

    def work() -> None:
        nonlocal held
        for _ in range(200):
            rung = threading.Event()
            while not flow.take(rung.set):
                rung.wait(5)
                rung.clear()
            with lock:
                held += 1
                most.append(held)
            time.sleep(0)
            with lock:
                held -= 1
            flow.done()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 1600
    assert max(most) == 3
    assert flow.free == 3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("workers.flow.time.monotonic", lambda: now[0])
    return now


def test_a_freed_thread_is_kept_for_who_had_to_give_messages_back(clock: list[float]):
    flow, greedy, owed = Flow(1), list, dict
    flow.take(greedy)
    flow.owe(owed)
    clock[0] += 60
    assert not flow.take(greedy)  # there is none, which is no reason to forget
    flow.done()
    assert [flow.take(greedy), flow.take(owed)] == [False, True]
    flow.done()
    assert flow.take(greedy)  # once only


def test_but_not_for_long_and_not_more_than_one(clock: list[float]):
    flow, greedy, owed = Flow(2), list, dict
    flow.take(greedy)
    flow.take(greedy)
    flow.owe(owed)
    flow.done()
    flow.done()
    assert [flow.take(greedy), flow.take(greedy)] == [True, False]
    clock[0] += 0.1
    assert flow.take(greedy)
