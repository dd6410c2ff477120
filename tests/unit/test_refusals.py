"""When a channel that refuses a queue's messages is taken for stuck."""

from itertools import pairwise

from workers.refusals import FIRST_PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS, Refusals


def test_a_refusal_is_nothing_until_it_goes_on():
    refusals = Refusals()
    assert not refusals.refused("a", 100.0)
    assert not refusals.refused("a", 100.0 + FIRST_PATIENCE_SECONDS - 0.01)
    assert refusals.refused("a", 100.0 + FIRST_PATIENCE_SECONDS)


def test_a_channel_that_a_queue_once_took_a_message_from_is_not_stuck_with_it():
    refusals = Refusals()
    refusals.accepted("a")
    assert not refusals.refused("a", 100.0)
    assert not refusals.refused("a", 200.0)
    assert not refusals.refused("b", 200.0)
    assert refusals.refused("b", 201.0)


def test_what_was_refused_on_another_channel_says_nothing_of_this_one():
    refusals = Refusals()
    refusals.refused("a", 100.0)
    refusals.refused("b", 100.0)
    assert refusals.refused("a", 101.0)
    refusals.begin_anew()
    assert not refusals.refused("b", 101.1)
    assert refusals.refused("b", 102.1)


def test_where_no_channel_helps_they_are_tried_ever_more_rarely():
    refusals, now, tries = Refusals(), 0.0, []
    while now < 600:
        if refusals.refused("a", now):
            tries.append(now)
            refusals.begin_anew()
        now += 0.25
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert tries[0] == FIRST_PATIENCE_SECONDS
    assert waits[:3] == [2.25, 4.25, 8.25]  # it begins with the first refusal
    assert set(waits[6:]) == {LONGEST_PATIENCE_SECONDS + 0.25}
