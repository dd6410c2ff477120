"""Limits of RabbitMQ itself, reached on a node of the tests' own: an unacknowledged message's time, and memory."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from jobs.context import Context
from models.database import Database
from models.dialect import POSTGRESQL
from models.ids import new_id
from models.job import Ref
from models.states import State
from tests.acceptance.ledger import Ledger
from tests.acceptance.private_services import RABBITMQ, PrivateRabbitmq
from tests.faults.noted_mill import NotedMill
from tests.integration.test_drain import over
from tests.workbench import counted, lent_database
from workers import child, flow, topology
from workers.broker import JobmillBroker
from workers.publisher import Publisher
from workers.transport import Envelope

pytestmark = pytest.mark.timed

PREFIX = "limits"
CONSUMER_TIMEOUT = 1.0
PRECONDITION_FAILED = 406


def rabbitmqctl(server: PrivateRabbitmq, *words: str) -> None:
    subprocess.run(
        [f"{RABBITMQ}/rabbitmqctl", "--quiet", *words],
        env=server.environment,
        cwd=server.folder,
        capture_output=True,
        timeout=60,
        check=True,
    )


@pytest.fixture(scope="module")
def server(eventually: Callable[..., Any]) -> Iterator[PrivateRabbitmq]:
    """A node that closes the channel of whoever leaves a message unacknowledged for a second, and looks often."""
    server = PrivateRabbitmq(eventually)
    try:
        server.start()
        for name, milliseconds in {
            "consumer_timeout": int(CONSUMER_TIMEOUT * 1000),
            "channel_tick_interval": 100,
        }.items():
            rabbitmqctl(server, "eval", f"application:set_env(rabbit, {name}, {milliseconds}).")
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def postgresql(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, POSTGRESQL)


@pytest.fixture
def publisher(server: PrivateRabbitmq, eventually: Callable[..., Any]) -> Iterator[Publisher]:
    publisher = Publisher((server.url,), PREFIX, "jobmill tests", timeout=2)
    publisher.start()
    eventually(lambda: publisher.connected)
    yield publisher
    publisher.stop()


@pytest.fixture
def mill(
    postgresql: Database,
    server: PrivateRabbitmq,
    publisher: Publisher,
    ledger: Ledger,
    eventually: Callable[..., Any],
) -> Iterator[NotedMill]:
    mill = NotedMill(postgresql, eventually, ledger, [server.url])
    mill.transport = publisher
    mill.make_broker = lambda: JobmillBroker((server.url,), "jobmill tests")
    mill.queue_name = lambda queue: topology.queue_name(PREFIX, queue)
    yield mill
    over(mill)


class Sleeper:
    """One who consumes and never acknowledges. `closed` says whether RabbitMQ lost patience with it."""

    def __init__(self, url: str) -> None:
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        channel = self.connection.channel()
        channel.queue_declare("sleeper", durable=True, arguments={"x-queue-type": "quorum"})
        channel.basic_publish("", "sleeper", b"for nobody")
        self.deliveries = channel.consume("sleeper", inactivity_timeout=0)
        self.closed = False

    def look(self) -> None:
        try:
            if not self.closed:
                next(self.deliveries)
        except ChannelClosedByBroker as closed:
            self.closed = closed.reply_code == PRECONDITION_FAILED


@pytest.fixture
def sleeper(server: PrivateRabbitmq) -> Iterator[Sleeper]:
    sleeper = Sleeper(server.url)
    yield sleeper
    sleeper.connection.close()


@pytest.mark.fault("rabbitmq-consumer-timeout", "a node whose consumer_timeout is a second, and a job 40 times as long")
@pytest.mark.parametrize("times", [8, pytest.param(40, marks=pytest.mark.long)])
def test_a_job_longer_than_rabbitmqs_patience_runs_once_and_its_worker_goes_on_consuming(
    mill: NotedMill, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch, times: int
):
    monkeypatch.setattr(flow, "ACKNOWLEDGED_AFTER", timedelta(seconds=CONSUMER_TIMEOUT / 4))
    monkeypatch.setattr(flow, "PATIENCE", timedelta(seconds=CONSUMER_TIMEOUT / 4))
    monkeypatch.setattr(child, "IDLE_MILLISECONDS", 100)
    before = counted("jobmill_early_acknowledgements_total")
    worker = mill.worker(threads=2, queues=("default", "media"))
    consumers = {name: thread.consumer for name, thread in worker.dramatiq.consumers.items()}
    begun: list[float] = []

    def long(context: Context) -> str:
        begun.append(time.monotonic())
        context.wait(CONSUMER_TIMEOUT * times)
        return "at last"

    (ref,) = mill.publish(1, long, timeout_seconds=600)
    mill.eventually(lambda: begun)
    others = 0
    while mill.states([ref]) != [State.SUCCEEDED]:
        assert time.monotonic() - begun[0] < CONSUMER_TIMEOUT * times + 10
        quick = [*mill.publish(1, lambda _: "quick"), *mill.publish(1, lambda _: "quick", queue="media")]
        mill.eventually(lambda refs=quick: mill.count(refs, State.SUCCEEDED) == len(refs), within_seconds=2)
        others += len(quick)
        sleeper.look()
        time.sleep(0.2)
    assert time.monotonic() - begun[0] >= CONSUMER_TIMEOUT * times
    assert sleeper.closed, "RabbitMQ did not lose patience with anybody"
    assert len(begun) == 1
    assert mill.bench.row(ref)["attempt"] == 1
    assert others > times
    # On a busy machine a quick one may take as long as well.
    assert counted("jobmill_early_acknowledgements_total") - before >= 1
    assert {name: thread.consumer for name, thread in worker.dramatiq.consumers.items()} == consumers
    known = mill.check(faults=0)
    assert len(known.submitted) == 1 + others


@pytest.mark.fault("rabbitmq-consumer-timeout", "a node whose consumer_timeout is far below the worker's ten minutes")
def test_a_job_with_which_rabbitmq_loses_patience_runs_once_and_its_worker_connects_again(
    mill: NotedMill, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.2)
    worker = mill.worker()
    (thread,) = worker.dramatiq.consumers.values()
    first = thread.consumer

    (ref,) = mill.publish(1, timeout_seconds=600)
    mill.eventually(lambda: thread.consumer not in {first, None}, within_seconds=20)
    # What comes after the message that RabbitMQ has handed out again is done while its job goes on.
    others = mill.publish(3, lambda _: "quick")
    mill.eventually(lambda: mill.count(others, State.SUCCEEDED) == len(others))
    assert mill.states([ref]) == [State.RUNNING]
    mill.let_go.set()
    mill.eventually(lambda: mill.states([ref]) == [State.SUCCEEDED])
    assert len(mill.begun) == 1
    assert mill.bench.row(ref)["attempt"] == 1
    mill.check(faults=0)


@pytest.mark.fault("rabbitmq-blocked", "a node's high watermark of memory set to nothing")
def test_while_rabbitmq_takes_no_messages_none_counts_as_confirmed_and_the_publisher_says_so(
    server: PrivateRabbitmq, publisher: Publisher, eventually: Callable[..., Any]
):
    def sent(how_many: int) -> list[bool]:
        return publisher.publish([Envelope("other", (Ref(new_id(), 1),)) for _ in range(how_many)])

    assert sent(3) == [True] * 3
    rabbitmqctl(server, "set_vm_memory_high_watermark", "0.0000001")
    try:
        began = time.monotonic()
        assert sent(5) == [False] * 5
        assert time.monotonic() - began < 2 * publisher.timeout
        eventually(lambda: not publisher.connected)  # so that the dispatcher claims nothing meanwhile
        eventually(lambda: not publisher.pending)
    finally:
        rabbitmqctl(server, "set_vm_memory_high_watermark", "0.4")
    eventually(lambda: publisher.connected, within_seconds=20)
    assert sent(4) == [True] * 4
    # Those that were given up may have arrived as well, or not: they were unknown.
    assert 7 <= publisher.depths(["other"])["other"] <= 12


@pytest.mark.fault("rabbitmq-blocked", "a node's high watermark of memory set to nothing")
def test_a_worker_goes_on_with_what_waits_while_rabbitmq_takes_no_messages(mill: NotedMill, server: PrivateRabbitmq):
    mill.worker()
    refs = mill.publish(6)
    mill.eventually(lambda: len(mill.begun) == 2)
    rabbitmqctl(server, "set_vm_memory_high_watermark", "0.0000001")
    try:
        threading.Timer(0.2, mill.let_go.set).start()
        mill.eventually(lambda: mill.count(refs, State.SUCCEEDED) == 6)
    finally:
        rabbitmqctl(server, "set_vm_memory_high_watermark", "0.4")
    mill.check(faults=0)
