import pytest

from workers.durations import Durations


def after(*seconds: float) -> Durations:
    durations = Durations()
    for one in seconds:
        durations.ran("demo.echo", one)
    return durations


def test_the_first_run_of_a_type_is_news_until_it_is_told():
    durations = after(0.2)
    assert durations.news() == {"demo.echo": 0.2}
    durations.told(durations.news())
    assert durations.news() == {}


def test_nothing_has_run_and_nothing_is_news():
    assert Durations().news() == {}


@pytest.mark.parametrize(("later", "is_news"), [(0.2, False), (0.22, False), (9.0, True)])
def test_a_type_that_takes_much_longer_than_was_told_is_news(later, is_news):
    durations = after(0.2)
    durations.told(durations.news())
    durations.ran("demo.echo", later)
    assert bool(durations.news()) == is_news


def test_what_is_too_short_to_matter_is_no_news():
    durations = after(0.00001)
    durations.told(durations.news())
    for _ in range(100):
        durations.ran("demo.echo", 0.0004)
    assert durations.news() == {}


def test_a_slow_first_call_is_forgotten_after_a_hundred_quick_ones():
    mean = after(0.5, *[0.0001] * 100).news()["demo.echo"]
    assert mean < 0.005


def test_one_slow_run_in_twenty_keeps_a_type_slow():
    mean = after(*([0.001] * 19 + [2.0]) * 20).news()["demo.echo"]
    assert mean > 0.05


def test_news_of_one_type_tells_of_all():
    durations = after(0.2)
    durations.told(durations.news())
    durations.ran("demo.sleep", 1.0)
    assert durations.news() == {"demo.echo": 0.2, "demo.sleep": 1.0}
