"""The arithmetic of a window that slides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.rates import Policy, Used, parse, standing, take

TEN = Policy(10, 60)


def granted(policy: Policy, moments: list[float]) -> list[float]:
    used, let = Used(), []
    for at in moments:
        used, taken = take(used, policy, at)
        let += [at] if taken else []
    return let


def test_a_policy_lets_through_its_quota_and_no_more():
    assert len(granted(TEN, [600.0] * 25)) == 10


def test_what_is_refused_does_not_count():
    assert granted(TEN, [600.0] * 25 + [720.0] * 25) == [600.0] * 10 + [720.0] * 10


def test_no_double_burst_passes_at_the_border_of_two_windows():
    assert granted(TEN, [659.9] * 10 + [660.1] * 10) == [659.9] * 10
    # Half a window later half of it is out of sight.
    assert len(granted(TEN, [659.9] * 10 + [690.0] * 10)) == 15


@given(st.lists(st.floats(0, 300), max_size=200).map(sorted), st.integers(1, 20), st.integers(1, 60))
def test_no_window_at_a_border_lets_through_more_than_the_quota(moments: list[float], quota: int, seconds: int):
    let = granted(Policy(quota, seconds), moments)
    for window in range(301 // seconds + 1):
        assert sum(window * seconds <= at < (window + 1) * seconds for at in let) <= quota


@given(st.lists(st.floats(0, 300), min_size=1, max_size=100).map(sorted), st.integers(1, 10), st.integers(1, 60))
def test_whoever_comes_back_when_he_was_told_is_let_through(moments: list[float], quota: int, seconds: int):
    policy, used = Policy(quota, seconds), Used()
    for at in moments:
        used, taken = take(used, policy, at)
        told = standing(used, policy, at, taken=taken)
        assert 0 <= told.left <= quota
        assert 1 <= told.resets_in <= seconds
        if not taken:
            assert 1 <= told.retry_in <= 2 * seconds
            assert take(used, policy, at + told.retry_in + 1e-6)[1]


@pytest.mark.parametrize(("text", "policy"), [("600/60", Policy(600, 60)), ("1/1", Policy(1, 1)), ("none", None)])
def test_a_policy_is_read_as_it_is_written(text: str, policy: Policy | None):
    assert parse(text) == policy
    assert str(policy or "none") == text


@pytest.mark.parametrize("text", ["", "600", "600/", "/60", "0/60", "60/0", "-1/60", "1.5/60", "600/minute", "None"])
def test_what_is_no_policy_is_refused(text: str):
    with pytest.raises(ValueError, match="requests/seconds"):
        parse(text)


@pytest.mark.parametrize(
    ("one", "other", "within"),
    [
        ("10/60", "10/60", True),
        ("5/60", "10/60", True),
        ("10/120", "10/60", True),
        ("11/60", "10/60", False),
        ("10/30", "10/60", False),
        ("20/3600", "10/60", False),
    ],
)
def test_a_policy_is_within_another_at_once_and_in_the_long_run(one: str, other: str, within: bool):
    tight, loose = parse(one), parse(other)
    assert tight is not None
    assert tight.within(loose) is within
    assert tight.within(None)
