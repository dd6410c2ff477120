"""How claimed jobs are put into messages: one each at low load, several where jobs are short and many."""

import math
from collections.abc import Sequence

from models.moves import Moved
from models.worker import Capacity
from workers.messages import MOST_REFS
from workers.transport import Envelope

SECONDS_A_MESSAGE = 0.1
"""So much work of one thread a message holds at most, by the queue's present rate."""
REMEMBERED_SECONDS = 180.0


def message_size(capacity: Capacity, per_second: float, claimed: int) -> int:
    """How many jobs a message names: what keeps a thread busy for a moment, and leaves no thread without a share."""
    if capacity.threads == 0:
        return 1
    short_work = math.floor(per_second / capacity.threads * SECONDS_A_MESSAGE)
    return max(1, min(short_work, claimed // capacity.threads, MOST_REFS))


def envelopes(claimed: Sequence[Moved], size: int) -> list[Envelope]:
    """The messages for jobs of one queue, `size` jobs in each; one that was lost with its worker travels alone."""
    alone = [[job] for job in claimed if job.lost]
    others = [job for job in claimed if not job.lost]
    groups = [others[first : first + size] for first in range(0, len(others), size)]
    return [Envelope(group[0].queue, tuple(job.ref for job in group)) for group in [*groups, *alone]]


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
