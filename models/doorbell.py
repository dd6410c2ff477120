"""Telling the dispatcher that a job may have become due, so that it need not wait for its next poll.

Never needed for correctness. NOTIFY takes a lock over all commits of the database, so it is sent outside
the work's transaction, and once for many.
"""

import atexit
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import psycopg
from psycopg import sql

CHANNEL = "jobmill_due"
QUIET_SECONDS = 0.005
"""After a ring the next one waits this long, and stands for all that came meanwhile."""
LAST_RING_SECONDS = 1.0
"""So long at most a process that ends still sends what it rang last: jobs that it gave back wait for that."""
RECONNECT_SECONDS = 2.0
STILL_THERE_SECONDS = 10.0
"""A listener that heard nothing for this long asks whether the server is there: of a lost one it would never hear."""


class Doorbell(Protocol):
    """Something to ring after a commit that made work."""

    def ring(self) -> None:
        """Wake the dispatcher soon; returns at once and never fails."""


class LocalDoorbell:
    """Rings within the process."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def ring(self) -> None:
        """Wake the dispatcher."""
        self.event.set()


class NotifyDoorbell:
    """Rings through PostgreSQL, on a connection and a thread of its own, made at the first ring."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._rung = threading.Event()
        self._ending = False
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self) -> None:
        """Wake the dispatcher soon. The thread is started here, and again in a forked process, where it is missing."""
        if self._thread is None or not self._thread.is_alive():
            self._begin()
        self._rung.set()

    def _begin(self) -> None:
        with self._start:
            if self._thread is None:
                atexit.register(self._end)
            if self._thread is None or not self._thread.is_alive():
                self._rung = threading.Event()
                self._thread = threading.Thread(target=_to_its_end, args=[self._notify], name="doorbell", daemon=True)
                self._thread.start()

    def _notify(self) -> None:
        notify = sql.SQL("NOTIFY {}").format(sql.Identifier(CHANNEL)).as_bytes()
        with self._connect() as connection:
            connection.autocommit = True
            while self._rung.wait():
                self._rung.clear()
                try:
                    connection.execute(notify)
                except psycopg.Error:
                    self._rung.set()  # by another connection
                    raise
                if self._ending and not self._rung.is_set():
                    return
                time.sleep(QUIET_SECONDS)

    def _end(self) -> None:
        """Ring once more, since the thread dies with the process, whatever it has still to send."""
        thread = self._thread
        if thread is not None and thread.is_alive():  # a forked process has its own, or none
            self._ending = True
            self._rung.set()
            thread.join(LAST_RING_SECONDS)


def listen(connect: Callable[[], psycopg.Connection[Any]], event: threading.Event) -> None:
    """Set `event` at each ring, from a thread of its own, for as long as the process lives."""

    def hear() -> None:
        with connect() as connection:
            connection.autocommit = True
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
            event.set()  # what was rung before we listened
            while True:
                for _ in connection.notifies(timeout=STILL_THERE_SECONDS):
                    event.set()
                connection.execute("SELECT 1")  # what is rung meanwhile is kept for the next round

    threading.Thread(target=_to_its_end, args=[hear], name="doorbell-listener", daemon=True).start()


def _to_its_end(body: Callable[[], None]) -> None:
    """Run `body`, again whenever the database drops it; polling serves meanwhile."""
    while True:
        try:
            return body()
        except psycopg.Error:
            time.sleep(RECONNECT_SECONDS)
