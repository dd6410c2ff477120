"""The one loop that runs the dispatcher's duties, each on a thread of its own."""

import threading
import time
from collections.abc import Sequence
from typing import Protocol

import structlog

from models.errors import Unavailable
from workers import metrics

log = structlog.get_logger(__name__)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
LONGEST_PAUSE_WITHOUT_DATABASE = 1.0
"""When the database is back everything should go on at once; a database that is away is not loaded by being asked."""


LEAST_BETWEEN_WAKES, BETWEEN_WAKES = 0.01, 0.02
"""A duty that is woken rests as long as its last step took, but begins no sooner than the one after its last beginning,
and is kept no longer than until the other. Where there is little to do, steps are short and jobs wait for them; where
there is much, few long steps cost least. One that failed is kept for the longer time."""


class Duty(Protocol):
    """Something that has to be done again and again, in steps that are safe to repeat and bounded in size."""

    name: str

    def run_once(self) -> float:
        """Do one step; gives the seconds to sleep before the next."""


class Loop:
    """Runs duties until it is stopped. A duty that fails is tried again, ever later, and never ends the others."""

    def __init__(self, duties: Sequence[Duty], wakes: dict[str, threading.Event] | None = None) -> None:
        self.stopping = threading.Event()
        self.wakes = {duty.name: (wakes or {}).get(duty.name, threading.Event()) for duty in duties}
        self.threads = [
            threading.Thread(target=self._run, args=[duty], name=f"duty-{duty.name}", daemon=True) for duty in duties
        ]

    def start(self) -> None:
        """Begin every duty."""
        for thread in self.threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """Let each duty finish its step, for at most `timeout` seconds in all."""
        self.stopping.set()
        for wake in self.wakes.values():
            wake.set()
        deadline = time.monotonic() + timeout
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, duty: Duty) -> None:
        wake = self.wakes[duty.name]
        failures = 0
        while not self.stopping.is_set():
            wake.clear()
            began, hurried_by = time.monotonic(), wake
            try:
                pause = duty.run_once()
                failures = 0
            except Exception as error:  # noqa: BLE001 - a duty must outlive whatever goes wrong in one step
                failures += 1
                away = isinstance(error, Unavailable)
                longest = LONGEST_PAUSE_WITHOUT_DATABASE if away else LONGEST_PAUSE
                pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), longest)
                # Who rings has a database. What is broken otherwise stays so, however often somebody rings.
                hurried_by = wake if away else self.stopping
                _tell(duty, error, pause)
            if not self.stopping.is_set():
                took = time.monotonic() - began
                self._rest(hurried_by, pause, began + (BETWEEN_WAKES if failures else apart(took)))

    def _rest(self, hurried_by: threading.Event, pause: float, earliest: float) -> None:
        if hurried_by.wait(pause):
            # Whoever rings all the time is heard all the time, and not once for each ring.
            self.stopping.wait(max(0.0, earliest - time.monotonic()))


def apart(took: float) -> float:
    """Seconds from the beginning of a step that took so many to the next, if somebody rings meanwhile."""
    return min(max(2 * took, LEAST_BETWEEN_WAKES), BETWEEN_WAKES)


def _tell(duty: Duty, error: Exception, pause: float) -> None:
    metrics.step_failures.labels(duty.name).inc()
    if isinstance(error, Unavailable):
        log.warning("duty_without_database", duty=duty.name, again_in_seconds=pause)
    else:
        log.error("duty_failed", duty=duty.name, again_in_seconds=pause, exc_info=error)
