"""The duty that compares rows with the broker: what an emptied or restarted broker lost is queued again.

Queues with fewer messages than their claims need have lost some. Which ones is unknown, so the oldest claims are
released; should one of their messages turn up all the same, its lease is stale.
"""

from datetime import timedelta

import structlog

from models import lineup, moves, queries, reports
from models.crashpoints import crashpoint
from models.database import Database
from models.job import Ref
from models.states import Move
from workers import metrics
from workers.duties.claiming import CLAIM_EXPIRES_AFTER
from workers.duties.grouping import MessageSizes
from workers.duties.leadership import Leadership
from workers.duties.pace import MOST_ON_BROKER
from workers.transport import Transport

log = structlog.get_logger(__name__)

EVERY_SECONDS = 2.0
SETTLED_AFTER = timedelta(seconds=5)
"""A message published this long ago is on its queue, with a worker, or lost."""
RENEWED_FOR = timedelta(minutes=2)
"""Counting cannot find the one message that was lost from a queue that is never empty. So claims are renewed for
this long only; then they expire, and a message that waited so long is stale when it comes."""


def missing(claims: list[Ref], waiting: int, jobs_a_message: int) -> tuple[list[Ref], list[Ref]]:
    """Of a queue's settled claims, oldest first, those surely without a message on it, and those perhaps with one."""
    lost = max(0, len(claims) - waiting * jobs_a_message)
    return claims[:lost], claims[lost:]


class Reconcile:
    """Makes the rows agree with what the broker holds."""

    name = "reconcile"

    def __init__(self, database: Database, transport: Transport, leadership: Leadership, sizes: MessageSizes) -> None:
        self.database = database
        self.transport = transport
        self.leadership = leadership
        self.sizes = sizes

    def run_once(self) -> float:
        """Compare every queue that has claims old enough to tell."""
        if self.leadership.held and self.leadership.in_motion and self.transport.connected:
            with self.database.reading() as session:
                queues = lineup.dispatched_counts(session)
            # The broker is asked first: what a worker begins between the two looks then counts as waiting for
            # one look too long, and never as lost.
            for queue, waiting in self.transport.depths(queues).items():
                self._compare(queue, waiting)
        return EVERY_SECONDS

    def _compare(self, queue: str, waiting: int) -> None:
        with self.database.reading() as session:
            claims = queries.settled_claims(session, queue, SETTLED_AFTER, MOST_ON_BROKER)
            old = set(queries.settled_claims(session, queue, RENEWED_FOR, MOST_ON_BROKER))
        lost, kept = missing(claims, waiting, self.sizes.largest(queue))
        if not claims:
            return
        with self.database.transaction() as session:
            released = moves.release(session, lost) if lost else []
            if young := [ref for ref in kept if ref not in old]:
                reports.renew_claims(session, young, CLAIM_EXPIRES_AFTER)
        metrics.count(Move.RELEASE, len(lost), len(released))
        if released:
            crashpoint("reconcile.after_release")
            log.warning("messages_were_lost", queue=queue, jobs=len(released))
            self.leadership.wake.set()
