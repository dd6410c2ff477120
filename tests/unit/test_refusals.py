"""When a channel that refuses a queue's messages is taken for stuck."""

from itertools import pairwise

from workers.refusals import FIRST_PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS, Refusals


def test_a_refusal_is_nothing_until_it_goes_on():
    refusals = Refusals()
    assert not refusals.refused("a", 100.0)
    assert not refusals.refused("a", 100.0 + FIRST_PATIENCE_SECONDS - 0.01)
    assert refusals.refused("a", 100.0 + FIRST_PATIENCE_SECONDS)


def test_a_message_that_is_taken_ends_it_and_other_queues_have_no_part_in_it():
    refusals = Refusals()
    refusals.refused("a", 100.0)
    refusals.accepted("a")
    assert not refusals.refused("a", 150.0)
    assert not refusals.refused("b", 150.5)
    assert refusals.refused("a", 151.0)


def test_where_no_channel_helps_they_are_tried_ever_more_rarely():
    refusals, now, tries = Refusals(), 0.0, []
    while now < 600:
        if refusals.refused("a", now):
            tries.append(now)
        now += 0.25
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert tries[0] == FIRST_PATIENCE_SECONDS
    assert waits[:3] == [2, 4, 8]
    assert set(waits[6:]) == {LONGEST_PATIENCE_SECONDS}
