import pytest

from models.durations import Lately
from workers.durations import MOST_RUNS, TOLD_EVERY_SECONDS, Durations

NOW = 1000.0
LATER = NOW + TOLD_EVERY_SECONDS


def after(*seconds: float) -> Durations:
    durations = Durations()
    for one in seconds:
        durations.ran("demo.echo", one)
    return durations


def told(*seconds: float) -> Durations:
    durations = after(*seconds)
    durations.told(durations.news(NOW), NOW)
    return durations


def test_the_first_run_of_a_type_is_news_until_it_is_told():
    durations = after(0.2)
    assert durations.news(NOW) == {"demo.echo": Lately(0.2, 1)}
    durations.told(durations.news(NOW), NOW)
    assert durations.news(LATER) == {}


def test_the_first_run_of_a_type_rings_and_no_other():
    durations = after(0.2)
    assert durations.unheard.is_set()
    durations.unheard.clear()
    durations.ran("demo.echo", 9.0)
    assert not durations.unheard.is_set()
    durations.ran("demo.sleep", 1.0)
    assert durations.unheard.is_set()


def test_nothing_has_run_and_nothing_is_news():
    assert Durations().news(NOW) == {}


@pytest.mark.parametrize(("later", "is_news"), [(0.2, False), (0.25, False), (9.0, True), (0.0, False)])
def test_a_type_that_takes_much_longer_than_was_told_is_news(later, is_news):
    durations = told(*[0.2] * 20)
    durations.ran("demo.echo", later)
    assert bool(durations.news(LATER)) == is_news


def test_what_is_known_much_better_is_news():
    durations = told(0.2)
    for _ in range(8):
        durations.ran("demo.echo", 0.2)
    assert durations.news(LATER) == {}
    durations.ran("demo.echo", 0.2)
    assert durations.news(NOW)["demo.echo"].runs == 10, "without delay"


def test_news_is_told_now_and_then_and_a_new_type_at_once():
    durations = told(0.2)
    durations.ran("demo.echo", 9.0)
    assert durations.news(LATER - 0.1) == {}
    assert durations.news(LATER)
    durations.ran("demo.sleep", 1.0)
    assert durations.news(NOW).keys() == {"demo.echo", "demo.sleep"}


def test_what_is_too_short_to_matter_is_no_news():
    durations = told(*[0.00001] * MOST_RUNS)
    for _ in range(MOST_RUNS):
        durations.ran("demo.echo", 0.0004)
    assert durations.news(LATER) == {}


def test_a_slow_first_call_is_forgotten_after_some_hundred_quick_ones():
    mean = after(0.5, *[0.0001] * 6 * MOST_RUNS).news(NOW)["demo.echo"]
    assert mean.seconds < 0.001
    assert mean.runs == MOST_RUNS


def test_one_slow_run_in_twenty_keeps_a_type_slow():
    mean = after(*([0.001] * 19 + [2.0]) * 20).news(NOW)["demo.echo"]
    assert mean.seconds == pytest.approx(0.1, rel=0.3)
