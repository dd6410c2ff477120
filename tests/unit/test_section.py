import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from jobs.outcomes import CancelRequested, Interrupt, LeaseLost, TimedOut
from workers.section import Section

WITHDRAWN = 10
DEADLINE = 20


@pytest.fixture
def hurried_threads() -> Iterator[None]:
    """Threads take turns as often as they can, so that every place in a section meets its interrupt."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def inside(section: Section, body: Callable[[], None]) -> BaseException | None:
    """Run `body` in the section as the executor does; gives the interrupt that struck it."""
    try:
        try:
            section.enter()
            body()
        finally:
            section.leave()
    except Interrupt as interrupt:
        section.leave()
        return interrupt
    return None


def busy(section: Section) -> Callable[[], None]:
    """A Python loop that only an interrupt ends early."""

    def loop() -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            pass

    return loop


def interrupting(section: Section, kind: type[Interrupt]) -> threading.Thread:
    def strike() -> None:
        deadline = time.monotonic() + DEADLINE
        while not section.interrupt(kind) and time.monotonic() < deadline:
            pass

    thread = threading.Thread(target=strike)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", [TimedOut, CancelRequested, LeaseLost])
def test_an_interrupt_strikes_a_python_loop_inside(kind):
    section = Section()
    other = interrupting(section, kind)
    began = time.monotonic()
    struck = inside(section, busy(section))
    other.join()
    assert type(struck) is kind
    assert time.monotonic() - began < DEADLINE / 2


def test_outside_nothing_is_interrupted():
    section = Section()
    assert section.interrupt(TimedOut) is False
    assert inside(section, lambda: None) is None
    assert section.interrupt(TimedOut) is False


def test_a_section_is_interrupted_once_at_most():
    section = Section()
    answers: list[bool] = []

    def twice() -> None:
        while not section._thread:
            pass
        answers.extend(section.interrupt(kind) for kind in (TimedOut, LeaseLost))

    other = threading.Thread(target=twice)
    other.start()
    struck = inside(section, busy(section))
    other.join()
    assert answers == [True, False]
    assert type(struck) is TimedOut


def test_leaving_twice_harms_nothing():
    section = Section()
    section.enter()
    section.leave()
    section.leave()


def test_no_interrupt_surfaces_after_leave_however_close_the_race(hurried_threads: None):
    struck = raised = 0
    turn, over = [Section()], threading.Event()

    def interrupt_whatever_is_on() -> None:
        nonlocal raised
        while not over.is_set():
            raised += turn[0].interrupt(LeaseLost)

    other = threading.Thread(target=interrupt_whatever_is_on)
    other.start()
    deadline = time.monotonic() + DEADLINE
    try:
        while raised - struck < WITHDRAWN and time.monotonic() < deadline:
            turn[0] = section = Section()
            struck += inside(section, lambda: None) is not None
            # Nothing here expects an interrupt: one that surfaces ends the test.
            assert section.interrupt(TimedOut) is False
    finally:
        over.set()
        other.join()
    # It struck some, and others left when it had been raised and had not struck yet.
    assert struck > 0
    assert raised - struck >= WITHDRAWN
