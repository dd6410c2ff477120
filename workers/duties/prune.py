"""The duty that deletes what has been kept long enough, in small batches that disturb nobody."""

from collections.abc import Mapping
from datetime import timedelta

import structlog

from models import moves, worker
from models.database import Database
from models.states import Move, State
from workers import metrics
from workers.duties.leadership import Leadership

log = structlog.get_logger(__name__)

BATCH = 500
EVERY_SECONDS = 60.0
BETWEEN_BATCHES = 0.2
WORKERS_KEPT = timedelta(days=1)


class Prune:
    """Deletes final jobs by retention per state; a state without one is kept for ever."""

    name = "prune"

    def __init__(self, database: Database, leadership: Leadership, retention: Mapping[State, timedelta]) -> None:
        self.database = database
        self.leadership = leadership
        self.retention = retention

    def run_once(self) -> float:
        """Delete one batch of each state; soon again while there is more."""
        if not self.leadership.held:
            return EVERY_SECONDS / 10
        most = max([self._prune(state, kept) for state, kept in self.retention.items()], default=0)
        self.database.run(lambda session: worker.forget(session, WORKERS_KEPT, BATCH))
        return BETWEEN_BATCHES if most == BATCH else EVERY_SECONDS

    def _prune(self, state: State, kept: timedelta) -> int:
        count = self.database.run(lambda session: moves.prune(session, state, kept, BATCH))
        if count:
            metrics.moves.labels(Move.PRUNE).inc(count)
            log.info("jobs_pruned", state=state, count=count)
        return count
