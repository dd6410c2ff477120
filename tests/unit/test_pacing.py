"""The decisions of a redrive: its pace, how far ahead of its answers it goes, and when it gives up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs import pacing
from jobs.pacing import BURST_SECONDS, JUDGED_BY, MOST_A_STEP, TRIAL
from models.ids import new_id
from models.redrive_letters import Sighting
from models.redrives import Action, Fate, Redrive, RedriveState
from models.states import State

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def redrive(**told: Any) -> Redrive:
    columns: dict[str, Any] = {
        "id": new_id(),
        "tenant_id": new_id(),
        "action": Action.REPLAY,
        "filter": {},
        "rate_per_second": 50.0,
        "ramp_seconds": 0.0,
        "abort_when_failure_ratio": 0.5,
        "priority": -100,
        "created_by": "key:k",
        "state": RedriveState.RUNNING,
        "reason": None,
        "created_at": NOW,
        "finished_at": None,
        "matched": 1000,
        "handled": 0,
        **dict.fromkeys(map(str, Fate), 0),
        "active_seconds": 0.0,
        "credit": 0.0,
        "stepped_at": NOW,
        "recent": "",
        "swept": 0,
        "last_handled_at": None,
        "steered_at": None,
    }
    return Redrive(**columns | told)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("told", "seconds", "credit"),
    [
        ({}, 0.2, 10),
        ({"credit": 7.0}, 0.2, 17),
        ({}, 3600, 50 * BURST_SECONDS),
        ({"credit": 49.0}, 1, 50 * BURST_SECONDS),
        ({"rate_per_second": 0.1}, 10, 1),
        ({"rate_per_second": 0.1}, 3600, 1),
        ({"ramp_seconds": 10.0}, 1, 2.5),
        ({"ramp_seconds": 10.0, "active_seconds": 5.0}, 0.2, 5.1),
        ({"ramp_seconds": 10.0, "active_seconds": 20.0}, 0.2, 10),
        ({"stepped_at": None}, 5, 0),
        ({}, -5, 0),
    ],
)
def test_credit_grows_with_the_time_that_passed_and_no_more_than_a_second_is_made_up(
    told: dict[str, Any], seconds: float, credit: float
):
    assert pacing.credited(redrive(**told), after(seconds)).credit == pytest.approx(credit)


def test_over_a_ramp_the_letters_are_those_of_half_the_rate():
    paced, handled = redrive(ramp_seconds=10.0, abort_when_failure_ratio=None), 0
    for tick in range(1, 51):
        paced = pacing.credited(paced, after(tick / 5))
        step = pacing.next_step(paced, after(tick / 5))
        handled += step.take
        paced = pacing.taken(paced, [Fate.REPLAYED] * step.take, after(tick / 5))
    assert handled == pytest.approx(50 * 10 / 2, rel=0.01)


@pytest.mark.parametrize(
    ("told", "take"),
    [
        ({"credit": 0.9}, 0),
        ({"credit": 5.7}, 5),
        ({"credit": 5.0, "matched": 3}, 3),
        ({"credit": 9999.0, "abort_when_failure_ratio": None, "matched": 10_000}, MOST_A_STEP),
        ({"credit": 500.0}, TRIAL),
        ({"credit": 500.0, "replayed": TRIAL, "handled": TRIAL}, 0),
        ({"credit": 500.0, "replayed": TRIAL - 2, "handled": TRIAL, "succeeded_again": 2, "recent": "ss"}, 22),
        ({"credit": 500.0, "replayed": 12, "died_again": 8, "handled": TRIAL, "recent": "d" * 8}, 0),
        ({"credit": 500.0, "succeeded_again": 2, "died_again": 40, "handled": 42, "abort_when_failure_ratio": 1.0}, 20),
        ({"credit": 500.0, "action": Action.DISCARD}, 500),
        ({"credit": 500.0, "failing": TRIAL, "handled": TRIAL, "succeeded_again": 10, "recent": "s" * 10}, 0),
        ({"credit": 500.0, "failing": 2, "handled": TRIAL, "succeeded_again": 18, "recent": "s" * 18}, 198),
    ],
)
def test_it_takes_what_its_credit_its_letters_and_its_answers_allow(told: dict[str, Any], take: int):
    assert pacing.next_step(redrive(**told), NOW).take == take


@pytest.mark.parametrize(
    ("told", "aborts"),
    [
        ({"recent": "d" * TRIAL}, True),
        ({"recent": "d" * (TRIAL // 2)}, True),
        ({"recent": "d" * (TRIAL // 2 - 1)}, False),
        ({"recent": "d" * 10 + "s" * 10}, True),
        ({"recent": "d" * 9 + "s" * 11}, False),
        ({"recent": "d" * JUDGED_BY, "succeeded_again": 20_000}, True),
        ({"recent": "d" * JUDGED_BY, "abort_when_failure_ratio": None}, False),
        ({"recent": "s" * JUDGED_BY, "abort_when_failure_ratio": 0.001}, False),
        ({"recent": "d" + "s" * 49, "abort_when_failure_ratio": 0.02}, True),
        ({"recent": "d" * 49 + "s", "abort_when_failure_ratio": 1.0}, False),
        ({"recent": "ddd", "matched": 3, "handled": 3, "died_again": 3}, True),
        ({"recent": "dds", "matched": 3, "handled": 3, "died_again": 2, "abort_when_failure_ratio": 0.9}, False),
        ({"matched": 0}, False),
    ],
)
def test_it_aborts_when_too_many_of_the_last_answers_are_deaths(told: dict[str, Any], aborts: bool):
    step = pacing.next_step(redrive(**told), NOW)
    assert (step.end is RedriveState.ABORTED) is aborts
    assert (step.reason is not None) is aborts


@pytest.mark.parametrize(
    ("told", "end"),
    [
        ({"matched": 0}, RedriveState.SUCCEEDED),
        ({"matched": 5, "handled": 5, "succeeded_again": 5, "recent": "sssss"}, RedriveState.SUCCEEDED),
        ({"matched": 5, "handled": 5, "replayed": 1, "last_handled_at": after(-60)}, None),
        ({"matched": 5, "handled": 5, "failing": 1, "last_handled_at": after(-3601)}, RedriveState.SUCCEEDED),
        ({"matched": 5, "handled": 4, "last_handled_at": after(-3601)}, None),
    ],
)
def test_it_succeeds_when_all_have_had_their_turn_and_are_answered_or_an_hour_later(
    told: dict[str, Any], end: RedriveState | None
):
    assert pacing.next_step(redrive(**told), NOW).end is end


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({"credit": 0.0}, 0.2),
        ({"credit": 0.0, "rate_per_second": 0.5}, 2),
        ({"credit": 0.0, "rate_per_second": 0.01}, 30),
        ({"matched": 5, "handled": 5, "replayed": 5, "last_handled_at": NOW}, 0.2),
        ({"matched": 5, "handled": 5, "replayed": 5, "last_handled_at": after(-8)}, 2),
        ({"matched": 5, "handled": 5, "replayed": 5, "last_handled_at": after(-3000)}, 30),
    ],
)
def test_it_looks_again_when_it_may_go_on_and_seldom_when_answers_take_long(told: dict[str, Any], seconds: float):
    assert pacing.next_step(redrive(**told), NOW).wait_seconds == pytest.approx(seconds)


@pytest.mark.parametrize(("seconds", "nap"), [(0, 2), (10, 10), (86_400, 600)])
def test_a_paused_one_looks_ever_more_seldom(seconds: float, nap: float):
    assert pacing.paused(redrive(steered_at=NOW), after(seconds)).wait_seconds == nap


def seen(place: int, state: State | None, fate: Fate = Fate.REPLAYED, attempt: int = 0, at: float = 0) -> Sighting:
    final = state not in {State.QUEUED, State.DISPATCHED, State.RUNNING, None}
    return Sighting(place, fate, state, attempt, after(at) if final else None)


@pytest.mark.parametrize(
    ("state", "was", "attempt", "fate"),
    [
        (State.QUEUED, Fate.REPLAYED, 0, Fate.REPLAYED),
        (State.QUEUED, Fate.REPLAYED, 1, Fate.FAILING),
        (State.DISPATCHED, Fate.FAILING, 1, Fate.FAILING),
        (State.RUNNING, Fate.REPLAYED, 1, Fate.REPLAYED),
        (State.RUNNING, Fate.FAILING, 2, Fate.FAILING),
        (State.SUCCEEDED, Fate.FAILING, 2, Fate.SUCCEEDED),
        (State.DEAD, Fate.REPLAYED, 1, Fate.DIED),
        (State.CANCELLED, Fate.REPLAYED, 0, Fate.OTHERWISE),
        (State.DISCARDED, Fate.FAILING, 1, Fate.OTHERWISE),
        (None, Fate.REPLAYED, 0, Fate.OTHERWISE),
    ],
)
def test_a_letters_fate_follows_its_job(state: State | None, was: Fate, attempt: int, fate: Fate):
    told, changed = pacing.answered(redrive(**{str(was): 1}), [seen(7, state, was, attempt)], 100)
    assert getattr(told, fate) == 1
    assert changed == ({} if fate is was else {7: fate})
    assert sum(getattr(told, one) for one in Fate) == 1


def test_answers_stand_in_line_as_they_came_and_the_last_are_kept():
    answers = [seen(1, State.DEAD, at=2), seen(2, State.SUCCEEDED, at=1), seen(3, State.SUCCEEDED, at=3)]
    told, _ = pacing.answered(redrive(replayed=3, recent="d" * JUDGED_BY), answers, 100)
    assert told.recent == "d" * (JUDGED_BY - 3) + "sds"


def test_a_look_goes_on_where_the_last_ended_and_begins_anew_at_the_end():
    waiting = [seen(place, State.QUEUED) for place in (4, 9)]
    assert pacing.answered(redrive(replayed=2), waiting, 2)[0].swept == 9
    assert pacing.answered(redrive(replayed=2, swept=3), waiting, 3)[0].swept == 0


def test_letters_that_had_their_turn_are_counted_and_paid_for_unless_skipped():
    told = pacing.taken(redrive(credit=3.5), [Fate.REPLAYED, Fate.SKIPPED, Fate.REPLAYED], after(1))
    assert (told.handled, told.replayed, told.skipped, told.credit) == (3, 2, 1, 1.5)
    assert told.last_handled_at == after(1)
    assert pacing.taken(told, [], after(9)) == told
