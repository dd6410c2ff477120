"""A whole worker process on both brokers: what it takes, and how it stops with enough time and with too little."""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pika
import pytest
from sqlalchemy.orm import Session

from jobs.context import Context
from jobs.outbound import Outbound
from jobs.outcomes import Interrupt
from models import moves, worker
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.doorbell import LocalDoorbell
from models.job import Ref
from models.moves import Ending
from models.states import State
from models.worker import workers
from tests.proxy import Proxy
from tests.workbench import Bench, counted, lent_database, types
from workers import child as child_module
from workers import flow, topology
from workers import watchdog as watchdog_module
from workers.broker import JobmillBroker
from workers.child import WorkerPlan, WorkerProcess
from workers.local_broker import LocalBroker
from workers.publisher import Publisher
from workers.transport import Envelope, Transport

DEADLINE = 20.0
THREADS = 2


class Mill:
    """A transport and workers that take what it publishes; handlers wait until the test lets them go."""

    def __init__(self, database: Database, eventually: Callable[..., Any]) -> None:
        self.bench = Bench(database)
        self.database = database
        self.eventually = eventually
        self.transport: Transport
        self.make_broker: Callable[[], Any]
        self.queue_name: Callable[[str], str] = str
        self.workers: list[WorkerProcess] = []
        self.begun: list[Ref] = []
        self.let_go = threading.Event()

    def worker(self, threads: int = THREADS, queues: tuple[str, ...] = ("default",)) -> WorkerProcess:
        plan = WorkerPlan(queues, tuple(self.queue_name(queue) for queue in queues), threads, "0.0.test")
        process = WorkerProcess(
            self.database, self.make_broker(), types, Outbound(), LocalDoorbell(self.bench.rung), plan
        )
        self.workers.append(process)
        process.start()
        self.eventually(lambda: all(thread.consumer is not None for thread in process.dramatiq.consumers.values()))
        return process

    def publish(self, how_many: int, behave: Callable[[Context], Any] | None = None, **columns: Any) -> list[Ref]:
        refs = [self.bench.plant(behave or self.wait, **columns) for _ in range(how_many)]
        queue = columns.get("queue", "default")
        assert all(self.transport.publish([Envelope(queue, (ref,)) for ref in refs]))
        return refs

    def wait(self, context: Context) -> str:
        """A handler that is done when the test says so, and obeys whoever interrupts it."""
        self.begun.append(Ref(context.job_id, 3))
        deadline = time.monotonic() + DEADLINE
        while not self.let_go.wait(0.01) and time.monotonic() < deadline:
            pass
        return "done"

    def states(self, refs: list[Ref]) -> list[State]:
        return [self.bench.row(ref)["state"] for ref in refs]

    def count(self, refs: list[Ref], state: State) -> int:
        return self.states(refs).count(state)

    def worker_row(self, process: WorkerProcess) -> Any:
        with self.database.reading() as session:
            return session.execute(workers.select().where(workers.c.id == process.id)).mappings().one()


@pytest.fixture(scope="module")
def postgresql(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, POSTGRESQL)


@pytest.fixture(scope="module")
def sqlite(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, SQLITE)


def over(mill: Mill) -> None:
    mill.let_go.set()
    for process in mill.workers:
        if process.dramatiq.workers and process.dramatiq.workers[0].is_alive():
            process.stop(5)
        process.broker.close()


@pytest.fixture
def rabbit(
    postgresql: Database, rabbitmq_url: str, queue_prefix: str, eventually: Callable[..., Any]
) -> Iterator[Mill]:
    """A full installation."""
    mill = Mill(postgresql, eventually)
    publisher = Publisher((rabbitmq_url,), queue_prefix, "jobmill tests")
    publisher.start()
    eventually(lambda: publisher.connected)
    mill.transport = publisher
    mill.make_broker = lambda: JobmillBroker((rabbitmq_url,), "jobmill tests")
    mill.queue_name = lambda queue: topology.queue_name(queue_prefix, queue)
    yield mill
    over(mill)
    publisher.stop()


@pytest.fixture
def local(sqlite: Database, eventually: Callable[..., Any]) -> Iterator[Mill]:
    """An embedded one."""
    mill = Mill(sqlite, eventually)
    broker = mill.transport = LocalBroker()
    mill.make_broker = lambda: broker
    yield mill
    over(mill)


@pytest.fixture(autouse=True)
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers look more often than once a second whether they shall stop."""
    monkeypatch.setattr(child_module, "IDLE_MILLISECONDS", 100)


@pytest.fixture(params=["rabbit", "local"])
def mill(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


# Taking


def test_a_worker_says_that_it_is_there_and_does_what_is_published(mill: Mill):
    process = mill.worker()
    refs = mill.publish(5)
    mill.let_go.set()
    mill.eventually(lambda: mill.count(refs, State.SUCCEEDED) == 5)
    row = mill.worker_row(process)
    assert (row["threads"], row["queues"], row["version"]) == (THREADS, ["default"], "0.0.test")
    assert row["stopped_at"] is None
    assert {mill.bench.row(ref)["worker_id"] for ref in refs} == {process.id}


def test_a_worker_takes_no_more_than_it_has_threads_for(mill: Mill):
    mill.worker()
    refs = mill.publish(5)
    mill.eventually(lambda: len(mill.begun) == THREADS)
    mill.eventually(lambda: mill.transport.depths(["default"]) == {"default": 3})
    assert mill.count(refs, State.RUNNING) == THREADS
    mill.let_go.set()
    mill.eventually(lambda: mill.count(refs, State.SUCCEEDED) == 5)


def test_a_worker_serves_several_queues(mill: Mill):
    mill.worker(queues=("default", "media"))
    mill.let_go.set()
    refs = [*mill.publish(2), *mill.publish(2, queue="media")]
    mill.eventually(lambda: mill.count(refs, State.SUCCEEDED) == 4)


def test_a_handler_that_exits_ends_neither_thread_nor_worker(mill: Mill):
    def exits(_context: Context) -> None:
        raise SystemExit(1)

    process = mill.worker()
    refs = mill.publish(6, exits, max_attempts=3)
    mill.eventually(lambda: mill.count(refs, State.DEAD) == 6)
    assert all(thread.is_alive() for thread in process.dramatiq.workers)


def test_a_worker_outlives_a_broken_connection_and_goes_on(
    rabbit: Mill, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.2)
    proxy = Proxy(rabbitmq_url)
    rabbit.make_broker = lambda: JobmillBroker((proxy.url,), "jobmill tests")
    process = rabbit.worker()
    refs = rabbit.publish(THREADS)
    rabbit.eventually(lambda: len(rabbit.begun) == THREADS)
    proxy.reset()
    rabbit.let_go.set()
    rabbit.eventually(lambda: rabbit.count(refs, State.SUCCEEDED) == THREADS)
    later = rabbit.publish(3)
    # The first messages come a second time, and are stale.
    rabbit.eventually(lambda: rabbit.count(later, State.SUCCEEDED) == 3)
    rabbit.eventually(lambda: rabbit.transport.depths(["default"]) == {"default": 0})
    assert [rabbit.bench.row(ref)["attempt"] for ref in refs] == [3] * THREADS
    process.stop(5)
    proxy.close()


# Stopping with time enough


def test_what_is_running_may_end_and_what_waits_goes_to_another_worker_at_once(
    rabbit: Mill, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(flow, "PATIENCE", timedelta(seconds=DEADLINE))
    first = rabbit.worker(threads=1, queues=("default", "media"))
    running = rabbit.publish(1)
    rabbit.eventually(lambda: len(rabbit.begun) == 1)
    waiting = [*rabbit.publish(1, queue="media"), *rabbit.publish(2)]
    # It holds a message of its second queue, and no thread is free for it.
    rabbit.eventually(lambda: rabbit.transport.depths(["default", "media"]) == {"default": 2, "media": 0})
    stopping = threading.Thread(target=first.stop, args=[DEADLINE])
    stopping.start()
    rabbit.eventually(lambda: rabbit.transport.depths(["media"]) == {"media": 1}, within_seconds=1)
    assert rabbit.states(running) == [State.RUNNING]
    rabbit.eventually(lambda: rabbit.worker_row(first)["draining_at"] is not None)

    rabbit.begun.clear()
    second = rabbit.worker(threads=3, queues=("default", "media"))
    rabbit.eventually(lambda: rabbit.count(waiting, State.RUNNING) == 3)
    assert rabbit.states(running) == [State.RUNNING]
    assert {rabbit.bench.row(ref)["worker_id"] for ref in waiting} == {second.id}

    rabbit.let_go.set()
    stopping.join(DEADLINE)
    assert not stopping.is_alive()
    assert rabbit.states(running) == [State.SUCCEEDED]
    assert rabbit.bench.row(running[0])["worker_id"] == first.id
    assert rabbit.worker_row(first)["stopped_at"] is not None
    rabbit.eventually(lambda: rabbit.count(waiting, State.SUCCEEDED) == 3)
    # Each message was acknowledged by whoever did it: nothing is delivered again.
    second.stop(5)
    assert rabbit.transport.depths(["default", "media"]) == {"default": 0, "media": 0}


def test_what_a_stopping_worker_holds_is_begun_by_another_within_a_second(
    rabbit: Mill, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(flow, "PATIENCE", timedelta(seconds=DEADLINE))
    monkeypatch.setattr(child_module, "IDLE_MILLISECONDS", 1000)
    first = rabbit.worker(threads=1, queues=("default", "media"))
    rabbit.publish(1)
    rabbit.eventually(lambda: len(rabbit.begun) == 1)
    held = rabbit.publish(1, queue="media")
    rabbit.eventually(lambda: rabbit.transport.depths(["media"]) == {"media": 0})
    second = rabbit.worker(queues=("media",))
    assert rabbit.states(held) == [State.DISPATCHED]
    stopping = threading.Thread(target=first.stop, args=[DEADLINE])
    stopping.start()
    rabbit.eventually(lambda: rabbit.states(held) == [State.RUNNING], within_seconds=1)
    assert rabbit.bench.row(held[0])["worker_id"] == second.id
    rabbit.let_go.set()
    stopping.join(DEADLINE)
    assert not stopping.is_alive()


def test_a_stopping_worker_takes_nothing_new(mill: Mill):
    process = mill.worker()
    refs = mill.publish(1)
    mill.eventually(lambda: len(mill.begun) == 1)
    stopping = threading.Thread(target=process.stop, args=[DEADLINE])
    stopping.start()
    mill.eventually(lambda: mill.worker_row(process)["draining_at"] is not None)
    late = mill.publish(2)
    mill.let_go.set()
    stopping.join(DEADLINE)
    assert mill.states(refs + late) == [State.SUCCEEDED, State.DISPATCHED, State.DISPATCHED]


def test_a_worker_with_nothing_to_do_stops_soon(mill: Mill):
    process = mill.worker()
    began = time.monotonic()
    process.stop(DEADLINE)
    assert time.monotonic() - began < 6
    assert mill.worker_row(process)["stopped_at"] is not None
    assert not any(thread.is_alive() for thread in process.dramatiq.workers)
    assert not any(thread.is_alive() for thread in process.watchdog.threads)


# Stopping with too little


def test_what_takes_too_long_is_interrupted_and_costs_no_attempt(mill: Mill):
    process = mill.worker()
    refs = mill.publish(2)
    mill.eventually(lambda: len(mill.begun) == 2)
    mill.bench.rung.clear()
    before = counted("jobmill_interrupts_total", reason="Draining")
    process.stop(0.1)
    for ref in refs:
        row = mill.bench.row(ref)
        assert (row["state"], row["attempt"], row["lost"]) == (State.QUEUED, 2, 0)
        assert [told["move"] for told in mill.bench.history(ref)] == ["interrupt"]
    assert counted("jobmill_interrupts_total", reason="Draining") - before == 2
    assert mill.bench.rung.is_set()
    assert mill.worker_row(process)["stopped_at"] is not None


def stuck(context: Context, seconds: float) -> None:
    """A handler inside a call into C, which no interrupt reaches."""
    assert context
    ctypes.CDLL(None).usleep(ctypes.c_uint(int(seconds * 1_000_000)))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "LAST_WORDS", timedelta(seconds=0.3))


def test_a_handler_that_cannot_hear_loses_its_job_and_nothing_it_does_later_counts(local: Mill, hurried: None):
    begun, ended = threading.Event(), threading.Event()

    def behave(context: Context) -> str:
        begun.set()
        stuck(context, 2)
        ended.set()
        return "too late"

    process = local.worker()
    (ref,) = local.publish(1, behave)
    assert begun.wait(DEADLINE)
    process.stop(0.1)
    row = local.bench.row(ref)
    assert (row["state"], row["attempt"]) == (State.QUEUED, 2)
    assert local.bench.rung.is_set()
    assert not ended.is_set()
    local.eventually(lambda: process.executor.in_hand.wait_until_empty(0))
    assert local.bench.row(ref) == row


def test_what_has_not_begun_when_the_grace_is_over_goes_back_at_no_cost_and_does_not_begin(local: Mill):
    process = local.worker(threads=1)
    refs = [local.bench.plant(local.wait) for _ in range(4)]
    assert all(local.transport.publish([Envelope("default", tuple(refs))]))
    local.eventually(lambda: local.begun)
    process.stop(0.1)
    rows = [local.bench.row(ref) for ref in refs]
    assert [(row["state"], row["attempt"], row["lost"]) for row in rows] == [(State.QUEUED, 2, 0)] * 4
    assert len(local.begun) == 1
    for ref in refs[1:]:
        assert [event["reason"] for event in local.bench.history(ref)] == ["its worker stopped before it began"]


def test_of_a_message_whose_start_is_slow_nothing_more_begins_once_the_grace_is_over(
    local: Mill, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(child_module, "LAST_WORDS", timedelta(seconds=1))
    monkeypatch.setattr(watchdog_module, "LONGEST_TURN", timedelta(minutes=1))
    start, interrupt = moves.start, moves.interrupt
    begun, asked, go_on, let_go = [], threading.Event(), threading.Event(), threading.Event()

    def slow_start(session: Session, taken: list[Ref], *arguments: Any, **options: Any) -> Any:
        if len(taken) > 1:
            asked.set()
            assert go_on.wait(DEADLINE)
        return start(session, taken, *arguments, **options)

    def slow_interrupt(session: Session, endings: list[Ending], actor: str) -> Any:
        if refs[0] in {ending.ref for ending in endings}:
            let_go.set()
            time.sleep(0.5)  # a next one would begin in that time
        return interrupt(session, endings, actor)

    def deaf(context: Context) -> None:
        begun.append(Ref(context.job_id, 3))
        while not let_go.is_set():
            with suppress(Interrupt):
                stuck(context, 0.05)

    refs: list[Ref] = []
    monkeypatch.setattr(moves, "start", slow_start)
    monkeypatch.setattr(moves, "interrupt", slow_interrupt)
    process = local.worker(threads=2)
    beside = local.publish(1, deaf)
    local.eventually(lambda: begun == beside)
    refs += [local.bench.plant(deaf) for _ in range(3)]
    assert all(local.transport.publish([Envelope("default", tuple(refs))]))
    assert asked.wait(DEADLINE)
    threading.Timer(0.4, go_on.set).start()  # after the interrupts, and before the last words are over
    process.stop(0.1)
    local.eventually(lambda: process.executor.in_hand.wait_until_empty(0))
    assert begun == [*beside, refs[0]]
    assert [local.bench.row(ref)["lost"] for ref in refs] == [0] * 3
    assert local.states(refs[1:]) == [State.QUEUED] * 2


def test_no_job_stays_with_a_worker_that_has_stopped(local: Mill, hurried: None):
    def behave(context: Context) -> None:
        local.begun.append(Ref(context.job_id, 3))
        with suppress(Interrupt):
            stuck(context, 2)

    process = local.worker()
    (ref,) = local.publish(1, behave)
    local.eventually(lambda: local.begun)
    local.database.run(lambda session: moves.cancel(session, [ref.id], "tester"))
    process.stop(0.1)
    # One that is to be cancelled does not go back to the queue, and must not stay `running` for ever.
    assert local.states([ref]) == [State.CANCELLED]
    local.eventually(lambda: process.executor.in_hand.wait_until_empty(0))
    assert local.states([ref]) == [State.CANCELLED]


@pytest.mark.parametrize("doubted", [False, True])
def test_what_a_worker_that_stops_does_not_run_any_more_is_given_back_at_no_cost(local: Mill, doubted: bool):
    process = local.worker()
    left = local.bench.plant(state=State.RUNNING, worker_id=process.id)
    before = local.bench.row(left)["attempt"]
    if doubted:
        process.executor.in_hand.doubt([left])
    process.stop(0)
    row = local.bench.row(left)
    assert (row["state"], row["lost"], row["attempt"]) == (State.QUEUED, 0, before - 1)
    with local.database.reading() as session:
        assert worker.unstopped(session, 1000).count(process.id) == 0


def test_connections_to_the_broker_are_closed_with_the_worker(rabbit: Mill, rabbitmq_url: str):
    process = rabbit.worker()
    process.stop(1)
    assert not any(connection.is_open for connection in process.broker.connections)
    assert not any(thread.consumer.connection.is_open for thread in process.dramatiq.consumers.values())
    pika.BlockingConnection(pika.URLParameters(rabbitmq_url)).close()
