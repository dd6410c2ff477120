from datetime import UTC, datetime, timedelta

import pytest

from models.lineup import InHand
from models.queue import LEAST_PER_SECOND, MOST_PER_SECOND, Queue
from workers.duties.limits import allowance, look_again, paced_until, surplus

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def in_hand(on_broker=0, running=0, at=NOW):
    return InHand(on_broker, running, at)


def queue(**columns):
    return Queue("media", **columns)


@pytest.mark.parametrize(
    ("on_broker", "running", "expected"), [(0, 0, 3), (1, 0, 2), (0, 2, 1), (1, 2, 0), (3, 3, 0), (0, 9, 0)]
)
def test_what_is_on_the_broker_counts_as_running(on_broker, running, expected):
    assert allowance(queue(max_running=3), in_hand(on_broker, running)) == expected


@pytest.mark.parametrize(
    ("limits", "on_broker", "running", "expected"),
    [
        ({"max_running": 3}, 2, 1, 0),
        ({"max_running": 3}, 2, 2, 1),
        ({"max_running": 3}, 2, 9, 2),
        ({"max_running": 3}, 0, 9, 0),
        ({"max_per_second": 1}, 9, 9, 0),
        ({"paused_at": NOW, "paused_by": "x"}, 4, 2, 4),
        ({"paused_at": NOW, "paused_by": "x", "max_running": 9}, 4, 2, 4),
    ],
)
def test_what_came_to_the_broker_before_the_limit_is_surplus(limits, on_broker, running, expected):
    assert surplus(queue(**limits), in_hand(on_broker, running)) == expected


@pytest.mark.parametrize(
    ("rate", "paced_ago", "expected"),
    [
        (1, None, 1),
        (0.1, None, 1),
        (100, None, 10),
        (1, 0, 0),
        (1, 0.5, 0),
        (1, 1, 1),
        (1, 60, 1),
        (100, 0.02, 2),
        (100, 3600, 10),
        (100, -0.5, 0),
    ],
)
def test_a_rate_lets_out_what_is_unused_and_not_old(rate, paced_ago, expected):
    until = None if paced_ago is None else NOW - timedelta(seconds=paced_ago)
    assert allowance(queue(max_per_second=rate, paced_until=until), in_hand()) == expected


def test_a_rate_lets_nothing_out_while_the_workers_leave_a_quarter_of_a_second_of_it_waiting():
    assert allowance(queue(max_per_second=100), in_hand(on_broker=25)) == 0
    assert allowance(queue(max_per_second=100), in_hand(on_broker=22)) == 3
    assert allowance(queue(max_per_second=0.1), in_hand(on_broker=1)) == 0


def test_the_tighter_of_two_limits_counts():
    assert allowance(queue(max_running=3, max_per_second=100), in_hand(running=1)) == 2
    assert allowance(queue(max_running=50, max_per_second=100), in_hand(running=1)) == 10


def test_a_queue_without_a_rate_is_not_paced():
    assert paced_until(queue(max_running=3), 2, NOW) is None


@pytest.mark.parametrize("rate", [LEAST_PER_SECOND, MOST_PER_SECOND])
def test_the_least_and_the_most_of_rates_can_be_reckoned_with(rate):
    held = queue(max_per_second=rate, paced_until=NOW)
    assert allowance(held, in_hand()) == 0
    assert (paced_until(held, 1, NOW) or NOW) > NOW
    assert 0 < look_again(held, rate) <= 0.25


@pytest.mark.parametrize("rate", [0.5, 7, 50, 333.3, 5000])
@pytest.mark.parametrize("late", [0.0, 0.03])
def test_looks_at_their_leisure_keep_the_rate(rate, late):
    """Handed out by whoever leads at the time: nothing is known but the row."""
    held, now, handed_out = queue(max_per_second=rate), NOW, []
    while now < NOW + timedelta(seconds=20):
        jobs = allowance(held, in_hand(at=now))
        handed_out += [now] * jobs
        held = queue(max_per_second=rate, paced_until=paced_until(held, jobs, now) if jobs else held.paced_until)
        now += timedelta(seconds=look_again(held, rate) + late)

    assert 20 * rate * 0.9 - 1 <= len(handed_out) <= 20 * rate * 1.02 + 1
    for first in range(0, len(handed_out), max(1, len(handed_out) // 50)):
        second = [at for at in handed_out[first:] if at - handed_out[first] < timedelta(seconds=1)]
        assert len(second) <= 1.1 * rate + 2


@pytest.mark.parametrize(
    ("limits", "per_second", "seconds"),
    [
        ({"max_per_second": 1000}, 0, 0.02),
        ({"max_per_second": 10}, 0, 0.05),
        ({"max_per_second": 0.1}, 0, 0.25),
        ({"max_running": 3}, 0, 0.25),
        ({"max_running": 3}, 30, 0.05),
        ({"max_running": 3}, 3000, 0.02),
    ],
)
def test_a_limited_queue_is_looked_at_neither_always_nor_seldom(limits, per_second, seconds):
    assert look_again(queue(**limits), per_second) == pytest.approx(seconds)
