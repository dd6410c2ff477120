"""Tells a channel that is stuck from a queue that takes no more.

RabbitMQ (3.10): a channel that first publishes to a quorum queue just after the node of its leader died asks that node
for good, and refuses every message at once. Another channel asks the new leader.
"""

FIRST_PATIENCE_SECONDS = 1.0
"""For how long a queue refuses all before another channel is worth its price: what is in flight is unknown then."""
LONGEST_PATIENCE_SECONDS = 60.0
"""Where no channel helps, as with a queue whose length somebody limited, each is given twice as long as the last."""


class Refusals:
    """Since when queues have refused every message on the channel there is. Moments are those of `time.monotonic`."""

    def __init__(self) -> None:
        self._accepted: set[str] = set()
        self._since: dict[str, float] = {}
        self._patience: dict[str, float] = {}

    def begin_anew(self) -> None:
        """There is another channel."""
        self._accepted.clear()
        self._since.clear()

    def accepted(self, queue: str) -> None:
        """The queue took a message, so the channel is not stuck with it, whatever the queue refuses from now on."""
        self._accepted.add(queue)

    def refused(self, queue: str, now: float) -> bool:
        """Note that the queue took one not; gives whether another channel is to be tried."""
        patience = self._patience.get(queue, FIRST_PATIENCE_SECONDS)
        if queue in self._accepted or now - self._since.setdefault(queue, now) < patience:
            return False
        self._patience[queue] = min(2 * patience, LONGEST_PATIENCE_SECONDS)
        return True
