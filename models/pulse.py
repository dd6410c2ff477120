"""Whether the database answers at all, as one process sees it, so that a request need not find out by waiting.

A statement may be slow for good reasons: a lock, a full disk queue. So a step that waits is not given up by the
clock alone. Once it has waited for a while a thread asks something that is always quick, on a connection of its
own; only when nothing at all has been heard from the server since the step began to wait is the server away.
"""

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import psycopg

from models import metrics
from models.errors import Trouble, Unavailable

DOUBT_SECONDS = 0.25
"""A statement without an answer for this long has the server asked."""
SILENCE_SECONDS = 0.5
"""A server of which nothing was heard for this long, while someone waited, is away."""
TRIAL_SECONDS = 1.0
"""While the server is away, one step is let through this often, should it answer to others than us."""
AGAIN_SECONDS = 0.1


class Pulse:
    """Asks the server when somebody doubts it. `heard` is called at every answer that any connection gets."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self.heard_at = time.monotonic()
        self.away_since: float | None = None
        self.back_at = 0.0
        """When the server answered again after it had been away: connections that were silent since are half-open."""
        self._connect = connect
        self._trial_at = 0.0
        self._doubted_at = 0.0
        self._doubted = threading.Event()
        self._answered = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin to be there for those who doubt."""
        self._thread.start()

    def stop(self) -> None:
        """End; a connection that is being made is left to its end."""
        self._stopping.set()
        self._doubted.set()

    def heard(self) -> None:
        """The server answered someone."""
        self.heard_at = time.monotonic()
        if self.away_since is not None:
            self.away_since, self.back_at = None, self.heard_at

    def doubt(self) -> None:
        """Have the server asked, since someone waits or lost a connection; returns at once."""
        if not self._doubted.is_set():
            self._doubted_at = time.monotonic()
            self._doubted.set()

    def misses(self, moment: float) -> bool:
        """Whether a wait that began at `moment` (of `time.monotonic`) should end, since nobody is there."""
        waited = time.monotonic() - moment
        if waited > DOUBT_SECONDS:
            self.doubt()
        if self.heard_at >= moment:
            return False
        if waited > SILENCE_SECONDS:
            self._lost()
        return self.away_since is not None

    def admit(self) -> None:
        """Let a step begin, or raise Unavailable at once while the server is known to be away."""
        now = time.monotonic()
        if self.away_since is None:
            return
        if now - self._trial_at < TRIAL_SECONDS:
            raise Unavailable("The database has not answered for a while.", Trouble.AWAY)
        self._trial_at = now

    def check(self, within_seconds: float) -> None:
        """Ask the server now; raises Unavailable without an answer in time."""
        self._answered.clear()
        self.doubt()
        if not self._answered.wait(within_seconds):
            raise Unavailable("The database does not answer.", Trouble.AWAY)

    def _lost(self) -> None:
        if self.away_since is None:
            self.away_since = self._trial_at = time.monotonic()
            metrics.losses.inc()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection = self._connect()
            except psycopg.Error:
                self._could_not_ask()
            else:
                with closing(connection), suppress(psycopg.Error):
                    self._ask_when_doubted(connection)
            self._stopping.wait(AGAIN_SECONDS)

    def _could_not_ask(self) -> None:
        """Believe whoever doubted, unless the server has answered another connection since."""
        if self._doubted.is_set():
            if self.heard_at < self._doubted_at:
                self._lost()
            else:
                self._doubted.clear()

    def _ask_when_doubted(self, connection: psycopg.Connection[Any]) -> None:
        """Ask on this connection until it fails: because it broke, or because no answer came within its limit."""
        while not self._stopping.is_set():
            connection.execute("SELECT 1")
            self.heard()
            self._doubted.clear()
            self._answered.set()
            self._doubted.wait()
