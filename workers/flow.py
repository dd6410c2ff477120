"""Who of a worker's threads is free, over all its queues: so that the broker hands work to free threads only.

Each queue has a consumer of its own, and RabbitMQ limits what each of them holds, not what they hold
together. So a consumer asks here before it hands a message to the threads, and gives back what no thread
comes to take. One thread may have all others kept from new messages, to be alone in its process.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

PATIENCE = timedelta(seconds=0.5)
"""How long a message waits here for a thread. Giving it back at once would cost short jobs a round trip each."""
KEPT_FOR = timedelta(seconds=0.1)
"""How long a freed thread is kept for a queue that had to give messages back: it needs three round trips to have one
again, and a queue whose message was just done needs one, so it would win every time."""
ACKNOWLEDGED_AFTER = timedelta(minutes=10)
"""When a message still worked on is acknowledged; RabbitMQ's own `consumer_timeout` is 30 minutes."""

Bell = Callable[[], None]


class Flow:
    """One slot for each thread; whoever finds none leaves a bell, which rings once when a thread is done."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.draining = False
        self._lock = threading.Lock()
        self._fewer = threading.Condition(self._lock)
        self._busy = 0
        self._reserved = False
        self._full_since: float | None = None
        self._bells: dict[Bell, None] = {}  # as an ordered set: who waits longest is called first
        self._owed: dict[Bell, None] = {}  # likewise
        self._done_at = -math.inf

    @property
    def free(self) -> int:
        """Threads that wait for a message, and may have one."""
        return 0 if self._reserved else self.threads - self._busy

    def take(self, bell: Bell) -> bool:
        """Take a slot; if there is none, `bell` rings when a thread is done."""
        with self._lock:
            if self.free == 0 or self.free <= self._kept_from(bell):
                self._bells[bell] = None
                return False
            self._owed.pop(bell, None)
            self._busy += 1
            self._look_whether_full()
            return True

    def owe(self, bell: Bell) -> None:
        """Keep the next thread that is free for this one, for a moment: it gave back what waited for one."""
        with self._lock:
            self._owed[bell] = None

    def done(self) -> None:
        """A thread has done its message."""
        with self._lock:
            self._busy -= 1
            bells = self._made_room()
            self._fewer.notify_all()
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

    @contextmanager
    def reserved(self) -> Iterator[bool]:
        """Keep every other thread from new messages while the block lasts; False if one keeps them already."""
        with self._lock:
            mine, self._reserved = not self._reserved, True
            self._look_whether_full()
        try:
            yield mine
        finally:
            if mine:
                self._open()

    def _open(self) -> None:
        with self._lock:
            self._reserved = False
            bells = self._made_room()
        for bell in bells:
            bell()

    def wait_to_be_alone(self, seconds: float) -> bool:
        """Wait for the other threads to be done. False if that took too long, or nothing is to be begun any more."""
        with self._fewer:
            self._fewer.wait_for(lambda: self._busy <= 1 or self.draining, seconds)
            return self._busy <= 1 and not self.draining

    def drain(self) -> None:
        """Nothing is to be begun any more: nobody waits to be alone."""
        with self._fewer:
            self.draining = True
            self._fewer.notify_all()

    def _made_room(self) -> dict[Bell, None]:
        """Note that there may be a free thread now; gives the bells to ring."""
        self._done_at = time.monotonic()
        self._look_whether_full()
        bells, self._bells = self._bells, {}
        return bells

    def _look_whether_full(self) -> None:
        if self.free:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = time.monotonic()

    def _kept_from(self, bell: Bell) -> int:
        """How many of the free threads are kept for others: for all that are owed one, or for those owed one before.

        Were they kept for later ones too, two would keep each other from the same thread.
        """
        if time.monotonic() - self._done_at >= KEPT_FOR.total_seconds():
            self._owed.clear()
        return next((place for place, owed in enumerate(self._owed) if owed == bell), len(self._owed))
