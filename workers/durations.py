"""How long the handlers of each job type ran lately in this process, and what of that is news."""

import math
import threading

from models.durations import Lately

MOST_RUNS = 100
"""So many runs are remembered: a first call that loads what it needs is forgotten after some hundred others."""
NEWS_RATIO = 1.5
TOLD_EVERY_SECONDS = 5.0
"""News is told so often at most: a type that is slow now and then would be news at each look. What is told of a type
at all, or by ten times as many runs as before, is told at once."""
BETTER_KNOWN = 10
TOO_SHORT_SECONDS = 0.0005
"""What is shorter than this is all alike: a message never names so many that it would matter."""


class Durations:
    """Means by job type over its latest runs. What one thread says another may overwrite: the next says as much.

    `unheard` is set when a type has run for the first time: until that is told, each of its jobs travels alone.
    """

    def __init__(self) -> None:
        self._means: dict[str, Lately] = {}
        self._told: dict[str, Lately] = {}
        self._told_at = -math.inf
        self.unheard = threading.Event()

    def ran(self, job_type: str, seconds: float) -> None:
        """A handler has run for so long. Called by the threads."""
        before = self._means.get(job_type, Lately(0.0, 0))
        runs = min(before.runs + 1, MOST_RUNS)
        self._means[job_type] = Lately(before.seconds + (seconds - before.seconds) / runs, runs)
        if before.runs == 0:
            self.unheard.set()

    def news(self, now: float) -> dict[str, Lately]:
        """All means, if one is to be told at `now` (of `time.monotonic`); else nothing."""
        means, told = dict(self._means), self._told
        if any(name not in told or mean.runs >= BETTER_KNOWN * told[name].runs for name, mean in means.items()):
            return means
        if now - self._told_at < TOLD_EVERY_SECONDS:
            return {}
        return means if any(_differs(mean, told[name]) for name, mean in means.items()) else {}

    def told(self, means: dict[str, Lately], now: float) -> None:
        """These are known to the dispatcher since `now`."""
        self._told, self._told_at = means, now


def _differs(mean: Lately, told: Lately) -> bool:
    """Whether it is longer or shorter by half."""
    low, high = sorted((max(mean.seconds, TOO_SHORT_SECONDS), max(told.seconds, TOO_SHORT_SECONDS)))
    return high > NEWS_RATIO * low
