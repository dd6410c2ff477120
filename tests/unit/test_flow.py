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


def test_of_two_who_gave_messages_back_the_first_is_not_kept_from_a_thread_for_the_second(clock: list[float]):
    flow, greedy, first, second = Flow(1), list, dict, set
    flow.take(greedy)
    flow.owe(first)
    flow.owe(second)
    flow.owe(first)  # once more, which loses nobody his place
    flow.done()
    assert [flow.take(greedy), flow.take(second), flow.take(first)] == [False, False, True]
    flow.done()
    assert [flow.take(greedy), flow.take(second)] == [False, True]


# A process for one


def test_a_thread_that_reserved_has_all_others_kept_from_messages_until_its_block_ends():
    flow, rung = Flow(3), []
    flow.take(nobody)
    with flow.reserved() as mine:
        assert (mine, flow.free, flow.take(lambda: rung.append(1)), rung) == (True, 0, False, [])
        assert flow.listen(lambda: rung.append(2)) == 0
    assert (rung, flow.free, flow.take(nobody)) == ([1, 2], 2, True)


def test_only_one_thread_reserves_at_a_time():
    flow = Flow(3)
    with flow.reserved():
        with flow.reserved() as second:
            assert not second
        assert flow.free == 0  # it is still the first one's
    with flow.reserved() as again:
        assert again


def test_a_reservation_ends_whatever_comes_out_of_it():
    flow = Flow(2)
    with pytest.raises(KeyboardInterrupt), flow.reserved():
        raise KeyboardInterrupt
    assert flow.take(nobody)


def test_a_reserved_process_is_full_from_then_on_and_not_when_it_is_over():
    flow = Flow(2)
    flow.take(nobody)
    with flow.reserved():
        assert 9 <= flow.full_for(time.monotonic() + 9) < 10
        flow.done()
        assert 9 <= flow.full_for(time.monotonic() + 9) < 10
    assert flow.full_for(time.monotonic() + 9) == 0


def test_full_before_and_after_a_reservation_is_full_all_the_while():
    flow = Flow(1)
    flow.take(nobody)
    since = flow.full_for(100 + time.monotonic())
    with flow.reserved():
        pass
    assert flow.full_for(100 + time.monotonic()) >= since


def test_who_is_the_only_one_busy_is_alone_at_once():
    flow = Flow(2)
    flow.take(nobody)
    assert flow.wait_to_be_alone(0)


def test_who_waits_to_be_alone_is_told_when_the_last_of_the_others_is_done():
    flow, told = Flow(3), []
    for _ in range(3):
        flow.take(nobody)
    waiting = threading.Thread(target=lambda: told.append(flow.wait_to_be_alone(60)))
    waiting.start()
    flow.done()
    assert not flow.wait_to_be_alone(0)
    flow.done()
    waiting.join(10)
    assert told == [True]


def test_nobody_is_alone_who_has_to_wait_for_too_long():
    flow = Flow(2)
    flow.take(nobody)
    flow.take(nobody)
    assert not flow.wait_to_be_alone(0.01)


def test_nobody_waits_to_be_alone_in_a_process_that_stops():
    flow, told = Flow(2), []
    flow.take(nobody)
    flow.take(nobody)
    waiting = threading.Thread(target=lambda: told.append(flow.wait_to_be_alone(60)))
    waiting.start()
    flow.drain()
    waiting.join(10)
    flow.done()
    assert (told, flow.wait_to_be_alone(0)) == ([False], False)
