"""What the dispatcher needs of a broker, whichever it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.job import Ref


@dataclass(frozen=True)
class Envelope:
    """One message to be: the jobs it starts, and the queue of jobs it goes to."""

    queue: str
    refs: tuple[Ref, ...]


class Transport(Protocol):
    """Hands messages to a broker and says what became of them."""

    @property
    def connected(self) -> bool:
        """Whether publishing has a chance; when False the dispatcher claims nothing."""

    def publish(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """For each envelope, whether the broker confirmed it; False means refused or unknown. Bounded in time."""

    def depths(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages waiting on each queue; queues of which nothing is known are left out. Bounded in time."""

    def dead_letter_depths(self, queues: Iterable[str]) -> dict[str, int]:
        """The same of what the broker put aside of each queue."""
