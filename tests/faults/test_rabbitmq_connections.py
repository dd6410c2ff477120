"""Connections to RabbitMQ that break, freeze or are dead at one end: noticed, made again, and never more of them."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import pytest

from jobs.context import Context
from models.database import Database
from models.dialect import POSTGRESQL
from models.job import Ref
from models.states import State
from tests.acceptance.ledger import Ledger
from tests.faults.noted_mill import NotedMill
from tests.integration.test_drain import over
from tests.proxy import Proxy
from tests.workbench import lent_database
from workers import child, topology
from workers import publisher as publisher_module
from workers.broker import JobmillBroker
from workers.child import WorkerProcess
from workers.publisher import Publisher

pytestmark = pytest.mark.timed

QUEUES = ("default", "media")
HEARTBEAT_SECONDS = 1
NOTICED_WITHIN = 2 * (HEARTBEAT_SECONDS + 5) + 2  # pika looks five seconds later than it promised, and twice


@pytest.fixture(scope="module")
def postgresql(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, POSTGRESQL)


@pytest.fixture
def proxy(rabbitmq_url: str) -> Iterator[Proxy]:
    proxy = Proxy(rabbitmq_url)
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def _promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.2)
    monkeypatch.setattr(publisher_module, "RECONNECT_SECONDS", 0.1)
    monkeypatch.setattr(child, "IDLE_MILLISECONDS", 100)


@pytest.fixture
def mill(
    postgresql: Database,
    rabbitmq_url: str,
    proxy: Proxy,
    queue_prefix: str,
    ledger: Ledger,
    eventually: Callable[..., Any],
) -> Iterator[NotedMill]:
    """A dispatcher's publisher and workers that reach RabbitMQ through the proxy."""
    mill = NotedMill(postgresql, eventually, ledger, [proxy.url, rabbitmq_url])
    publisher = Publisher((proxy.url,), queue_prefix, "jobmill tests", timeout=2)
    publisher.start()
    eventually(lambda: publisher.connected)
    mill.transport = publisher
    mill.make_broker = lambda: JobmillBroker((proxy.url,), "jobmill tests")
    mill.queue_name = lambda queue: topology.queue_name(queue_prefix, queue)
    yield mill
    over(mill)
    publisher.stop()


@pytest.fixture
def consumers_of(rabbitmq_url: str, queue_prefix: str) -> Iterator[Callable[[], list[int]]]:
    """How many consumers RabbitMQ has for each queue."""
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        channel = connection.channel()
        yield lambda: [
            channel.queue_declare(topology.queue_name(queue_prefix, queue), passive=True).method.consumer_count
            for queue in QUEUES
        ]


def quick(context: Context) -> str:
    assert context
    return "done"


GROWN_POOL = 3
"""Connections to the database that are made when more is asked at once than before; five leaks are more."""


def held() -> tuple[int, int]:
    """Threads and descriptors of this process."""
    gc.collect()
    return threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir())


def done(mill: NotedMill, how_many: int = 3, within_seconds: float = 10) -> None:
    """Jobs are published, and succeed."""
    refs = []
    mill.eventually(lambda: mill.transport.connected)
    for queue in QUEUES:
        refs += mill.publish(how_many, quick, queue=queue)
    mill.eventually(lambda: mill.count(refs, State.SUCCEEDED) == len(refs), within_seconds)


@pytest.mark.fault("rabbitmq-restart", "every connection reset five times, as by a restart: nothing piles up")
def test_five_resets_leave_as_many_threads_descriptors_connections_and_consumers_as_there_were(
    mill: NotedMill, proxy: Proxy, consumers_of: Callable[[], list[int]]
):
    mill.worker(queues=QUEUES)
    done(mill)
    mill.eventually(lambda: consumers_of() == [1, 1])
    threads, descriptors = held()
    before = threads, descriptors + GROWN_POOL
    for turn in range(1, 6):
        connections = proxy.connections
        proxy.reset()
        mill.eventually(lambda seen=connections: proxy.connections == seen + 1 + len(QUEUES))
        mill.eventually(lambda: consumers_of() == [1, 1])
        done(mill)
        mill.eventually(lambda: all(now <= was for now, was in zip(held(), before, strict=True)))
        assert proxy.connections == (1 + len(QUEUES)) * (1 + turn)
    mill.check(faults=0)


@pytest.mark.fault("rabbitmq-frozen", "a proxy that passes nothing until both ends have given up")
@pytest.mark.fault("rabbitmq-half-open", "RabbitMQ closes its end of a connection behind a frozen proxy")
def test_a_frozen_connection_is_noticed_by_its_heartbeat_and_others_do_its_work_meanwhile(
    mill: NotedMill,
    proxy: Proxy,
    rabbitmq_url: str,
    consumers_of: Callable[[], list[int]],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(topology, "HEARTBEAT_SECONDS", HEARTBEAT_SECONDS)
    monkeypatch.setattr(topology, "STACK_TIMEOUT_SECONDS", 1)
    frozen = mill.worker(threads=1, queues=QUEUES)
    mill.eventually(lambda: consumers_of() == [1, 1])
    in_hand = mill.publish(1)
    mill.eventually(lambda: mill.begun)
    other = _direct(mill, rabbitmq_url)
    with proxy.frozen():
        began = time.monotonic()
        mill.let_go.set()
        refs = _published_directly(mill, rabbitmq_url)
        mill.eventually(lambda: mill.count([*in_hand, *refs], State.SUCCEEDED) == 1 + len(refs))
        mill.eventually(lambda: consumers_of() == [1, 1], 4 * HEARTBEAT_SECONDS)  # the other's only
        mill.eventually(lambda: not any(_open(frozen)), NOTICED_WITHIN)
        assert time.monotonic() - began < NOTICED_WITHIN
    mill.eventually(lambda: consumers_of() == [2, 2], within_seconds=5)
    done(mill)
    assert mill.bench.row(in_hand[0])["attempt"] == 1
    assert mill.bench.row(in_hand[0])["worker_id"] == frozen.id
    assert {mill.bench.row(ref)["worker_id"] for ref in refs} == {other.id}
    mill.check(faults=0)


def _direct(mill: NotedMill, url: str) -> WorkerProcess:
    """A worker whose way to RabbitMQ is free."""
    mill.make_broker = lambda: JobmillBroker((url,), "jobmill tests")
    return mill.worker(queues=QUEUES)


def _published_directly(mill: NotedMill, url: str) -> list[Ref]:
    """Jobs published by a dispatcher whose way is free."""
    frozen, publisher = mill.transport, Publisher((url,), mill.transport.prefix, "jobmill tests")  # type: ignore[attr-defined]
    publisher.start()
    mill.eventually(lambda: publisher.connected)
    mill.transport = publisher
    refs = [ref for queue in QUEUES for ref in mill.publish(3, quick, queue=queue)]
    mill.transport = frozen
    publisher.stop()
    return refs


def _open(process: WorkerProcess) -> list[bool]:
    consumers: list[Any] = [thread.consumer for thread in process.dramatiq.consumers.values()]
    return [consumer.connection.is_open for consumer in consumers]
