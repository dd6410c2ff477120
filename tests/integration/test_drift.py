"""Queues that exist otherwise than this release needs them: at start the process ends and says so, later it goes on."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import pytest
from dramatiq.errors import ConnectionClosed
from prometheus_client import REGISTRY

from models import worker
from models.database import Database
from models.ids import new_id
from tests.acceptance.process import jobmill
from workers import drift, topology
from workers.broker import JobmillBroker
from workers.dispatcher import served_queues
from workers.drift import WrongQueue

Arguments = Callable[[str], dict[str, Any]]


def classic(name: str) -> dict[str, Any]:
    return {}


def another_limit(name: str) -> dict[str, Any]:
    return topology.queue_arguments(name) | {"x-delivery-limit": 20}


@pytest.fixture
def channel(rabbitmq_url: str) -> Iterator[Any]:
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        yield connection.channel()


@pytest.fixture
def settings(rabbitmq_url: str, database_url: str, queue_prefix: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url, "JOBMILL_QUEUE_PREFIX": queue_prefix}


@pytest.mark.fault("rabbitmq-arguments", "a queue with other arguments, found by a process that starts")
@pytest.mark.parametrize("process", ["worker", "dispatcher"])
@pytest.mark.parametrize(
    "wrong",
    [
        ("", classic, "x-dead-letter-exchange is none"),
        (
            "",
            another_limit,
            "x-delivery-limit is '20', and Jobmill needs '100'.",
        ),
        (".XQ", classic, "x-queue-type is none"),
    ],
    ids=["a classic queue", "another limit", "classic dead letters"],
)
def test_at_start_the_process_ends_and_names_queue_difference_and_remedy(
    settings: dict[str, str], channel: Any, tmp_path: Path, process: str, wrong: tuple[str, Arguments, str]
):
    suffix, arguments, differs = wrong
    queue = f"{settings['JOBMILL_QUEUE_PREFIX']}.default"
    name = queue + suffix
    channel.queue_declare(name, durable=True, arguments=arguments(queue))
    began = time.monotonic()
    ended = jobmill(process, settings=settings | {"LOG_LEVEL": "ERROR"}, folder=tmp_path)
    assert time.monotonic() - began < 20
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"Error: RabbitMQ has a queue {name!r} that was made with other arguments: ")
    assert differs in line
    assert f"delete_queue {name};" in line


def test_the_queues_of_live_workers_are_looked_at_besides_those_configured(postgresql_database: Database):
    with postgresql_database.transaction() as session:
        worker.register(session, new_id(), host="test", pid=1, queues=("media", "default"), threads=1, version="0")
    assert served_queues(postgresql_database, ("default", "webhooks")) == ["default", "media", "webhooks"]


def test_a_broker_that_is_away_is_no_reason_not_to_start(rabbitmq_url: str, queue_prefix: str, channel: Any):
    channel.queue_declare(f"{queue_prefix}.other", durable=True)
    nobody = "amqp://guest:guest@127.0.0.1:9/"
    drift.check([nobody], [f"{queue_prefix}.other"])
    with pytest.raises(WrongQueue):
        drift.check([nobody, rabbitmq_url], [f"{queue_prefix}.default", f"{queue_prefix}.other"])


@pytest.mark.fault("rabbitmq-arguments", "a queue made anew by hand, found by a consumer")
def test_later_it_is_told_counted_and_tried_again_ever_later_until_it_is_mended(
    rabbitmq_url: str,
    queue_prefix: str,
    channel: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    before = REGISTRY.get_sample_value("jobmill_wrong_queues_total") or 0
    broker, name = JobmillBroker((rabbitmq_url,), "jobmill tests"), f"{queue_prefix}.default"
    channel.queue_declare(name, durable=True)
    tried = []
    for _ in range(3):
        with pytest.raises(ConnectionClosed):
            broker.consume(name, 1, 100)
        tried.append(time.monotonic())
    assert 0.9 < tried[1] - tried[0] < 1.9 < tried[2] - tried[1] < 3
    assert REGISTRY.get_sample_value("jobmill_wrong_queues_total") == before + 3
    assert capfd.readouterr().out.count("queue_is_wrong") == 3
    channel.queue_delete(name)
    draining = threading.Timer(0.2, broker.drain)  # which does not wait for the pause of four seconds to be over
    draining.start()
    broker.consume(name, 1, 100).close()
    assert time.monotonic() - tried[2] < 2
    draining.join()
