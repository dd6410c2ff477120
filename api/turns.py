"""Who asks the database what all requests of a process would like to know, and none need ask for itself."""

import math
import threading
import time
from collections.abc import Callable

MOST_THINGS = 1000


class Turns:
    """Turns to ask: about each thing one in so many seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._taken_at: dict[str, float] = {}

    def take(self, about: str) -> bool:
        """Whether it is the caller's turn, who then asks."""
        with self._lock:
            now = self._clock()
            if now - self._taken_at.get(about, -math.inf) < self._seconds:
                return False
            if len(self._taken_at) >= MOST_THINGS:  # clients name things as they like
                self._taken_at.clear()
            self._taken_at[about] = now
            return True
