"""How long the handlers of each job type ran lately in this process, and what of that is news."""

NEWEST_WEIGHS = 0.05
"""A first call that loads what it needs is forgotten after some sixty others."""
NEWS_RATIO = 1.5
TOO_SHORT_SECONDS = 0.0005
"""What is shorter than this is all alike: a message never names so many that it would matter."""


class Durations:
    """Smoothed means, in seconds by job type. What one thread says another may overwrite: the next says as much."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def ran(self, job_type: str, seconds: float) -> None:
        """A handler has run for so long. Called by the threads."""
        mean = self._means.get(job_type)
        self._means[job_type] = seconds if mean is None else mean + NEWEST_WEIGHS * (seconds - mean)

    def news(self) -> dict[str, float]:
        """All means, if one differs by half from what was told of it; else nothing."""
        means = dict(self._means)
        return means if any(_differs(mean, self._told.get(name)) for name, mean in means.items()) else {}

    def told(self, means: dict[str, float]) -> None:
        """These are known to the dispatcher now."""
        self._told = means


def _differs(mean: float, told: float | None) -> bool:
    if told is None:
        return True
    low, high = sorted((max(mean, TOO_SHORT_SECONDS), max(told, TOO_SHORT_SECONDS)))
    return high > NEWS_RATIO * low
