"""What a handler hears of a cancellation, and when."""

import threading
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from jobs.context import Context
from jobs.outcomes import CancelRequested

SOON = 0.3  # a nap of `wait` is half a second


def context() -> Context:
    given: Any = None  # the way out, which none of these needs
    return Context(UUID(int=1), "acme.job", UUID(int=2), 1, 3, 7, {}, timedelta(60), None, given, given, given)


def test_a_wait_that_nobody_ends_is_as_long_as_asked():
    began = time.monotonic()
    context().wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_a_cancellation_ends_every_wait_at_once():
    asked, ended = context(), []

    def wait() -> None:
        with pytest.raises(CancelRequested):
            asked.wait(30)
        ended.append(time.monotonic())

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while asked._bell is None or len(asked._bell._cond._waiters) < 3:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    began = time.monotonic()
    asked.cancel()
    asked.cancel()
    for thread in threads:
        thread.join(10)
    assert len(ended) == 3
    assert max(ended) - began < SOON


@pytest.mark.parametrize("seconds", [30, 0])
def test_what_was_asked_before_is_heard_before_any_wait(seconds: int):
    asked = context()
    assert not asked.cancelled
    asked.cancel()
    assert asked.cancelled
    began = time.monotonic()
    with pytest.raises(CancelRequested):
        asked.wait(seconds)
    assert time.monotonic() - began < SOON
