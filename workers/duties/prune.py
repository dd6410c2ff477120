"""The duty that deletes what has been kept long enough, in small batches, and at first for a third of the time.

Letters are written to the archive first, if there is one, and only what stands there is deleted. No transaction is open
while a disk is written; the second one sees whether a letter changed meanwhile.
"""

import math
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

import structlog

from models import gate, letters, moves, redrive_letters, worker
from models.crashpoints import crashpoint
from models.database import Database
from models.letters import Letter
from models.states import Move, State
from workers import metrics
from workers.archive import Archive, ArchiveFailed
from workers.duties.leadership import Leadership

log = structlog.get_logger(__name__)

BATCH = 500
LETTERS = 100
REDRIVEN = 5_000
LETTERS_CHARACTERS = 16_000_000
EVERY_SECONDS = 60.0
REST_PER_WORK, LEAST_REST_PER_WORK = 2.0, 0.25
"""After a batch it rests so many times as long as that took: it is at work for a third of the time, and what a machine
does quickly it does more often. At a fixed pause a busy installation would make more jobs than it deletes."""
PATIENCE_SECONDS = 300.0
"""As often as so long has gone by without an end to what is to be deleted, it rests half as long: some hundred thousand
old jobs go gently, and a third is not all that a busy installation may ever delete in."""
SHORTEST_REST_SECONDS = 0.02
WORKERS_KEPT = timedelta(days=1)
GATES_KEPT = timedelta(days=30)
ARCHIVED = (State.DEAD, State.DISCARDED)


class Prune:
    """Deletes final jobs by retention per state; a state without one is kept for ever."""

    name = "prune"

    def __init__(
        self,
        database: Database,
        leadership: Leadership,
        retention: Mapping[State, timedelta],
        archive: Archive | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database = database
        self.leadership = leadership
        self.retention = retention
        self.archive = archive
        self._clock = clock
        self._behind_since: float | None = None

    def run_once(self) -> float:
        """Delete one batch of each state; soon again while there is more."""
        behind_since, self._behind_since = self._behind_since, None  # of a step that fails nothing is known
        if not self.leadership.held:
            return EVERY_SECONDS / 10
        began = self._clock()
        self.database.run(lambda session: worker.forget(session, WORKERS_KEPT, BATCH))
        self.database.run(lambda session: gate.remove_unused(session, GATES_KEPT, BATCH))
        more = [self._prune(state, kept) for state, kept in self.retention.items()]
        if not any(more):
            return EVERY_SECONDS
        self._behind_since = began if behind_since is None else behind_since
        return rest(self._clock() - began, began - self._behind_since)

    def _prune(self, state: State, kept: timedelta) -> bool:
        """Delete a batch; whether there may be more."""
        # First, for a redrive has up to a hundred thousand letters, which would go in the statement that deletes it.
        if self.database.run(lambda session: redrive_letters.forget(session, state, kept, REDRIVEN)) == REDRIVEN:
            return True
        if self.archive is not None and state in ARCHIVED:
            count = self._put_away(self.archive, state, kept)
            more = count > 0
        else:
            count = self.database.run(lambda session: moves.prune(session, state, kept, BATCH))
            more = count == BATCH
        if count:
            metrics.moves.labels(Move.PRUNE).inc(count)
            log.info("jobs_pruned", state=state, count=count)
        return more

    def _put_away(self, archive: Archive, state: State, kept: timedelta) -> int:
        found = self.database.read(
            lambda session: letters.kept_long_enough(session, state, kept, LETTERS, LETTERS_CHARACTERS)
        )
        if not found or not self._written(archive, found):
            return 0
        crashpoint("prune.after_archive")
        return self.database.run(lambda session: moves.prune_letters(session, found))

    def _written(self, archive: Archive, found: list[Letter]) -> bool:
        try:
            archive.write(found)
        except ArchiveFailed as error:
            metrics.archive_failures.inc()
            log.error("archive_failed", reason=str(error), again_in_seconds=EVERY_SECONDS)  # noqa: TRY400 - said whole
            return False
        metrics.archived.inc(len(found))
        return True


def rest(worked: float, behind: float) -> float:
    """Seconds until the next batch, after one that took `worked` when there had been more for `behind` seconds."""
    halved = int(behind // PATIENCE_SECONDS)
    per_work = max(LEAST_REST_PER_WORK, math.ldexp(REST_PER_WORK, -halved))
    return min(max(SHORTEST_REST_SECONDS, per_work * worked), EVERY_SECONDS)
