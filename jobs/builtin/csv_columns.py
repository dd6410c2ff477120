"""What the cells of one column have in common, gathered batch by batch in bounded memory."""

import math
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from jobs.serialise import LEAST_INTEGER, MOST_INTEGER

MOST_DISTINCT = 10_000
MOST_PENDING = 1024

# Numbers as JSON writes them, plus a leading + or point. Leading zeros mark codes, such as postal ones.
INTEGER = re.compile(r"[ \t]*[+-]?(0|[1-9][0-9]{0,18})[ \t]*")
NUMBER = re.compile(r"[ \t]*[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
BOOLEAN = re.compile(r"[ \t]*(true|false)[ \t]*", re.IGNORECASE)
# RFC 3339, with the time, its seconds and its offset optional.
DATETIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)

Moment = tuple[datetime, str]


class Column:
    """A column's figures. A cell that is empty or blank is null and tells nothing of the type."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nulls = 0
        self.distinct = Distinct()
        self.numbers: Numbers | None = Numbers()
        self.moments: Moments | None = Moments()
        self.boolean = True
        self._empty = True

    def add(self, cells: Sequence[str]) -> None:
        """Take the column's next cells into account."""
        values = [cell for cell in cells if cell and not cell.isspace()]
        self.nulls += len(cells) - len(values)
        if not values:
            return
        self._empty = False
        self.distinct.add(values)
        # A reading that one cell contradicts is over, and costs nothing from then on.
        self.numbers = self.numbers if self.numbers and self.numbers.add(values) else None
        self.boolean = self.boolean and all(map(BOOLEAN.fullmatch, values))
        self.moments = self.moments if self.moments and self.moments.add(values) else None

    @property
    def type(self) -> str:
        """The narrowest type that all its values have; `string` if there are none."""
        if self._empty:
            return "string"
        if self.numbers:
            return "integer" if self.numbers.whole else "number"
        if self.boolean:
            return "boolean"
        return "datetime" if self.moments else "string"

    @property
    def range(self) -> tuple[float | str | None, float | str | None]:
        """Its least and greatest value."""
        if self._empty:
            return None, None
        if self.numbers:
            return self.numbers.range
        return self.moments.range if self.moments else (None, None)

    @property
    def mean(self) -> float | None:
        """The mean of its numbers."""
        return self.numbers.mean if self.numbers and not self._empty else None


class Distinct:
    """Counts different values exactly, up to MOST_DISTINCT.

    Keeps 64-bit hashes, most of them packed: ten thousand take 80 KB where a set takes 900 KB, which
    counts when there are hundreds of columns. Two values that share a hash are a matter of one in 10^11.
    """

    def __init__(self) -> None:
        self._packed: array[int] = array("q")
        self._pending: set[int] = set()
        self._overflown = False

    def add(self, values: Iterable[str]) -> None:
        """Take these values into account."""
        if self._overflown:
            return
        fresh = set(map(hash, values)) - self._pending
        self._pending.update(value for value in fresh if not self._knows(value))
        if len(self._pending) > MOST_PENDING:
            self._pack()
        if len(self._packed) + len(self._pending) > MOST_DISTINCT:
            self._overflown = True
            self._packed, self._pending = array("q"), set()

    @property
    def count(self) -> int | None:
        """How many there are; None if more than MOST_DISTINCT."""
        return None if self._overflown else len(self._packed) + len(self._pending)

    def _knows(self, value: int) -> bool:
        place = bisect_left(self._packed, value)
        return place < len(self._packed) and self._packed[place] == value

    def _pack(self) -> None:
        self._packed = array("q", sorted([*self._packed, *self._pending]))
        self._pending.clear()


class Numbers:
    """Least, greatest and mean: exact for integers of 64 bits, in doubles otherwise."""

    def __init__(self) -> None:
        self.whole = True
        self._count = 0
        self._least: float = math.inf
        self._most: float = -math.inf
        self._integers = 0
        # The sum, and what rounding took from it: each next sum takes both in, so that nothing builds up.
        self._doubles = (0.0, 0.0)

    def add(self, values: Sequence[str]) -> bool:
        """Take these values into account; False if they are not all finite numbers."""
        numbers = self._read(values)
        if numbers is None:
            return False
        self._count += len(numbers)
        self._least = min(self._least, *numbers)
        self._most = max(self._most, *numbers)
        self._sum_up(numbers)
        return True

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest."""
        return (self._least, self._most) if self.whole else (float(self._least), float(self._most))

    @property
    def mean(self) -> float | None:
        """The mean; None if the sum leaves the range of doubles."""
        if self.whole:
            return self._integers / self._count
        mean = self._doubles[0] / self._count
        return mean if math.isfinite(mean) else None

    def _read(self, values: Sequence[str]) -> Sequence[float] | None:
        if self.whole:
            if (integers := _integers(values)) is not None:
                return integers
            self.whole = False
            self._doubles = _sum([self._integers])
        return _doubles(values)

    def _sum_up(self, numbers: Sequence[float]) -> None:
        if self.whole:
            self._integers += int(sum(numbers))
        else:
            self._doubles = _sum([*self._doubles, *numbers])


class Moments:
    """Earliest and latest of dates and times, as they are written; those without offset count as UTC."""

    def __init__(self) -> None:
        self._least: Moment | None = None
        self._most: Moment | None = None

    def add(self, values: Sequence[str]) -> bool:
        """Take these values into account; False if they are not all dates or times."""
        try:
            moments = [_moment(value.strip()) for value in values]
        except ValueError:
            return False
        self._least = min([self._least, *moments] if self._least else moments)
        self._most = max([self._most, *moments] if self._most else moments)
        return True

    @property
    def range(self) -> tuple[str | None, str | None]:
        """The earliest and the latest."""
        return (self._least and self._least[1], self._most and self._most[1])


def _integers(values: Sequence[str]) -> list[int] | None:
    if not all(map(INTEGER.fullmatch, values)):
        return None
    integers = list(map(int, values))
    return integers if min(integers) >= LEAST_INTEGER and max(integers) <= MOST_INTEGER else None


def _doubles(values: Sequence[str]) -> list[float] | None:
    # float() alone would take nan, inf, 1_000 and digits of every script.
    if not all(map(NUMBER.fullmatch, values)):
        return None
    doubles = list(map(float, values))
    return doubles if all(map(math.isfinite, doubles)) else None


def _sum(numbers: Sequence[float]) -> tuple[float, float]:
    try:
        total = math.fsum(numbers)
    except OverflowError:
        total = math.inf
    return (total, math.fsum([*numbers, -total])) if math.isfinite(total) else (total, 0.0)


def _moment(text: str) -> Moment:
    if not DATETIME.fullmatch(text):
        raise ValueError(text)
    moment = datetime.fromisoformat(text.upper())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC), text
