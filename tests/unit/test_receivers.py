"""What follows from how a receiver of webhooks answers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from jobs.receivers import CLOSES_AFTER, FIRST_HOLD, GIVEN_UP_AFTER, LONGEST_HOLD, Sign, after, given_up
from models.gate import Gate
from models.ids import new_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FINE = Gate(new_id(), new_id(), "https://example.com", 0, None, None, NOW, NOW)


def silent(times: int, gate: Gate = FINE) -> Gate:
    for _ in range(times):
        gate = after(gate, Sign.SILENCE)
    return gate


def test_a_receiver_that_does_well_stays_as_it_is():
    assert after(FINE, Sign.SUCCESS) == FINE


def test_a_few_attempts_without_an_answer_close_nothing():
    assert not silent(CLOSES_AFTER - 1).closed
    assert silent(CLOSES_AFTER).closed


def test_each_further_one_holds_its_deliveries_back_for_twice_as_long_up_to_the_longest():
    holds = [silent(CLOSES_AFTER + beyond).closed_until - NOW for beyond in range(12)]  # type: ignore[operator]
    assert holds[:3] == [FIRST_HOLD, 2 * FIRST_HOLD, 4 * FIRST_HOLD]
    assert holds[-1] == LONGEST_HOLD == max(holds)
    assert silent(10_000).closed_until == NOW + LONGEST_HOLD


@pytest.mark.parametrize("sign", [Sign.SUCCESS, Sign.FAILURE])
def test_any_answer_opens_the_gate(sign: Sign):
    opened = after(silent(20), sign)
    assert (opened.unanswered, opened.closed_until) == (0, None)


def test_only_a_success_ends_the_time_of_failures():
    later = replace(after(FINE, Sign.FAILURE), now=NOW + timedelta(days=1))
    assert after(later, Sign.FAILURE).failing_since == NOW
    assert after(later, Sign.SILENCE).failing_since == NOW
    assert after(later, Sign.SUCCESS).failing_since is None


@pytest.mark.parametrize(
    ("failing_for", "expected"),
    [(timedelta(0), False), (GIVEN_UP_AFTER - timedelta(seconds=1), False), (GIVEN_UP_AFTER, True)],
)
def test_it_is_given_up_after_five_days_of_nothing_but_failures(failing_for: timedelta, expected: bool):
    assert given_up(replace(FINE, failing_since=NOW - failing_for)) is expected
    assert not given_up(FINE)
