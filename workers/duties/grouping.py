"""How claimed jobs are put into messages: one each at low load, several where jobs are short and many."""

import math
from collections.abc import Mapping, Sequence

from models.moves import Moved
from workers.messages import MOST_REFS
from workers.transport import Envelope

SECONDS_A_MESSAGE = 0.2
"""So much work of one thread a message holds at most, by what its workers said of the jobs' types.

Each message costs its thread two commits and a round trip to the broker, some ten milliseconds where all share two
cores: 16 threads were busy with handlers of 10 ms for 83 % of their time at a tenth of a second, and for 95 % at this.
"""
OVERHEAD_SECONDS = 0.001
"""What a job costs its thread besides its handler, where many share a message and eight threads an interpreter."""
REMEMBERED_SECONDS = 180.0

SecondsByType = Mapping[str, float]
"""How long jobs of each type run, as far as a worker has said it."""


def fair_size(jobs: int, threads: int) -> int:
    """How many a message may name at most, of so many jobs on the broker, if no thread is to go without a share."""
    return max(1, min(jobs // threads, MOST_REFS)) if threads else 1


def seconds_of(job: Moved, seconds_by_type: SecondsByType) -> float:
    """How long a thread is busy with the job; infinite, if nobody knows, or a worker died of it perhaps."""
    return math.inf if job.lost else seconds_by_type.get(job.type, math.inf) + OVERHEAD_SECONDS


def mean_seconds(claimed: Sequence[Moved], seconds_by_type: SecondsByType) -> float:
    """How long a thread is busy with a job like these; infinite, if nothing is known of some."""
    return sum(seconds_of(job, seconds_by_type) for job in claimed) / len(claimed) if claimed else math.inf


def jobs_a_message(mean: float) -> int:
    """How many jobs that take so many seconds make a whole message."""
    return max(1, min(int(SECONDS_A_MESSAGE / mean), MOST_REFS))


def envelopes(claimed: Sequence[Moved], most: int, seconds_by_type: SecondsByType) -> list[Envelope]:
    """The messages for jobs of one queue, `most` in each or fewer.

    Those travel alone that are long, or of unknown length, or were lost with their worker. A short one that stands
    behind a long one may go before it, with short ones that stood before both.
    """
    groups: list[list[Moved]] = []
    short: list[Moved] = []
    work = 0.0
    for job in claimed:
        seconds = seconds_of(job, seconds_by_type)
        if 2 * seconds > SECONDS_A_MESSAGE:
            groups.append([job])
            continue
        work += seconds
        if not short or len(short) >= most or work > SECONDS_A_MESSAGE:
            short, work = [], seconds
            groups.append(short)
        short.append(job)
    return [Envelope(group[0].queue, tuple(job.ref for job in group)) for group in groups]


class MessageSizes:
    """The largest message lately sent to each queue: by it *reconcile* reads what a queue's length means."""

    def __init__(self) -> None:
        self._largest: dict[str, tuple[int, float]] = {}

    def sent(self, queue: str, size: int, now: float) -> None:
        """A message with so many jobs went to the queue at `now` (monotonic seconds)."""
        largest, at = self._largest.get(queue, (0, now))
        if size >= largest or now - at > REMEMBERED_SECONDS:
            self._largest[queue] = (size, now)

    def largest(self, queue: str) -> int:
        """At most so many jobs stand behind each message on the queue; for one we never sent to, the most there are."""
        size, _ = self._largest.get(queue, (MOST_REFS, 0.0))
        return size
