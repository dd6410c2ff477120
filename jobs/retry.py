"""How long a failed job waits before its next attempt."""

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

LONGEST_DELAY = timedelta(days=365)


class RetryPolicy(Protocol):
    """Gives the wait after a failed attempt; `name` and the fields are shown by `GET /v1/job-types`."""

    @property
    def name(self) -> str:
        """The policy's name, e.g. `exponential`."""

    def delay(self, attempt: int, chance: float) -> timedelta:
        """The wait after failed attempt number `attempt` (from 1); `chance` in [0, 1) gives the jitter."""

    def describe(self) -> dict[str, float | str | list[float]]:
        """The policy as JSON, durations in seconds."""


@dataclass(frozen=True)
class Exponential:
    """Waits `first`, then `factor` times longer each time, at most `longest`; each wait varies by `jitter`.

    Jitter keeps jobs that failed together from coming back together: a wait w becomes one of
    [w * (1 - jitter), w * (1 + jitter)].
    """

    first: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    longest: timedelta = timedelta(hours=1)
    jitter: float = 0.25
    name: str = "exponential"

    def __post_init__(self) -> None:
        if not (timedelta(0) <= self.first <= self.longest <= LONGEST_DELAY):
            raise ValueError("Exponential: 0 <= first <= longest <= 365 days, got an other order")
        if self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ValueError("Exponential: factor must be at least 1 and jitter in [0, 1]")

    def delay(self, attempt: int, chance: float) -> timedelta:
        """The wait after failed attempt `attempt` (from 1)."""
        # Past some exponent the cap has won anyway; bounding it keeps the float finite.
        exponent = min(max(attempt, 1) - 1, 64)
        wait = min(self.first.total_seconds() * self.factor**exponent, self.longest.total_seconds())
        return timedelta(seconds=wait * (1 + self.jitter * (2 * chance - 1)))

    def describe(self) -> dict[str, float | str | list[float]]:
        """The policy as JSON, durations in seconds."""
        return {
            "policy": self.name,
            "first_seconds": self.first.total_seconds(),
            "factor": self.factor,
            "longest_seconds": self.longest.total_seconds(),
            "jitter": self.jitter,
        }


@dataclass(frozen=True)
class Steps:
    """Waits the listed times in turn, then the last one again; each wait varies by `jitter`."""

    waits: tuple[timedelta, ...]
    jitter: float = 0.1
    name: str = "steps"

    def __post_init__(self) -> None:
        if not self.waits or any(not timedelta(0) <= wait <= LONGEST_DELAY for wait in self.waits):
            raise ValueError("Steps: give at least one wait, each between 0 and 365 days")

    def delay(self, attempt: int, chance: float) -> timedelta:
        """The wait after failed attempt `attempt` (from 1)."""
        wait = self.waits[min(max(attempt, 1), len(self.waits)) - 1]
        return wait * (1 + self.jitter * (2 * chance - 1))

    def describe(self) -> dict[str, float | str | list[float]]:
        """The policy as JSON, durations in seconds."""
        return {
            "policy": self.name,
            "waits_seconds": [wait.total_seconds() for wait in self.waits],
            "jitter": self.jitter,
        }


def jitter() -> float:
    """A fresh number in [0, 1) for `RetryPolicy.delay`."""
    return random.random()  # noqa: S311 - spreads load, guards nothing
