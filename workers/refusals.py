"""Tells a channel that is stuck from a queue that takes no more.

RabbitMQ (3.10): a channel that first publishes to a quorum queue just after the node of its leader died asks that node
for good, and refuses every message at once. Another channel asks the new leader.
"""

FIRST_PATIENCE_SECONDS = 1.0
"""For how long a queue refuses all before another channel is worth its price: what is in flight is unknown then."""
LONGEST_PATIENCE_SECONDS = 60.0
"""Where no channel helps, as with a queue whose length somebody limited, each is given twice as long as the last."""


class Refusals:
    """Since when each queue has refused every message. Moments are those of `time.monotonic`."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._patience: dict[str, float] = {}

    def accepted(self, queue: str) -> None:
        """The queue took a message."""
        self._since.pop(queue, None)
        self._patience.pop(queue, None)

    def refused(self, queue: str, now: float) -> bool:
        """The queue took one not; whether that has gone on long enough for another channel to be tried."""
        patience = self._patience.get(queue, FIRST_PATIENCE_SECONDS)
        if now - self._since.setdefault(queue, now) < patience:
            return False
        self._since[queue] = now
        self._patience[queue] = min(2 * patience, LONGEST_PATIENCE_SECONDS)
        return True
