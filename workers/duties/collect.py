"""The duty that empties RabbitMQ's own dead letters: into jobs that go on, or into rows that an operator reads."""

import math
import time
from collections.abc import Iterable

import structlog

from models import lineup, worker
from models.crashpoints import crashpoint
from models.database import Database
from models.ids import new_id
from models.states import Move
from workers import metrics, topology
from workers.dead_queues import DeadQueues, DeadQueuesDoor
from workers.duties.judging import Collected, collect, judged
from workers.duties.leadership import Leadership
from workers.transport import Transport

log = structlog.get_logger(__name__)

BATCH = 30
"""Of the answers to messages that were asked for one by one, RabbitMQ passes some 32 on to a quorum queue at once. The
rest of a larger batch is lost with the connection, and its messages come again: in 3.10, of 46 that were acknowledged
together 13, in 9 of 12 tries."""
EVERY_SECONDS = 2.0
AT_REST_SECONDS = 30.0
AWAY_SECONDS = 5.0


class Collect:
    """Takes what lies in the dead letters of every queue that is known, a batch at a time."""

    name = "collect"

    def __init__(
        self,
        database: Database,
        transport: Transport,
        leadership: Leadership,
        door: DeadQueuesDoor,
        configured: Iterable[str],
    ) -> None:
        self.database = database
        self.transport = transport
        self.leadership = leadership
        self.door = door
        self.queues = set(configured)
        self._learned_at = -math.inf

    def run_once(self) -> float:
        """Take a batch of each queue that has any; again at once when there may be more."""
        if not (self.leadership.held and self.transport.connected):
            return EVERY_SECONDS
        self._learn(time.monotonic())
        found = self.transport.dead_letter_depths(sorted(self.queues))
        return min([self._empty(queue) for queue, depth in found.items() if depth], default=EVERY_SECONDS)

    def _learn(self, now: float) -> None:
        """Find out which queues there are: anew at each look while jobs move, and now and then at rest."""
        if self.leadership.in_motion or now - self._learned_at > AT_REST_SECONDS:
            with self.database.reading() as session:
                self.queues |= worker.known_queues(session) | lineup.dispatched_counts(session).keys()
            self._learned_at = now

    def _empty(self, queue: str) -> float:
        """On a connection of its own: a message that pika cannot read ends it, and is to hold up no other queue."""
        try:
            with self.door.open() as dead_queues:
                return 0.0 if self._queue(dead_queues, queue) else EVERY_SECONDS
        except topology.BROKER_ERRORS as error:
            log.warning("dead_letters_not_read", queue=queue, reason=str(error), again_in_seconds=AWAY_SECONDS)
            return AWAY_SECONDS

    def _queue(self, dead_queues: DeadQueues, queue: str) -> int:
        arrivals = dead_queues.take(queue, BATCH)
        if arrivals:
            # Ids that are the same at each try of the step: one whose answer was lost may have been committed.
            batch = [(judged(arrival), new_id()) for arrival in arrivals]
            outcome = self.database.run(lambda session: collect(session, batch))
            crashpoint("collect.after_commit")
            dead_queues.acknowledge(arrivals)
            _tell(queue, outcome)
            if outcome.released:
                self.leadership.wake.set()
        return len(arrivals)


def _tell(queue: str, outcome: Collected) -> None:
    metrics.count(Move.RELEASE, outcome.released + outcome.stale, outcome.released)
    metrics.undeliverable_forgotten.inc(outcome.forgotten)
    for name, count in vars(outcome).items():
        if name != "forgotten":
            metrics.collected.labels(name).inc(count)
    log.warning("dead_letters_collected", queue=queue, **vars(outcome))
