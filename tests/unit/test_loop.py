import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import REGISTRY

from models.errors import Unavailable
from workers.loop import BETWEEN_WAKES, FIRST_PAUSE, LEAST_BETWEEN_WAKES, LONGEST_PAUSE, Loop, apart

FOREVER = 3600.0


@dataclass
class Steps:
    """A duty that does as it is told; `at` are the moments of its steps."""

    name: str
    step: Callable[[int], float]
    at: list[float] = field(default_factory=list)

    def run_once(self) -> float:
        self.at.append(time.monotonic())
        return self.step(len(self.at))


@pytest.fixture
def running() -> Iterator[Callable[..., Loop]]:
    loops: list[Loop] = []

    def start(*duties: Steps, wakes: dict[str, threading.Event] | None = None) -> Loop:
        loops.append(Loop(duties, wakes))
        loops[-1].start()
        return loops[-1]

    yield start
    for loop in loops:
        loop.stop(5)
        assert not any(thread.is_alive() for thread in loop.threads)


def failures(name: str) -> float:
    return REGISTRY.get_sample_value("jobmill_step_failures_total", {"duty": name}) or 0


def failing(error: Exception) -> Callable[[int], float]:
    def step(_number: int) -> float:
        raise error

    return step


def test_a_duty_runs_again_after_the_pause_it_asked_for(running: Callable[..., Loop], eventually: Callable[..., Any]):
    duty = Steps("again", lambda number: 0.05 if number < 4 else FOREVER)
    running(duty)
    eventually(lambda: len(duty.at) == 4)
    assert all(later - earlier >= 0.05 for earlier, later in zip(duty.at, duty.at[1:], strict=False))


def test_a_duty_that_is_woken_all_the_time_does_not_run_all_the_time(running: Callable[..., Loop]):
    duty, wake = Steps("woken", lambda _number: FOREVER), threading.Event()
    running(duty, wakes={"woken": wake})
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        wake.set()
        time.sleep(0.001)
    assert 3 < len(duty.at) <= 2 + 0.5 / LEAST_BETWEEN_WAKES


@pytest.mark.parametrize(
    ("took", "seconds"), [(0.0, 0.010), (0.004, 0.010), (0.008, 0.016), (0.015, 0.020), (0.5, 0.020)]
)
def test_a_duty_that_is_woken_rests_as_long_as_its_step_took(took: float, seconds: float):
    assert apart(took) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [(ValueError("broken"), 2, 1 + 1.5 / FIRST_PAUSE), (Unavailable("away"), 10, 1 + 1.5 / BETWEEN_WAKES)],
)
def test_a_broken_duty_is_not_hurried_by_whoever_rings_and_one_without_database_is(
    running: Callable[..., Loop], error: Exception, least: int, most: float
):
    duty, wake = Steps("rung", failing(error)), threading.Event()
    running(duty, wakes={"rung": wake})
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        wake.set()
        time.sleep(0.005)
    assert least <= len(duty.at) <= most


@pytest.mark.parametrize("error", [ValueError("broken"), Unavailable("away")])
def test_a_failing_duty_is_tried_again_later_and_later_and_counted(
    running: Callable[..., Loop], eventually: Callable[..., Any], error: Exception
):
    name = f"failing-{type(error).__name__}"
    duty = Steps(name, failing(error))
    before = failures(name)
    running(duty)
    eventually(lambda: len(duty.at) == 3)
    first, second = duty.at[1] - duty.at[0], duty.at[2] - duty.at[1]
    assert first >= FIRST_PAUSE
    assert second >= 2 * FIRST_PAUSE
    assert failures(name) - before == 3


def test_the_pause_after_failures_is_bounded_and_a_good_step_ends_it(
    running: Callable[..., Loop], eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    pauses: list[float] = []

    def rest(loop: Loop, hurried_by: threading.Event, pause: float, earliest: float) -> None:
        pauses.append(pause)
        if len(pauses) > 9:
            time.sleep(0.01)

    monkeypatch.setattr(Loop, "_rest", rest)

    def step(number: int) -> float:
        if number != 8:
            raise ValueError("broken")
        return 7.0

    duty = Steps("bounded", step)
    running(duty)
    eventually(lambda: len(pauses) >= 9)
    assert pauses[:6] == [FIRST_PAUSE * 2**n for n in range(5)] + [LONGEST_PAUSE]
    assert max(pauses) == LONGEST_PAUSE
    assert pauses[7:9] == [7.0, FIRST_PAUSE]


def test_a_failing_duty_does_not_hold_up_the_others(running: Callable[..., Loop], eventually: Callable[..., Any]):
    broken, sound = Steps("broken", failing(ValueError("broken"))), Steps("sound", lambda _number: 0.001)
    running(broken, sound)
    eventually(lambda: len(sound.at) > 20)
    assert len(broken.at) == 1


def test_stop_is_prompt_even_during_a_long_pause(running: Callable[..., Loop], eventually: Callable[..., Any]):
    duties = [Steps(f"long-{number}", lambda _number: FOREVER) for number in range(3)]
    loop = running(*duties)
    eventually(lambda: all(duty.at for duty in duties))
    began = time.monotonic()
    loop.stop(10)
    assert time.monotonic() - began < 2
    assert not any(thread.is_alive() for thread in loop.threads)
    assert [len(duty.at) for duty in duties] == [1, 1, 1]


def test_stop_waits_for_the_step_that_was_begun(running: Callable[..., Loop]):
    begun, let_go = threading.Event(), threading.Event()

    def step(_number: int) -> float:
        begun.set()
        let_go.wait(10)
        return 0.0

    duty = Steps("slow", step)
    loop = running(duty)
    begun.wait(10)
    threading.Timer(0.1, let_go.set).start()
    loop.stop(10)
    assert let_go.is_set()
    assert len(duty.at) == 1


def test_stuck_duties_hold_up_stop_for_its_timeout_in_all_not_each(running: Callable[..., Loop]):
    let_go = threading.Event()
    duties = [Steps(f"stuck-{number}", lambda _number: let_go.wait(30) and 0.0) for number in range(5)]
    loop = running(*duties)
    began = time.monotonic()
    loop.stop(0.4)
    stopped_after = time.monotonic() - began
    let_go.set()
    assert 0.4 <= stopped_after < 1.2


def test_a_wake_ends_the_pause(running: Callable[..., Loop], eventually: Callable[..., Any]):
    wake, duty = threading.Event(), Steps("woken", lambda _number: FOREVER)
    running(duty, wakes={"woken": wake})
    eventually(lambda: len(duty.at) == 1)
    wake.set()
    eventually(lambda: len(duty.at) == 2)


def test_a_wake_while_a_step_runs_is_not_lost(running: Callable[..., Loop], eventually: Callable[..., Any]):
    wake, begun, let_go = threading.Event(), threading.Event(), threading.Event()

    def step(number: int) -> float:
        if number == 1:
            begun.set()
            let_go.wait(10)
        return FOREVER

    duty = Steps("rung", step)
    running(duty, wakes={"rung": wake})
    assert begun.wait(10)
    wake.set()
    let_go.set()
    eventually(lambda: len(duty.at) == 2)
