from dataclasses import replace

import pytest

from models.ids import new_id
from models.moves import Moved
from models.states import State
from models.worker import Capacity
from workers.duties.grouping import REMEMBERED_SECONDS, MessageSizes, envelopes, message_size
from workers.messages import MOST_REFS

EIGHT = Capacity(threads=8, free=8)


def claimed(how_many: int, *, lost: int = 0) -> list[Moved]:
    return [
        Moved(new_id(), 1, new_id(), "demo.echo", "default", State.DISPATCHED, attempt=0, lost=lost)
        for _ in range(how_many)
    ]


@pytest.mark.parametrize(
    ("per_second", "jobs", "size"),
    [
        (0, 500, 1),  # nothing is known of their length
        (8, 500, 1),  # a second each
        (80, 500, 1),  # a tenth of a second each
        (800, 500, 10),
        (80_000, 5_000, MOST_REFS),
        (800, 40, 5),  # each thread gets a share
        (800, 8, 1),
        (800, 3, 1),  # no backlog
    ],
)
def test_a_message_names_as_many_jobs_as_keep_a_thread_busy_for_a_moment(per_second, jobs, size):
    assert message_size(EIGHT, per_second, jobs) == size


def test_without_threads_there_is_nothing_to_group_for():
    assert message_size(Capacity(0, 0), 1000, 500) == 1


def test_every_claimed_job_is_in_one_message_in_order():
    jobs = claimed(7)
    messages = envelopes(jobs, 3)
    assert [len(message.refs) for message in messages] == [3, 3, 1]
    assert [ref for message in messages for ref in message.refs] == [job.ref for job in jobs]
    assert {message.queue for message in messages} == {"default"}


def test_a_job_that_was_lost_with_its_worker_travels_alone():
    first, second, third, fourth = claimed(4)
    suspect = replace(second, lost=1)
    assert [message.refs for message in envelopes([first, suspect, third, fourth], 10)] == [
        (first.ref, third.ref, fourth.ref),
        (suspect.ref,),
    ]


def test_nothing_claimed_makes_no_message():
    assert envelopes([], 10) == []


def test_the_largest_message_is_remembered_until_it_must_have_been_taken():
    sizes = MessageSizes()
    assert sizes.largest("default") == MOST_REFS  # an earlier dispatcher may have sent any
    sizes.sent("default", 20, now=0.0)
    sizes.sent("default", 3, now=REMEMBERED_SECONDS)
    assert sizes.largest("default") == 20
    sizes.sent("default", 3, now=REMEMBERED_SECONDS + 1)
    assert sizes.largest("default") == 3
    assert sizes.largest("media") == MOST_REFS
