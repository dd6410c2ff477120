"""What several runs of a figure say together: the median, with the least and the most."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Spread(NamedTuple):
    """Of some runs."""

    middle: float
    least: float
    most: float


def spread(runs: Sequence[float]) -> Spread:
    """Of at least one run."""
    return Spread(median(runs), min(runs), max(runs))


def ratios(runs: Sequence[float], base: Sequence[float]) -> Spread:
    """Of each run to that of the same round, since a slow hour hits both; medians set against each other forget that.

    Raises ValueError where a round has one of them only.
    """
    return spread([one / other for one, other in zip(runs, base, strict=True)])
