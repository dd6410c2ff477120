"""What all actors of the model share: the real database, the reference beside it, a broker, and the workers."""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.strategies._internal.featureflags import FeatureFlags

from jobs.registry import Registry
from jobs.retry import Steps
from models import worker
from models.doorbell import LocalDoorbell
from models.ids import new_id
from models.job import NewJob, Ref
from models.moves import Started
from models.states import Move
from tests.mishaps import LosesAnswers
from tests.model.reference import Reference
from tests.model.world import World
from workers.executor import Executor
from workers.flow import Flow
from workers.transport import Envelope

QUEUE = "default"
PRIORITIES = (0, 10)
CLAIM_LASTS = timedelta(seconds=60)
RETRY_WAIT = timedelta(seconds=10)
POLICY = Steps((RETRY_WAIT,), jitter=0)

which = st.integers(0, 11)
"""Picks one of several, whatever they are: see `pick`."""


def pick(number: int, items: Sequence[Any]) -> Any:
    return items[number % len(items)]


class Hand:
    """One worker process: the product's own executor and recorder, and the attempts it has begun and not ended.

    Nothing tells a hand that it was thought dead; when it goes on then, it is a zombie.
    """

    def __init__(self, world: World) -> None:
        self.id = new_id()
        self.database = LosesAnswers(world.database)
        self.executor = Executor(self.database, Registry(), self.id, None, LocalDoorbell(threading.Event()), Flow(4))  # type: ignore[arg-type]
        self.actor = f"worker:{self.id}"
        self.runs: list[Started] = []
        self.kept_for: Ref | None = None
        """The job that has this process to itself."""
        self.told_to_stop: set[Ref] = set()

    def lose_answers(self, times: int) -> None:
        """The next commits succeed, and their answers are lost."""
        self.database.times = times

    def ended(self, runs: Iterable[Started]) -> None:
        for run in runs:
            self.runs.remove(run)
            self.kept_for = None
            self.executor.in_hand.let_go([run.ref])


class Stage(RuleBasedStateMachine):
    """The state of one run of the model. Each rule does a thing both ways, and compares what they say."""

    world: ClassVar[World]
    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        _mostly_allow_every_rule(self)
        self.world.reset()
        self.database = self.world.database
        self.reference = Reference(self.world.now)
        self.submitted: dict[UUID, NewJob] = {}
        self.seen: list[Ref] = []
        self.claimed: list[list[Envelope]] = []
        self.on_broker: list[Envelope] = []
        self.delivered: list[Envelope] = []
        self.intentions: list[tuple[str, list[Ref], set[UUID]]] = []
        self.begun: Counter[Ref] = Counter()
        self.forgotten: Counter[Ref] = Counter()
        self.hands = [self.new_hand(), self.new_hand()]

    def new_hand(self) -> Hand:
        hand = Hand(self.world)
        with self.database.transaction() as session:
            worker.register(session, hand.id, host="model", pid=1, queues=[QUEUE], threads=4, version="0")
        self.reference.heartbeats[hand.id] = self.reference.now
        return hand

    def pass_time(self, seconds: float) -> None:
        self.reference.now += timedelta(seconds=seconds)
        self.world.set_clock(self.reference.now)

    def attempts(self) -> list[tuple[Hand, Started]]:
        return [(hand, run) for hand in self.hands for run in hand.runs]

    def agree(self, move: Move, moved: Iterable[Any], expected: Iterable[Ref], asked: int = 0) -> None:
        """The jobs that really moved are those that should have; the others of those asked for were stale."""
        expected = list(expected)
        assert sorted(job.ref for job in moved) == sorted(expected), f"{move} moved others"
        self.count(move, len(expected))
        self.count(f"stale {move}", max(0, asked - len(expected)))

    def count(self, what: str, times: int = 1) -> None:
        if times:
            self.reached[str(what)] += times


def _mostly_allow_every_rule(machine: RuleBasedStateMachine) -> None:
    """Hypothesis leaves some rules out of each run, half of them on average.

    A job takes five in a row to get anywhere, so most runs would show nothing. There is no public setting for it.
    """
    rules = machine._rules_strategy
    some = rules.enabled_rules_strategy
    rules.enabled_rules_strategy = st.shared(st.just(FeatureFlags()) | st.just(FeatureFlags()) | some, key=machine)
