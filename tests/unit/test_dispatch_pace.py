import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile

import pytest
import time_machine

from models.lineup import Lane
from models.worker import Capacity
from workers.duties.dispatch import MOST_PER_STEP
from workers.duties.grouping import jobs_a_message
from workers.duties.pace import (
    LONGEST_SLEEP,
    MOST_ON_BROKER,
    SECOND_LOOK,
    SECONDS_OF_BACKGROUND,
    SECONDS_OF_WORK,
    Burden,
    Rate,
    Step,
    pause,
    room,
    until_due,
)

NOW = datetime(2027, 1, 1, tzinfo=UTC)


# Rate


def test_a_first_look_tells_no_rate():
    rate = Rate()
    rate.seen(on_broker=40, now=5.0)
    assert rate.per_second == 0


def test_what_left_between_two_looks_is_the_rate_in_the_end():
    rate = Rate()
    for second in range(20):
        rate.seen(on_broker=70, now=float(second))
        rate.leaves(on_broker=100, now=float(second))
    assert rate.per_second == pytest.approx(30, rel=0.01)


def test_one_lucky_moment_moves_the_rate_little_and_a_second_moves_it_by_two_thirds():
    brief, long = Rate(), Rate()
    for rate, elapsed in ((brief, 0.01), (long, 1.0)):
        rate.leaves(on_broker=100, now=0.0)
        rate.seen(on_broker=0, now=elapsed)
    assert brief.per_second == pytest.approx(100, rel=0.01)  # 10,000 a second, for a hundredth of one
    assert long.per_second == pytest.approx(63, rel=0.01)


def test_where_workers_found_nothing_more_the_rate_doubles_if_they_ended_jobs_that_fast():
    rate, seen = Rate(), []
    for step in range(1, 8):
        rate.leaves(on_broker=100, now=step * 0.02)
        rate.seen(on_broker=0, now=(step + 1) * 0.02, threads=8)
        seen.append(round(rate.per_second))
    proven = (100 - 8) / 0.02
    assert all(later >= min(2 * earlier, proven) for earlier, later in pairwise(seen))
    assert seen[0] < 0.05 * proven  # one lucky moment alone proves little


def test_jobs_that_no_more_than_fill_the_threads_prove_no_rate():
    rate = Rate()
    rate.leaves(on_broker=8, now=0.0)
    rate.seen(on_broker=0, now=0.01, threads=8)
    assert rate.per_second == pytest.approx(8, rel=0.01)  # as if all had begun evenly within the last second


def test_the_next_look_is_timed_by_what_began_last_if_that_is_more_than_the_mean_or_was_told():
    rate, expected = Rate(), []
    for now, on_broker in enumerate([100, 20, 95]):
        rate.seen(on_broker, now=float(now))
        expected.append(round(rate.expected(told=50)))
        rate.leaves(on_broker=100, now=float(now))
    assert expected == [50, 80, 50]


def test_workers_are_wanting_for_a_look_more_after_they_found_nothing():
    rate, wanting = Rate(), []
    for number, on_broker in enumerate([5, 0, 5, 5]):
        rate.leaves(on_broker=10, now=float(number))
        rate.seen(on_broker, now=number + 0.5)
        wanting.append(rate.wanting)
    assert wanting == [False, True, True, False]


def test_a_queue_that_grew_has_not_begun_a_negative_number_of_jobs():
    rate = Rate()
    rate.leaves(on_broker=10, now=0.0)
    rate.seen(on_broker=500, now=1.0)
    assert rate.per_second == 0


def test_two_looks_at_the_same_moment_do_not_divide_by_zero():
    rate = Rate()
    rate.leaves(on_broker=10, now=1.0)
    rate.seen(on_broker=5, now=1.0)
    assert rate.per_second == 0


# room, pause, until_due


def test_jobs_of_the_background_have_half_the_room():
    busy = Capacity(threads=8, free=0)
    assert room(busy, 100, 0, SECONDS_OF_BACKGROUND) == 50
    assert room(busy, 100, 60, SECONDS_OF_BACKGROUND) == 0


@pytest.mark.parametrize(
    ("free", "per_second", "on_broker", "expected"),
    [
        (8, 0, 0, 8),
        (8, 0, 8, 0),
        (8, 0, 3, 5),
        (0, 0, 0, 1),  # busy workers get one, so that their rate is ever known
        (0, 0, 1, 0),
        (0, 0.2, 0, 1),
        (0, 100, 40, 60),
        (8, 100, 108, 0),
        (8, 99.5, 100, 8),
        (8, 50, 500, 0),
        (8, 1e9, 0, MOST_ON_BROKER),
        (8, 1e9, MOST_ON_BROKER, 0),
    ],
)
def test_room_is_for_the_free_threads_and_a_second_of_work(free, per_second, on_broker, expected):
    assert room(Capacity(threads=8, free=free), per_second, on_broker) == expected


@pytest.mark.parametrize(
    ("free", "per_second", "on_broker", "at_once", "expected"),
    [
        (8, 0, 0, 100, 800),
        (0, 0, 0, 100, 800),  # they are at the messages before
        (0, 0, 300, 100, 500),
        (8, 5_000, 0, 100, MOST_ON_BROKER),
        (0, 0, 0, 1, 1),
    ],
)
def test_of_jobs_known_to_be_short_there_is_room_for_a_message_each_thread(
    free, per_second, on_broker, at_once, expected
):
    assert room(Capacity(threads=8, free=free), per_second, on_broker, at_once=at_once) == expected


def test_threads_that_are_busy_with_long_jobs_need_no_message_of_short_ones():
    capacity = Capacity(threads=64, free=0, long=63)
    assert room(capacity, 0, 0, at_once=10) == 10
    assert Burden(capacity, room_anyway=10).bearable([0.03] * 640) == 33  # a second of one thread's work


@pytest.mark.parametrize(
    ("seconds", "free", "room_anyway", "kept"),
    [
        ([0.001] * 800, 8, 8, 800),
        ([60.0] * 800, 8, 8, 8),
        ([60.0] * 800, 0, 2000, 1),  # so that its rate is ever known
        ([math.inf] * 800, 8, 20, 20),  # nobody knows how long they are
        ([math.inf] * 800, 8, 2, 8),
        ([0.001] * 500 + [60.0] * 300, 8, 2000, 500),
        ([60.0] + [0.001] * 799, 8, 8, 8),
        ([0.5] * 100, 8, 8, 16),  # a second of work for each of 8 threads
        ([0.001] * 100 + [math.inf] * 100, 8, 150, 150),
        ([], 8, 8, 0),
    ],
)
def test_what_turns_out_longer_than_the_jobs_before_is_given_back(seconds, free, room_anyway, kept):
    capacity = Capacity(threads=8, free=free)
    assert Burden(capacity, room_anyway).bearable(seconds) == kept
    one_by_one = Burden(capacity, room_anyway)
    assert sum(1 for _ in takewhile(lambda one: one_by_one.bearable([one]), seconds)) == kept


@pytest.mark.parametrize(
    ("step", "seconds"),
    [
        (Step(before=5, claimed=0, more_due=False, rate=100), LONGEST_SLEEP),
        (Step(before=5, claimed=3, more_due=False, rate=100), SECOND_LOOK),
        (Step(before=0, claimed=8, more_due=True, rate=0), 0.01),
        (Step(before=0, claimed=8, more_due=True, rate=0, wanting=True), 0.01),
        (Step(before=7, claimed=17, more_due=True, rate=16, wanting=True), 0.02),
        (Step(before=50, claimed=50, more_due=True, rate=1000), 0.05),
        (Step(before=200, claimed=1000, more_due=True, rate=4000, whole=True), 0.02),
        (Step(before=200, claimed=1000, more_due=True, rate=4000), 0.15),
        (Step(before=1, claimed=0, more_due=True, rate=1000), 0.02),
        (Step(before=900, claimed=100, more_due=True, rate=1), 0.25),
        (Step(before=1, claimed=0, more_due=True, rate=0), 0.25),
    ],
)
def test_the_pause_lasts_until_half_of_the_brokers_jobs_are_begun(step, seconds):
    assert pause(step) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("lanes", "seconds"),
    [
        ([], LONGEST_SLEEP),
        ([(0, True)], LONGEST_SLEEP),
        ([(0.4, False)], 0.4),
        ([(30, False), (0.4, False), (-5, True)], 0.4),
        ([(-3, False)], 0.005),  # due by this clock and not yet by the database's: ask again, but do not spin
    ],
)
def test_the_next_due_time_ends_the_sleep(lanes, seconds):
    with time_machine.travel(NOW, tick=False):
        found = [Lane("default", 0, NOW + timedelta(seconds=wait), due) for wait, due in lanes]
        assert until_due(found) == pytest.approx(seconds)


# All of it together: a queue with a backlog that never ends, and workers that begin so many jobs a second.


@dataclass
class Workers:
    threads: int
    per_second: float
    on_broker: float = 0.0
    done: float = 0.0

    def work(self, seconds: float) -> None:
        begun = min(self.on_broker, self.per_second * seconds)
        self.on_broker -= begun
        self.done += begun


CLAIM_SECONDS = 60e-6
"""So long each job of a claim and its message keep the dispatcher busy, while its workers go on."""


def simulate(workers: Workers, seconds: float, depth: float, told: float = 0) -> float:
    """Dispatch for so long, `depth` seconds of work deep; gives the most jobs on the broker in the second half.

    Workers have `told` that they do so many a second.
    """
    at_once = jobs_a_message(workers.threads / told) if told else 1
    rate, now, deepest = Rate(), 0.0, 0.0
    while now < seconds:
        before = int(workers.on_broker)
        free = 0 if before else workers.threads
        rate.seen(before, now, workers.threads)
        sent = min(room(Capacity(workers.threads, free), rate.per_second, before, depth, at_once), MOST_PER_STEP)
        workers.work(sent * CLAIM_SECONDS)
        workers.on_broker += sent
        rate.leaves(before + sent, now)
        if now > seconds / 2:
            deepest = max(deepest, workers.on_broker)
        step = Step(before, sent, True, rate.expected(told), rate.wanting, sent == MOST_PER_STEP)
        asleep = 0.002 + pause(step)
        workers.work(asleep)
        now += sent * CLAIM_SECONDS + asleep
    return deepest


@pytest.mark.parametrize("depth", [SECONDS_OF_WORK, SECONDS_OF_BACKGROUND])
@pytest.mark.parametrize(
    ("per_second", "told"), [(1, 0), (20, 0), (200, 0), (1500, 0), (4000, 0), (9000, 9000), (9000, 2000), (9000, 0)]
)
def test_throughput_ramps_up_to_what_the_workers_can_do_and_the_broker_stays_shallow(per_second, told, depth):
    workers = Workers(threads=8, per_second=per_second)
    simulate(workers, 10, depth, told)
    begun = workers.done

    deepest = simulate(workers, 20, depth, told)

    assert begun >= 0.9 * 10 * per_second
    assert workers.done - begun >= 0.9 * 20 * per_second
    # Of few, one is the least that is sent, and one that has begun by half is there still.
    assert deepest <= max(1.25 * depth * per_second, 2) + workers.threads
