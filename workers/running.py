"""The jobs that one worker process has in hand, shared by its threads, its watchdog and its drain."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from jobs.context import Context, Progress
from models.job import Ref
from workers.section import Section
from workers.slate import Slate
from workers.turn import Turn


@dataclass(eq=False)
class Run:
    """One handler that is running. `deadline` and what ends in `_at` are moments of `time.monotonic`."""

    ref: Ref
    context: Context
    deadline: float
    section: Section = field(default_factory=Section)
    cancel_seen_at: float | None = None
    timed_out_at: float | None = None
    """When it was interrupted for its time limit, which is late where the whole process stood still."""
    written_progress: Progress | None = None

    def overdue(self, now: float) -> bool:
        """Whether its time limit is over."""
        return now >= self.deadline

    def overdue_from(self, now: float) -> float:
        """From when on it does not yield to its time limit: not before it was told."""
        return self.timed_out_at or max(self.deadline, now)


class InHand:
    """Which jobs this process has taken, from before their start until after their end; the `slate` has what runs."""

    def __init__(self, slate: Slate | None = None) -> None:
        self._lock = threading.Lock()
        self._slate = slate or Slate()
        self._taken: set[Ref] = set()
        self._doubted: set[Ref] = set()
        self._runs: dict[Run, int] = {}
        """Each with its place on the slate."""
        self._turns: set[Turn] = set()
        self._emptied = threading.Condition(self._lock)

    def take(self, refs: Iterable[Ref]) -> list[Ref]:
        """Those of the refs that were not in hand already; a doubled message gets none."""
        with self._lock:
            fresh = [ref for ref in dict.fromkeys(refs) if ref not in self._taken]
            self._taken.update(fresh)
            if self._doubted:
                self._doubted.difference_update(fresh)
            return fresh

    def doubt(self, refs: Iterable[Ref]) -> None:
        """Whether they were started, or given back, was not heard: their rows may say that they run; none has begun."""
        with self._lock:
            self._doubted.update(refs)

    def doubted(self) -> set[Ref]:
        """The jobs of which nobody knows whether they were started, only that they were not begun."""
        with self._lock:
            return set(self._doubted)

    def settle_doubts(self, refs: Iterable[Ref]) -> None:
        """The rows of these were looked at."""
        with self._lock:
            self._doubted.difference_update(refs)

    def lacks(self, refs: Iterable[Ref]) -> list[Ref]:
        """Those of the refs that are not in hand."""
        with self._lock:
            return [ref for ref in refs if ref not in self._taken]

    def let_go(self, refs: Iterable[Ref]) -> None:
        """The jobs are ended, or were never started."""
        with self._lock:
            self._taken.difference_update(refs)
            if not self._taken:
                self._emptied.notify_all()

    @contextmanager
    def turn(self, turn: Turn) -> Iterator[Turn]:
        """A message's jobs take their turns while the block lasts."""
        with self._lock:
            self._turns.add(turn)
        try:
            yield turn
        finally:
            with self._lock:
                self._turns.discard(turn)

    def turns(self) -> list[Turn]:
        """The messages being worked on now."""
        with self._lock:
            return list(self._turns)

    def began(self, run: Run) -> None:
        """A handler is about to run."""
        with self._lock:
            self._runs[run] = self._slate.began(run.ref)

    def ended(self, run: Run) -> None:
        """A handler that began is done, one way or another."""
        with self._lock:
            self._slate.ended(self._runs.pop(run))

    def runs(self) -> list[Run]:
        """The handlers running now."""
        with self._lock:
            return list(self._runs)

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait for the last job to be let go; False if `timeout` seconds were not enough."""
        deadline = time.monotonic() + timeout
        with self._lock:
            return self._emptied.wait_for(lambda: not self._taken, max(0.0, deadline - time.monotonic()))
