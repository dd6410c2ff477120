"""Dispatcher, broker and worker together, full and embedded: jobs go from `queued` to done by themselves."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from jobs.context import Context
from jobs.outbound import Outbound
from jobs.outcomes import RetryLater
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.job import Ref, job_events, jobs
from models.states import State
from models.worker import leases, workers
from tests.factories import ago
from tests.workbench import Bench, lent_database, types
from workers import child as child_module
from workers import topology
from workers.broker import JobmillBroker
from workers.child import WorkerPlan, WorkerProcess
from workers.dispatcher import Dispatcher
from workers.duties import leadership as leadership_module
from workers.local_broker import LocalBroker
from workers.publisher import Publisher
from workers.transport import Envelope

QUEUES = ("default", "media")
DEADLINE = 20.0


class Works:
    """One installation: a worker, and as many dispatchers as are started."""

    def __init__(self, database: Database, eventually: Callable[..., Any]) -> None:
        self.database = database
        self.bench = Bench(database)
        self.eventually = eventually
        self.wakes: list[threading.Event] = []
        self.dispatchers: list[Dispatcher] = []
        self.worker: WorkerProcess
        self.transport: Any

    def employ(self, broker: Any, prefix: Callable[[str], str] = str) -> None:
        plan = WorkerPlan(QUEUES, tuple(prefix(queue) for queue in QUEUES), 4, "0.0.test")
        self.worker = WorkerProcess(self.database, broker, types, Outbound(), self, plan)
        self.worker.start()

    def ring(self) -> None:
        """Be the doorbell that every dispatcher hears."""
        for wake in self.wakes:
            wake.set()

    def dispatch(self) -> Dispatcher:
        self.wakes.append(threading.Event())
        self.dispatchers.append(Dispatcher(self.database, self.transport, {}, self.wakes[-1]))
        self.dispatchers[-1].start()
        return self.dispatchers[-1]

    def submit(self, how_many: int, behave: Callable[[Context], Any] = lambda _: 1, **columns: Any) -> list[Ref]:
        refs = [self.bench.plant(behave, State.QUEUED, **columns) for _ in range(how_many)]
        self.ring()
        return refs

    def do_one(self) -> None:
        refs = self.submit(1)
        self.eventually(lambda: self.all_are(State.SUCCEEDED, refs))

    def all_are(self, state: State, refs: list[Ref]) -> bool:
        with self.database.reading() as session:
            found = session.scalars(select(jobs.c.state).where(jobs.c.id.in_([ref.id for ref in refs]))).all()
        return found == [state] * len(refs)

    def close(self) -> None:
        for dispatcher in self.dispatchers:
            dispatcher.stop(5)
        self.worker.stop(5)


def emptied(database: Database) -> Database:
    with database.transaction() as session:
        for table in (job_events, jobs, workers, leases):
            session.execute(delete(table))
    return database


@pytest.fixture(scope="module")
def postgresql(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, POSTGRESQL)


@pytest.fixture(scope="module")
def sqlite(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, SQLITE)


@pytest.fixture
def full(postgresql: Database, rabbitmq_url: str, queue_prefix: str, eventually: Callable[..., Any]) -> Iterator[Works]:
    works = Works(emptied(postgresql), eventually)
    works.transport = Publisher((rabbitmq_url,), queue_prefix, "jobmill tests")
    works.transport.start()
    works.employ(
        JobmillBroker((rabbitmq_url,), "jobmill tests"), lambda queue: topology.queue_name(queue_prefix, queue)
    )
    yield works
    works.close()
    works.transport.stop()


@pytest.fixture
def embedded(sqlite: Database, eventually: Callable[..., Any]) -> Iterator[Works]:
    works = Works(emptied(sqlite), eventually)
    works.transport = LocalBroker()
    works.employ(works.transport)
    yield works
    works.close()


@pytest.fixture(autouse=True)
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers look more often than once a second whether they shall stop."""
    monkeypatch.setattr(child_module, "IDLE_MILLISECONDS", 100)


@pytest.fixture(params=["full", "embedded"])
def works(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_a_backlog_is_worked_off_each_job_once(works: Works):
    ran: list[Any] = []
    refs = works.submit(100, lambda context: ran.append(context.job_id))
    refs += works.submit(20, lambda context: ran.append(context.job_id), queue="media")
    works.dispatch()
    works.eventually(lambda: works.all_are(State.SUCCEEDED, refs), within_seconds=DEADLINE)
    assert sorted(ran) == sorted(ref.id for ref in refs)
    assert [works.bench.row(ref)["lease"] for ref in refs] == [ref.lease + 1 for ref in refs]


def test_a_job_that_is_submitted_later_begins_at_once(works: Works):
    works.dispatch()
    works.do_one()
    delays = []
    for _ in range(5):
        begun = threading.Event()
        submitted = time.monotonic()
        works.submit(1, lambda _context, begun=begun: begun.set())
        assert begun.wait(DEADLINE)
        delays.append(time.monotonic() - submitted)
    # Polling alone would need up to a second.
    assert sorted(delays)[2] < 0.4


def test_a_delayed_job_starts_within_a_second_of_its_time_and_not_before(works: Works):
    works.dispatch()
    works.do_one()
    (ref,) = works.submit(1, due_at=ago(seconds=-1.5))
    works.eventually(lambda: works.all_are(State.SUCCEEDED, [ref]))
    row = works.bench.row(ref)
    assert timedelta(0) <= row["started_at"] - row["due_at"] < timedelta(seconds=1)


def test_a_retry_and_a_snooze_come_back_by_themselves(works: Works):
    tries: list[int] = []

    def behave(context: Context) -> str:
        tries.append(context.attempt)
        if len(tries) < 3:
            raise RetryLater(timedelta(seconds=0.05))
        return "at last"

    works.dispatch()
    refs = works.submit(1, behave)
    works.eventually(lambda: works.all_are(State.SUCCEEDED, refs))
    assert tries == [1, 2, 3]


def test_urgent_jobs_overtake_a_backlog(works: Works):
    order: list[str] = []
    let_go = threading.Event()

    def slow(_context: Context) -> None:
        let_go.wait(DEADLINE)
        order.append("usual")

    usual = works.submit(60, slow)
    works.dispatch()
    works.eventually(lambda: len(works.worker.executor.in_hand.runs()) == 4)
    urgent = works.submit(1, lambda _context: order.append("urgent"), priority=50)
    let_go.set()
    works.eventually(lambda: works.all_are(State.SUCCEEDED, usual + urgent), within_seconds=DEADLINE)
    assert order.index("urgent") < 30


def test_a_standby_takes_over_when_the_leader_stops(works: Works, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leadership_module, "RENEW_EVERY", timedelta(seconds=0.1))
    first, second = works.dispatch(), works.dispatch()
    works.eventually(lambda: first.leadership.held or second.leadership.held)
    leader, standby = (first, second) if first.leadership.held else (second, first)
    assert not standby.leadership.held
    works.do_one()
    leader.stop(5)
    assert not leader.leadership.held
    works.eventually(lambda: standby.leadership.held)
    refs = works.submit(5)
    works.eventually(lambda: works.all_are(State.SUCCEEDED, refs))


def test_a_standby_takes_over_when_the_leader_vanishes(works: Works, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leadership_module, "RENEW_EVERY", timedelta(seconds=0.1))
    leader = works.dispatch()
    works.eventually(lambda: leader.leadership.held)
    leader.loop.stop(5)  # without a word to anyone
    standby = works.dispatch()
    refs = works.submit(3)
    works.eventually(lambda: len(standby.loop.threads) > 0)
    assert not standby.leadership.held
    works.database.run(lambda session: session.execute(update(leases).values(expires_at=ago(seconds=1))))
    works.eventually(lambda: works.all_are(State.SUCCEEDED, refs))
    assert standby.leadership.held


def test_stopping_is_prompt_and_leaves_what_is_queued(works: Works):
    dispatcher = works.dispatch()
    works.do_one()
    began = time.monotonic()
    dispatcher.stop(10)
    assert time.monotonic() - began < 2
    assert not any(thread.is_alive() for thread in dispatcher.loop.threads)
    refs = works.submit(3)
    assert works.all_are(State.QUEUED, refs)


def test_messages_that_come_a_hundred_times_run_their_job_once(works: Works):
    ran: list[Any] = []
    dispatcher = works.dispatch()
    refs = works.submit(1, lambda context: ran.append(context.job_id))
    works.eventually(lambda: works.all_are(State.SUCCEEDED, refs))
    dispatcher.stop(5)
    claimed = Ref(refs[0].id, refs[0].lease + 1)
    works.transport.publish([Envelope("default", (claimed,))] * 100)
    works.eventually(lambda: works.transport.depths(["default"]) == {"default": 0})
    works.worker.stop(5)
    assert len(ran) == 1
