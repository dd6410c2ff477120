"""What the publisher has sent and has no answer to yet."""

import threading
from dataclasses import dataclass


class Batch:
    """Messages sent together; `answered` says if anything came back, `done` is set when nothing is open any more."""

    def __init__(self, size: int) -> None:
        self.confirmed = [False] * size
        self.open = size
        self.answered = False
        self.done = threading.Event()

    def settle(self, index: int, *, confirmed: bool) -> None:
        """One is confirmed, or will not be."""
        self.confirmed[index] = confirmed
        self.open -= 1
        if self.open == 0:
            self.done.set()

    def give_up(self) -> None:
        """Let nobody wait for what is still open."""
        self.done.set()


@dataclass(frozen=True, slots=True)
class Sent:
    """A message in flight: its place in its batch, and the broker's name of its queue."""

    batch: Batch
    index: int
    queue: str

    def settle(self, *, confirmed: bool) -> None:
        """It is confirmed, or will not be."""
        self.batch.settle(self.index, confirmed=confirmed)
