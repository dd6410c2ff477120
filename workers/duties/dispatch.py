"""The duty that decides what runs next: claim due jobs, publish them, release what was not confirmed.

The broker is kept shallow: the free threads' share and about one second of work. So a priority or a
cancellation acts at once, whatever the backlog. Where jobs are short and many, a message names several: their
worker then starts them by one statement and ends them by one.
"""

import math
import time
from collections import Counter
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from models import durations, lineup, moves, worker
from models.crashpoints import crashpoint
from models.database import Database
from models.errors import OF_ONE, Unavailable
from models.job import Ref
from models.lineup import InHand, Lane
from models.queue import Queue
from models.queue import restrained as restrained_queues
from models.states import Move
from models.worker import Capacity
from workers import metrics
from workers.duties.claiming import GATE_WIDTH, Claimed, Claims
from workers.duties.grouping import (
    MessageSizes,
    SecondsByType,
    envelopes,
    fair_size,
    jobs_a_message,
    mean_seconds,
    seconds_of,
)
from workers.duties.leadership import Leadership
from workers.duties.limits import allowance, look_again, look_again_at_gates, surplus
from workers.duties.pace import (
    LONGEST_SLEEP,
    SECOND_LOOK,
    SECONDS_OF_BACKGROUND,
    SECONDS_OF_WORK,
    Burden,
    Rate,
    Step,
    pause,
    room,
    until_due,
)
from workers.transport import Envelope, Transport

MOST_PER_STEP = 1000
AT_REST_SECONDS = 60.0
"""Where nothing waits and nothing is on the broker. What comes then rings, and the leader's renewal sees it besides."""
NO_LEADER_SLEEP = 0.5
REFUSED_SLEEP = 0.25
CAPACITY_KEPT_SECONDS = 0.2
DURATIONS_KEPT_SECONDS = 0.2
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Look:
    """A queue as a step finds it; `held` are its limits and what they count, None where there are none.

    What is on the broker was there at the moment `at`, of `time.monotonic`.
    """

    capacity: Capacity
    on_broker: int
    at: float
    lanes: list[Lane]
    held: "Held | None" = None

    def let_out(self) -> int:
        """How many jobs the limits let out; the claim asks again."""
        return allowance(self.held.queue, self.held.in_hand) if self.held else MOST_PER_STEP


@dataclass(frozen=True)
class Held:
    """A queue that is paused or limited, and how many of its jobs are in hand."""

    queue: Queue
    in_hand: InHand


class Dispatch:
    """Hands due jobs to the broker, for every queue that a live worker serves."""

    name = "dispatch"

    def __init__(
        self, database: Database, transport: Transport, leadership: Leadership, gate_width: int = GATE_WIDTH
    ) -> None:
        self.database = database
        self.gate_width = gate_width
        self.transport = transport
        self.leadership = leadership
        self.rates: dict[str, Rate] = {}
        self.claims = Claims(database, gate_width)
        self.sizes = MessageSizes()
        self._means: dict[str, float] = {}
        """How many seconds a job takes like those claimed last, of queues where more wait behind them."""
        self._known: dict[str, Capacity] = {}
        self._known_at = -math.inf
        self._seconds: SecondsByType = {}
        self._seconds_at = -math.inf
        self._unheard = False
        """Whether jobs went out alone whose type nobody had told of, which a worker does as soon as one is done."""

    def run_once(self) -> float:
        """Claim and publish once for each queue."""
        if not self.leadership.held or not self.transport.connected:
            return NO_LEADER_SLEEP
        with self.database.reading() as session:
            capacities = self._capacities(session)
            sight, at = lineup.look(session, capacities), time.monotonic()
            restrained = restrained_queues(session) if sight.restrained else {}
            held = {name: Held(one, lineup.in_hand(session, name)) for name, one in restrained.items()}
            served = [name for name in capacities if name not in held or not held[name].queue.paused]
            on_broker, lanes = Counter(sight.on_broker), {name: sight.lanes[name] for name in served}
            if any(lanes.values()):
                self._learn_durations(session)
        for name, one in held.items():
            on_broker[name] -= self._take_back(one)
        looks = {name: Look(capacities[name], on_broker[name], at, lanes[name], held.get(name)) for name in served}
        if capacities and not on_broker.total() and not any(lanes.values()):
            self._means.clear()
            return AT_REST_SECONDS
        pauses = [self._alone(name, look) for name, look in looks.items()]
        return min(pauses, default=LONGEST_SLEEP if capacities else NO_LEADER_SLEEP)

    def _capacities(self, session: Session) -> dict[str, Capacity]:
        """Who could work, as of a moment ago: it sets the pace only, and is asked every few milliseconds."""
        now = time.monotonic()
        if now - self._known_at > CAPACITY_KEPT_SECONDS:
            self._known, self._known_at = worker.capacities(session), now
        return self._known

    def _learn_durations(self, session: Session) -> None:
        """Before anything is claimed: what is goes out, although the database has gone away meanwhile."""
        now = time.monotonic()
        if self._unheard or now - self._seconds_at > DURATIONS_KEPT_SECONDS:
            self._seconds, self._seconds_at = durations.known(session), now
            self._unheard = False

    def _take_back(self, held: Held) -> int:
        """Release what came to the broker before the queue was paused or its limit set; gives how many jobs."""
        name, too_many = held.queue.name, surplus(held.queue, held.in_hand)
        if held.queue.paused:
            self.rates.pop(name, None)  # what leaves the broker now has not begun
        if not too_many:
            return 0
        released = self.database.run(lambda session: moves.release_from(session, name, too_many))
        metrics.moves.labels(Move.RELEASE).inc(len(released))
        return len(released)

    def _alone(self, queue: str, look: Look) -> float:
        """A queue's step; what keeps one from its rows does not keep the others waiting."""
        try:
            return self._queue(queue, look)
        except Unavailable as error:
            if error.trouble not in OF_ONE:
                raise
            log.warning("queue_passed_over", queue=queue, error=str(error))
            return REFUSED_SLEEP

    def _queue(self, queue: str, look: Look) -> float:
        rate = self.rates.setdefault(queue, Rate())
        rate.seen(look.on_broker, look.at, look.capacity.threads)
        most = min(MOST_PER_STEP, look.let_out())
        at_once = jobs_a_message(self._means.get(queue, math.inf))
        wanted, of_background = (
            min(room(look.capacity, rate.per_second, look.on_broker, seconds, at_once), most)
            for seconds in (SECONDS_OF_WORK, SECONDS_OF_BACKGROUND)
        )
        due = [lane for lane in look.lanes if lane.due]
        burden = Burden(look.capacity, room(look.capacity, rate.per_second, look.on_broker))
        claimed = self.claims.take(
            due,
            wanted,
            look.held is not None,
            look.capacity.threads,
            of_background,
            lambda jobs: burden.bearable([seconds_of(job, self._seconds) for job in jobs]),
        )
        if claimed.jobs:
            crashpoint("dispatch.after_claim")
        sent = self._publish(self._messages(queue, claimed, look.capacity.threads, look.on_broker), claimed.too_much)
        rate.leaves(look.on_broker + sent, look.at)
        if sent < len(claimed.jobs):
            return REFUSED_SLEEP  # each try costs a claim and a release, and changes nothing soon
        expected = rate.expected(look.capacity.threads / self._means.get(queue, math.inf))
        step = Step(look.on_broker, sent, claimed.more, expected, rate.wanting, sent == MOST_PER_STEP)
        slept = look_again(look.held.queue, rate.per_second) if look.held and claimed.more else pause(step)
        if claimed.full:
            slept = min(slept, look_again_at_gates(self.gate_width, rate.per_second))
        if wanted > 0 and not claimed.jobs:
            self._means.pop(queue, None)
        if wanted > 0 and not claimed.jobs and look.held is None:
            # More wait than one look sees, and of those it saw none is due, or may be taken: the next looks behind.
            slept = max(slept, SECOND_LOOK)
        return min(slept, until_due(look.lanes))

    def _messages(self, queue: str, claimed: Claimed, threads: int, before: int) -> list[Envelope]:
        """Note how long those are behind which more wait, for the next step.

        Where more wait, threads have a share of what was on the broker `before` too: whoever looks often finds little
        room each time, and messages of few jobs make workers so slow that it stays so.
        """
        if not claimed.jobs:
            return []
        self._means[queue] = mean_seconds(claimed.jobs, self._seconds) if claimed.more else math.inf
        self._unheard |= claimed.more and any(job.type not in self._seconds for job in claimed.jobs)
        shared = len(claimed.jobs) + (before if claimed.more else 0)
        messages = envelopes(claimed.jobs, fair_size(shared, threads), self._seconds)
        self.sizes.sent(queue, max(len(message.refs) for message in messages), time.monotonic())
        return messages

    def _publish(self, messages: list[Envelope], too_much: list[Ref]) -> int:
        """Publish, and give back what was not confirmed and what is too much; gives how many jobs were."""
        if not messages:
            return 0
        confirmed = self.transport.publish(messages)
        crashpoint("dispatch.after_confirms")
        failed = [
            ref for message, arrived in zip(messages, confirmed, strict=True) if not arrived for ref in message.refs
        ]
        if failed:
            metrics.unconfirmed.inc(len(failed))
        if failed or too_much:
            self._release([*failed, *too_much])
        return sum(len(message.refs) for message in messages) - len(failed)

    def _release(self, refs: list[Ref]) -> None:
        released = self.database.run(lambda session: moves.release(session, refs))
        metrics.count(Move.RELEASE, len(refs), len(released))
