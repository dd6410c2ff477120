"""Who of a worker's threads is free, over all its queues: so that the broker hands work to free threads only.

Each queue has a consumer of its own, and RabbitMQ limits what each of them holds, not what they hold
together. So a consumer asks here before it hands a message to the threads, and gives back what no thread
comes to take.
"""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

PATIENCE = timedelta(seconds=0.5)
"""How long a message waits here for a thread. Giving it back at once would cost short jobs a round trip each."""
ACKNOWLEDGED_AFTER = timedelta(minutes=10)
"""When a message still worked on is acknowledged; RabbitMQ's own `consumer_timeout` is 30 minutes."""

Bell = Callable[[], None]


class Flow:
    """One slot for each thread; whoever finds none leaves a bell, which rings once when a thread is done."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._busy = 0
        self._full_since: float | None = None
        self._bells: dict[Bell, None] = {}  # as an ordered set: who waits longest is called first

    @property
    def free(self) -> int:
        """Threads that wait for a message."""
        return self.threads - self._busy

    def take(self, bell: Bell) -> bool:
        """Take a slot; if there is none, `bell` rings when a thread is done."""
        with self._lock:
            if self.free <= 0:
                self._bells[bell] = None
                return False
            self._busy += 1
            if self.free == 0:
                self._full_since = time.monotonic()
            return True

    def done(self) -> None:
        """A thread has done its message."""
        with self._lock:
            self._busy -= 1
            self._full_since = None
            bells, self._bells = self._bells, {}
        for bell in bells:
            bell()

    def listen(self, bell: Bell) -> int:
        """The threads that are free; `bell` rings when another is done."""
        with self._lock:
            self._bells[bell] = None
            return self.free

    def full_for(self, now: float) -> float:
        """Seconds, at the moment `now` of `time.monotonic`, for which no thread has been free."""
        since = self._full_since
        return now - since if since is not None else 0.0
