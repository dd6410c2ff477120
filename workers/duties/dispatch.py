"""The duty that decides what runs next: claim due jobs, publish them, release what was not confirmed.

The broker is kept shallow: the free threads' share and about one second of work. So a priority or a
cancellation acts at once, whatever the backlog. Where jobs are short and many, a message names several: their
worker then starts them by one statement and ends them by one.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from models import moves, queries, worker
from models.crashpoints import crashpoint
from models.database import Database
from models.errors import Unavailable
from models.moves import Moved
from models.queries import Lane
from models.states import Move
from models.worker import Capacity
from workers import metrics
from workers.duties.grouping import MessageSizes, envelopes, message_size
from workers.duties.leadership import Leadership
from workers.transport import Envelope, Transport

CLAIM_EXPIRES_AFTER = timedelta(seconds=60)
SECONDS_OF_WORK = 1.0
MOST_ON_BROKER = 2000
MOST_PER_STEP = 500
LONGEST_SLEEP = 1.0
SECOND_LOOK = 0.05
NO_LEADER_SLEEP = 0.5
REFUSED_SLEEP = 0.25
CAPACITY_KEPT_SECONDS = 0.2


class Rate:
    """Jobs begun per second, smoothed over about a second, seen as what left the broker between two looks."""

    def __init__(self) -> None:
        self.per_second = 0.0
        self._left: int | None = None
        self._at = 0.0

    def seen(self, on_broker: int, now: float) -> None:
        """The queue holds `on_broker` jobs at `now` (monotonic seconds)."""
        if self._left is not None and now > self._at:
            elapsed = now - self._at
            weight = 1 - math.exp(-elapsed)
            self.per_second += weight * (max(0, self._left - on_broker) / elapsed - self.per_second)

    def leaves(self, on_broker: int, now: float) -> None:
        """This step left `on_broker` jobs there."""
        self._left, self._at = on_broker, now


@dataclass(frozen=True)
class Step:
    """What one look at a queue found: jobs on the broker before, claimed now, and whether due ones are left."""

    before: int
    claimed: int
    more_due: bool
    rate: float


def room(capacity: Capacity, per_second: float, on_broker: int) -> int:
    """How many more jobs of a queue the broker should hold."""
    wanted = max(1, capacity.free + math.ceil(per_second * SECONDS_OF_WORK))
    return max(0, min(wanted, MOST_ON_BROKER) - on_broker)


def pause(step: Step) -> float:
    """Seconds until a queue with due jobs left needs another look: about when half of the broker's are begun."""
    if not step.more_due:
        # Behind what was due just now, the same lane may hold a job that is due soon: look for it.
        return SECOND_LOOK if step.claimed else LONGEST_SLEEP
    if step.before == 0:
        return 0.01  # its workers had nothing to take: find out how fast they are
    return min(max((step.before + step.claimed) / (2 * max(step.rate, 1.0)), 0.02), 0.25)


class Dispatch:
    """Hands due jobs to the broker, for every queue that a live worker serves."""

    name = "dispatch"

    def __init__(self, database: Database, transport: Transport, leadership: Leadership) -> None:
        self.database = database
        self.transport = transport
        self.leadership = leadership
        self.rates: dict[str, Rate] = {}
        self.sizes = MessageSizes()
        self._known: dict[str, Capacity] = {}
        self._known_at = -math.inf

    def run_once(self) -> float:
        """Claim and publish once for each queue."""
        if not self.leadership.held or not self.transport.connected:
            return NO_LEADER_SLEEP
        with self.database.reading() as session:
            capacities = self._capacities(session)
            on_broker = queries.dispatched_counts(session)
            lanes = {queue: queries.lanes(session, queue) for queue in capacities}
        pauses = [self._queue(queue, capacities[queue], on_broker.get(queue, 0), lanes[queue]) for queue in capacities]
        return min(pauses, default=NO_LEADER_SLEEP)

    def _capacities(self, session: Session) -> dict[str, Capacity]:
        """Who could work, as of a moment ago: it sets the pace only, and is asked every few milliseconds."""
        now = time.monotonic()
        if now - self._known_at > CAPACITY_KEPT_SECONDS:
            self._known, self._known_at = worker.capacities(session), now
        return self._known

    def _queue(self, queue: str, capacity: Capacity, on_broker: int, lanes: list[Lane]) -> float:
        rate = self.rates.setdefault(queue, Rate())
        rate.seen(on_broker, time.monotonic())
        wanted = min(room(capacity, rate.per_second, on_broker), MOST_PER_STEP)
        due = [lane for lane in lanes if lane.due]
        claimed = self._claim(due, wanted) if due and wanted else []
        size = message_size(capacity, rate.per_second, len(claimed))
        if claimed:
            crashpoint("dispatch.after_claim")
            self.sizes.sent(queue, size, time.monotonic())
        sent = self._publish(envelopes(claimed, size))
        rate.leaves(on_broker + sent, time.monotonic())
        if sent < len(claimed):
            return REFUSED_SLEEP  # each try costs a claim and a release, and changes nothing soon
        step = Step(on_broker, sent, more_due=bool(due) and len(claimed) >= wanted, rate=rate.per_second)
        return min(pause(step), _until_due(lanes))

    def _claim(self, due: Iterable[Lane], wanted: int) -> list[Moved]:
        """Claim lane by lane; what was claimed before the database went away is published all the same."""
        claimed: list[Moved] = []
        try:
            with self.database.heart() as session:
                for lane in due:
                    left = wanted - len(claimed)
                    if left > 0:
                        claimed += moves.claim(session, lane.queue, lane.priority, left, CLAIM_EXPIRES_AFTER)
        except Unavailable:
            if not claimed:
                raise
        metrics.moves.labels(Move.CLAIM).inc(len(claimed))
        return claimed

    def _publish(self, messages: list[Envelope]) -> int:
        """Publish and give back what was not confirmed; gives how many jobs were."""
        if not messages:
            return 0
        confirmed = self.transport.publish(messages)
        crashpoint("dispatch.after_confirms")
        failed = [
            ref for message, arrived in zip(messages, confirmed, strict=True) if not arrived for ref in message.refs
        ]
        if failed:
            metrics.unconfirmed.inc(len(failed))
            released = self.database.run(lambda session: moves.release(session, failed))
            metrics.count(Move.RELEASE, len(failed), len(released))
        return sum(len(message.refs) for message in messages) - len(failed)


def _until_due(lanes: Iterable[Lane]) -> float:
    """Seconds until the first job that waits for its time, by this machine's clock; polling mends a wrong one."""
    waits = [(lane.due_at - datetime.now(UTC)).total_seconds() for lane in lanes if not lane.due]
    return max(0.005, min(waits, default=LONGEST_SLEEP))
