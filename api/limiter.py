"""Counting requests: in Redis for all processes together, in this process alone while Redis is away or not there.

Nobody is refused because of Redis: a call ends after a tenth of a second, and after a failed one Redis is left alone
for five seconds. Meanwhile each process limits by itself, so together they let through as many times more.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from api import metrics
from jobs.rates import Policy, Standing, Used, standing, take

log = structlog.get_logger(__name__)

BREAK_SECONDS = 5.0
MOST_KEPT = 10_000


class CountAway(Exception):  # noqa: N818
    """The count that all processes share cannot be had; the message says why."""


@dataclass(frozen=True)
class Blocked:
    """Whose credentials are not looked at, until when by `time.monotonic`, and what is told of it."""

    until: float
    standing: Standing


class LocalLimiter:
    """Counts in this process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[str, tuple[Used, int]] = {}

    def take(self, who: str, policy: Policy, many: int = 1) -> Standing:
        """So many requests more of `who`, if the policy has room for them all."""
        at = self._clock()
        with self._lock:
            kept, _ = self._used.get(who, (Used(), 0))
            used, taken = take(kept, policy, at, many)
            if who not in self._used and len(self._used) >= MOST_KEPT:
                self._forget(at)
            self._used[who] = used, policy.seconds
        return standing(used, policy, at, many, taken=taken)

    def _forget(self, at: float) -> None:
        """Drop what is too old to count, or else all of it: nobody fills our memory."""
        self._used = {
            who: (used, seconds) for who, (used, seconds) in self._used.items() if at < (used.window + 2) * seconds
        }
        if len(self._used) >= MOST_KEPT:
            self._used = {}


class Shared(Protocol):
    """What counts for all processes together."""

    def take(self, who: str, policy: Policy, many: int = 1) -> Standing:
        """As `LocalLimiter.take`. Raises CountAway."""


class Limiter:
    """Counts in Redis while that answers, else here."""

    def __init__(self, shared: Shared | None, local: LocalLimiter, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared = shared
        self._local = local
        self._clock = clock
        self._lock = threading.Lock()
        self._left_alone_until = 0.0

    def take(self, who: str, policy: Policy, many: int = 1) -> Standing:
        """So many requests more of `who`, if the policy has room for them all."""
        if self._shared is not None and self._may_ask():
            try:
                found = self._shared.take(who, policy, many)
            except CountAway as error:
                self._leave_alone(error)
            else:
                self._left_alone_until = 0.0
                return found
        return self._local.take(who, policy, many)

    def _may_ask(self) -> bool:
        """While Redis was well, always; after a failure one request every five seconds, which finds out."""
        if self._left_alone_until == 0.0:
            return True
        with self._lock:
            now = self._clock()
            if now < self._left_alone_until:
                return False
            self._left_alone_until = now + BREAK_SECONDS
            return True

    def _leave_alone(self, error: Exception) -> None:
        metrics.limits_without_redis.inc()
        log.warning("limits_without_redis", cause=str(error))
        with self._lock:
            self._left_alone_until = self._clock() + BREAK_SECONDS
