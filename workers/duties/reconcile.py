"""The duty that compares rows with the broker: what an emptied or restarted broker lost is queued again.

Queues with fewer messages than claims have lost some. Which ones is unknown, so the oldest claims are
released; should one of their messages turn up all the same, its lease is stale.
"""

from datetime import timedelta

import structlog

from models import moves, queries, reports, worker
from models.database import Database
from models.job import Ref
from models.states import Move
from workers import metrics
from workers.duties.dispatch import CLAIM_EXPIRES_AFTER, MOST_ON_BROKER
from workers.duties.leadership import Leadership
from workers.transport import Transport

log = structlog.get_logger(__name__)

EVERY_SECONDS = 2.0
SETTLED_AFTER = timedelta(seconds=5)
"""A message published this long ago is on its queue, with a worker, or lost."""


def missing(claims: list[Ref], waiting: int) -> tuple[list[Ref], list[Ref]]:
    """Of a queue's settled claims, oldest first, those without a message on it, and those with one."""
    lost = max(0, len(claims) - waiting)
    return claims[:lost], claims[lost:]


class Reconcile:
    """Makes the rows agree with what the broker holds."""

    name = "reconcile"

    def __init__(self, database: Database, transport: Transport, leadership: Leadership) -> None:
        self.database = database
        self.transport = transport
        self.leadership = leadership

    def run_once(self) -> float:
        """Compare every queue that has claims old enough to tell."""
        if self.leadership.held and self.transport.connected:
            settled = self._settled()
            # Asked after the claims were read: a message that came meanwhile can only hide a loss until the next look.
            for queue, waiting in self.transport.depths(settled).items():
                self._compare(queue, settled[queue], waiting)
        return EVERY_SECONDS

    def _settled(self) -> dict[str, list[Ref]]:
        with self.database.reading() as session:
            queues = queries.dispatched_counts(session).keys() | worker.capacities(session).keys()
            claims = {q: queries.settled_claims(session, q, SETTLED_AFTER, MOST_ON_BROKER) for q in sorted(queues)}
        return {queue: refs for queue, refs in claims.items() if refs}

    def _compare(self, queue: str, claims: list[Ref], waiting: int) -> None:
        lost, kept = missing(claims, waiting)
        with self.database.transaction() as session:
            released = moves.release(session, lost) if lost else []
            if kept:
                reports.renew_claims(session, kept, CLAIM_EXPIRES_AFTER)
        if released:
            metrics.moves.labels(Move.RELEASE).inc(len(released))
            log.warning("messages_were_lost", queue=queue, jobs=len(released))
