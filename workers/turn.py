"""The jobs of one message: started together, done in turn, and taken away from behind one that is slow."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

from models.moves import Started


class Turn:
    """Started jobs whose handlers run one after the other on one thread; iterating gives the next to run."""

    def __init__(self, jobs: Iterable[Started]) -> None:
        self._lock = threading.Lock()
        self._waiting = deque(jobs)
        self._began = time.monotonic()
        self._over = False

    def __iter__(self) -> Iterator[Started]:
        """Each job when it is its turn, less those that were taken away."""
        while (job := self._next()) is not None:
            yield job

    def take_waiting(self, since: float) -> list[Started]:
        """The jobs that still wait, if the one that runs began before `since` (of `time.monotonic`)."""
        with self._lock:
            if self._began > since:
                return []
            taken, self._waiting = list(self._waiting), deque()
            return taken

    def put_back(self, jobs: Iterable[Started]) -> bool:
        """They wait here after all; False if the thread has gone meanwhile, and nobody would come for them."""
        with self._lock:
            if not self._over:
                self._waiting.extend(jobs)
            return not self._over

    def _next(self) -> Started | None:
        with self._lock:
            self._began = time.monotonic()
            self._over = not self._waiting
            return None if self._over else self._waiting.popleft()
