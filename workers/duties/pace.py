"""How deep the broker is filled and when to look again: what dispatching decides, apart from doing it.

The broker is kept shallow: the free threads' share and about one second of work. So a priority or a cancellation acts
at once, whatever the backlog.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from models.lineup import Lane
from models.worker import Capacity

SECONDS_OF_WORK = 1.0
SECONDS_OF_BACKGROUND = 0.5
"""Of that, what jobs below the ordinary priority may fill: a new job waits behind all that is there already."""
MOST_ON_BROKER = 2000
LONGEST_SLEEP = 1.0
SECOND_LOOK = 0.05


class Rate:
    """Jobs begun per second, smoothed over about a second, seen as what left the broker between two looks."""

    def __init__(self) -> None:
        self.per_second = 0.0
        self.latest = 0.0
        """The same between the last two looks alone. It is too fickle to fill the broker by, but says how soon to look
        again: fast workers would be without work until the mean has found out."""
        self.wanting = False
        """Whether workers had nothing left to take, at this look or at the last one."""
        self._was_empty = False
        self._left: int | None = None
        self._at = 0.0

    def seen(self, on_broker: int, now: float, threads: int = 0) -> None:
        """The queue holds `on_broker` jobs at `now` (monotonic seconds), and its workers have so many threads.

        Where they wanted more than there was, the rate doubles, if they ended jobs that fast: each job that left
        beyond one for each thread means that another has ended. Else a backlog would take seconds to get going.
        """
        if self._left is not None and now > self._at:
            elapsed, begun = now - self._at, max(0, self._left - on_broker)
            weight = 1 - math.exp(-elapsed)
            doubled = 2 * max(self.per_second, threads)
            self.latest = begun / elapsed
            self.per_second += weight * (self.latest - self.per_second)
            if on_broker == 0:
                self.per_second = max(self.per_second, min(doubled, (begun - threads) / elapsed))
            self.wanting, self._was_empty = on_broker == 0 or self._was_empty, on_broker == 0

    def expected(self, told: float) -> float:
        """Jobs a second that may begin until the next look, where workers have `told` of so many."""
        return max(self.per_second, self.latest, told)

    def leaves(self, on_broker: int, now: float) -> None:
        """The step that began with the look at `now` left `on_broker` jobs there: what begins meanwhile counts."""
        self._left, self._at = on_broker, now


class Burden:
    """What one step may put on the broker of a queue, whose workers have that capacity: its jobs in their order.

    One for each free thread; more only as far as they are known to be a second of work, or where nothing is known, as
    far as there is `room_anyway` by the rate. So long jobs behind short ones do not fill the broker because those were
    short.
    """

    def __init__(self, capacity: Capacity, room_anyway: int) -> None:
        self._at_least = max(1, capacity.free)
        self._most_seconds = max(1, capacity.quick) * SECONDS_OF_WORK
        self._room_anyway = room_anyway
        self._jobs = 0
        self._work = 0.0

    def bearable(self, seconds: Sequence[float]) -> int:
        """How many of the next jobs, which take so long each, there is room for: the first ones."""
        for place, one in enumerate(seconds):
            known = one < math.inf
            self._work += one if known else 0.0
            too_much = self._work > self._most_seconds if known else self._jobs >= self._room_anyway
            if too_much and self._jobs >= self._at_least:
                return place
            self._jobs += 1
        return len(seconds)


@dataclass(frozen=True)
class Step:
    """What one look at a queue found: jobs on the broker before, claimed now, and whether due ones are left.

    While workers are `wanting` more, the rate is not known yet.
    """

    before: int
    claimed: int
    more_due: bool
    rate: float
    wanting: bool = False
    whole: bool = False
    """Whether it claimed as much as one step may, so that the broker may have room for more."""


def room(
    capacity: Capacity, per_second: float, on_broker: int, seconds: float = SECONDS_OF_WORK, at_once: int = 1
) -> int:
    """How many more jobs of a queue the broker should hold, which holds so many seconds of work.

    Of jobs that are known to be so short that a message names several, `at_once`, it holds one for each quick thread.
    """
    messages = capacity.quick * at_once if at_once > 1 else 0
    wanted = max(1, capacity.free + math.ceil(per_second * seconds), messages)
    return max(0, min(wanted, MOST_ON_BROKER) - on_broker)


def pause(step: Step) -> float:
    """Seconds until a queue with due jobs left needs another look: about when half of the broker's are begun."""
    if not step.more_due:
        # Behind what was due just now, the same lane may hold a job that is due soon: look for it.
        return SECOND_LOOK if step.claimed else LONGEST_SLEEP
    if step.before == 0:
        return 0.01  # its workers had nothing to take: find out how fast they are
    if step.wanting or step.whole:
        return 0.02
    return min(max((step.before + step.claimed) / (2 * max(step.rate, 1.0)), 0.02), 0.25)


def until_due(lanes: Iterable[Lane]) -> float:
    """Seconds until the first job that waits for its time, by this machine's clock; polling mends a wrong one."""
    waits = [(lane.due_at - datetime.now(UTC)).total_seconds() for lane in lanes if not lane.due]
    return max(0.005, min(waits, default=LONGEST_SLEEP))
