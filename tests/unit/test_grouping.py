import math

import pytest

from models.ids import new_id
from models.moves import Moved
from models.states import State
from workers.duties.grouping import (
    OVERHEAD_SECONDS,
    REMEMBERED_SECONDS,
    SECONDS_A_MESSAGE,
    MessageSizes,
    envelopes,
    fair_size,
    jobs_a_message,
    mean_seconds,
)
from workers.messages import MOST_REFS

SHORT = {"demo.echo": 0.0}


def claimed(how_many: int, *, lost: int = 0, job_type: str = "demo.echo") -> list[Moved]:
    return [
        Moved(new_id(), 1, new_id(), job_type, "default", State.DISPATCHED, attempt=0, lost=lost)
        for _ in range(how_many)
    ]


@pytest.mark.parametrize(
    ("jobs", "threads", "size"),
    [(500, 8, 62), (5_000, 8, MOST_REFS), (40, 8, 5), (15, 8, 1), (3, 8, 1), (500, 0, 1), (0, 8, 1)],
)
def test_each_thread_gets_a_share_before_one_gets_more(jobs, threads, size):
    assert fair_size(jobs, threads) == size


@pytest.mark.parametrize(
    ("seconds", "jobs"),
    [
        (0.00001, MOST_REFS),
        (SECONDS_A_MESSAGE / 10, 10),
        (SECONDS_A_MESSAGE, 1),
        (60.0, 1),
        (math.inf, 1),
    ],
)
def test_a_message_is_whole_when_its_jobs_keep_a_thread_busy_for_a_moment(seconds, jobs):
    assert jobs_a_message(seconds) == jobs


def test_a_thread_is_busy_with_a_job_for_its_handler_and_a_little_more():
    assert mean_seconds(claimed(3), {"demo.echo": 0.1}) == pytest.approx(0.1 + OVERHEAD_SECONDS)
    mixed = [*claimed(9), *claimed(1, job_type="demo.sleep")]
    assert mean_seconds(mixed, SHORT | {"demo.sleep": 60}) == pytest.approx(6, abs=0.01)
    assert mean_seconds(mixed, SHORT) == math.inf, "nobody knows how long one of them is"
    assert mean_seconds([], SHORT) == math.inf


def test_a_message_ends_where_its_work_would_exceed_a_moment():
    sizes = [
        len(message.refs)
        for message in envelopes(claimed(25), 100, {"demo.echo": SECONDS_A_MESSAGE / 10.5 - OVERHEAD_SECONDS})
    ]
    assert sizes == [10, 10, 5]


@pytest.mark.parametrize("seconds_by_type", [{}, {"demo.sleep": 60.0}], ids=["unknown", "long"])
def test_jobs_that_are_long_or_of_unknown_length_travel_alone_and_short_ones_together(seconds_by_type):
    first, last = claimed(2)
    (slow,) = claimed(1, job_type="demo.sleep")
    assert [message.refs for message in envelopes([first, slow, last], 10, SHORT | seconds_by_type)] == [
        (first.ref, last.ref),
        (slow.ref,),
    ]


def test_every_claimed_job_is_in_one_message_in_order():
    jobs = claimed(7)
    messages = envelopes(jobs, 3, SHORT)
    assert [len(message.refs) for message in messages] == [3, 3, 1]
    assert [ref for message in messages for ref in message.refs] == [job.ref for job in jobs]
    assert {message.queue for message in messages} == {"default"}


def test_a_job_that_was_lost_with_its_worker_travels_alone():
    first, second, third, fourth = claimed(4)
    suspect = second._replace(lost=1)
    assert [message.refs for message in envelopes([first, suspect, third, fourth], 10, SHORT)] == [
        (first.ref, third.ref, fourth.ref),
        (suspect.ref,),
    ]


def test_nothing_claimed_makes_no_message():
    assert envelopes([], 10, SHORT) == []


def test_the_largest_message_is_remembered_until_it_must_have_been_taken():
    sizes = MessageSizes()
    assert sizes.largest("default") == MOST_REFS  # an earlier dispatcher may have sent any
    sizes.sent("default", 20, now=0.0)
    sizes.sent("default", 3, now=REMEMBERED_SECONDS)
    assert sizes.largest("default") == 20
    sizes.sent("default", 3, now=REMEMBERED_SECONDS + 1)
    assert sizes.largest("default") == 3
    assert sizes.largest("media") == MOST_REFS
