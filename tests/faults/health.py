"""Watches what the API says of itself: /healthz and /readyz, a few times a second, from outside."""

import threading
import time
from dataclasses import dataclass, field
from math import inf
from types import TracebackType
from typing import Self

import httpx2

EVERY_SECONDS = 0.2
ANSWERED_WITHIN = 3.0
HANGING = -1
HEALTH_LAG_SECONDS = 3.0
"""How late /readyz may notice: an answer is kept for a second, and a probe takes up to one and a half."""


@dataclass(frozen=True)
class Sample:
    """One look, which took some seconds. A code is 0 where nobody was there to answer, HANGING where somebody was."""

    at: float
    alive: int
    ready: int
    checks: dict[str, str] = field(default_factory=dict)
    took: float = 0.0

    @property
    def answered(self) -> bool:
        """Whether there was an answer, whatever it was."""
        return self.alive > 0


@dataclass(frozen=True)
class Outage:
    """A dependency, by its name in /readyz, was away from one moment of `time.monotonic` to another."""

    dependency: str
    since: float
    until: float


class HealthWatch:
    """Looks while the block lasts; the samples stay afterwards."""

    def __init__(self, address: str) -> None:
        self.samples: list[Sample] = []
        self._address = address
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(10)

    def was_told_since(self, moment: float) -> bool:
        """Whether there was an answer to a question asked since then."""
        return self.was_told_between(moment, inf)

    def was_told_between(self, since: float, until: float) -> bool:
        """Whether there was an answer to a question asked since then, and it came by then."""
        return any(one.answered and since <= one.at and one.at + one.took <= until for one in list(self.samples))

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self.samples.append(look(self._address))


def look(address: str) -> Sample:
    """One sample, now."""
    with httpx2.Client(base_url=address, timeout=ANSWERED_WITHIN, trust_env=False) as client:
        at = time.monotonic()
        try:
            alive = client.get("/healthz").status_code
            answer = client.get("/readyz")
        except httpx2.TimeoutException:
            return Sample(at, HANGING, HANGING, took=time.monotonic() - at)
        except httpx2.TransportError:
            return Sample(at, 0, 0)
        took = time.monotonic() - at
        return Sample(at, alive, answer.status_code, answer.json().get("checks", {}), took)
