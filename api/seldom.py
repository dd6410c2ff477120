"""Who asks the database what all requests of a process would like to know, and none need ask for itself."""

import math
import threading
import time
from collections.abc import Callable

MOST_THINGS = 1000


class Seldom:
    """Whether to ask: about each thing once in so many seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at: dict[str, float] = {}

    def may_ask(self, about: str) -> bool:
        """Whether the caller is to ask; it then counts as asked."""
        with self._lock:
            now = self._clock()
            if now - self._asked_at.get(about, -math.inf) < self._seconds:
                return False
            if len(self._asked_at) >= MOST_THINGS:  # clients name things as they like
                self._asked_at.clear()
            self._asked_at[about] = now
            return True
