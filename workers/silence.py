"""Tells a quiet queue from a consumer that its broker has forgotten.

RabbitMQ (3.10) does not cancel the consumers of a quorum queue that is deleted and declared again at once: it still
counts them, and delivers nothing to them ever again. A consumer that hears nothing for a while therefore asks whether
anything waits.
"""

from datetime import timedelta

ASKED_AFTER = timedelta(seconds=3)
"""How long nothing comes before the question, and between two. Each costs RabbitMQ a look at the queue."""


class Silence:
    """For how long nothing came to a consumer that could take more, and what was found when it asked.

    Moments are those of `time.monotonic`.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._suspected = False

    def broken(self, now: float) -> None:
        """Something came, or nothing could have come."""
        self._since, self._suspected = now, False

    def asks(self, now: float) -> bool:
        """Whether it is time to ask how many messages wait."""
        return now - self._since >= ASKED_AFTER.total_seconds()

    def is_deaf(self, waiting: int, now: float) -> bool:
        """Whether messages wait, and did so at the last question too: one on its way is here by the next."""
        deaf, self._suspected, self._since = self._suspected and waiting > 0, waiting > 0, now
        return deaf
