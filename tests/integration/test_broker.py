"""Consuming from a real RabbitMQ: what is declared, what is refused, and whose acknowledgement counts."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pika
import pytest
from dramatiq.errors import ConnectionClosed
from pika.exceptions import ChannelClosedByBroker
from prometheus_client import REGISTRY

from models.ids import new_id
from models.job import Ref
from tests.proxy import Proxy
from workers import topology
from workers.broker import JobmillBroker, JobmillConsumer
from workers.messages import ACTOR, encode

BRIEFLY = 100  # milliseconds
NOT_FOUND, PRECONDITION_FAILED = 404, 406


@pytest.fixture
def name(queue_prefix: str) -> str:
    return topology.queue_name(queue_prefix, "default")


@pytest.fixture
def brokers(rabbitmq_url: str) -> Iterator[Callable[..., JobmillBroker]]:
    made: list[JobmillBroker] = []

    def make(*urls: str) -> JobmillBroker:
        made.append(JobmillBroker(urls or (rabbitmq_url,), "jobmill tests"))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def consumers(brokers: Callable[..., JobmillBroker], name: str) -> Iterator[Callable[..., JobmillConsumer]]:
    made: list[JobmillConsumer] = []

    def consume(broker: JobmillBroker | None = None, prefetch: int = 10) -> JobmillConsumer:
        made.append((broker or brokers()).consume(name, prefetch, BRIEFLY))
        return made[-1]

    yield consume
    for consumer in made:
        if consumer.connection.is_open:
            consumer.close()


@pytest.fixture
def channels(rabbitmq_url: str) -> Iterator[Callable[[], Any]]:
    """Fresh channels, since RabbitMQ closes one on which something went wrong."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    yield connection.channel
    connection.close()


@pytest.fixture
def publish(channels: Callable[[], Any], name: str) -> Callable[..., None]:
    channel = channels()
    channel.confirm_delivery()

    def put(*bodies: bytes) -> None:
        for body in bodies:
            channel.basic_publish("", name, body, mandatory=True)

    return put


@pytest.fixture
def depth(channels: Callable[[], Any], name: str) -> Callable[..., int]:
    channel = channels()

    def count(suffix: str = "") -> int:
        waiting: int = channel.queue_declare(name + suffix, passive=True).method.message_count
        return waiting

    return count


def body(lease: int = 1) -> bytes:
    return encode([Ref(new_id(), lease)])


def counted(metric: str) -> float:
    return REGISTRY.get_sample_value(metric) or 0


def message_of(consumer: JobmillConsumer) -> Any:
    """The next message, which is there already."""
    deadline = time.monotonic() + 10
    while (message := next(consumer)) is None:
        assert time.monotonic() < deadline, "no message came"
    return message


def settle(consumer: JobmillConsumer, looks: int = 2) -> None:
    """Let the connection do what other threads asked of it."""
    for _ in range(looks):
        assert next(consumer) is None


# What is declared


def test_a_consumers_queues_are_as_the_topology_says(
    consumers: Callable[..., JobmillConsumer], channels: Callable[[], Any], name: str
):
    consumers()
    channel = channels()
    channel.queue_declare(name, durable=True, arguments=topology.queue_arguments(name))
    channel.queue_declare(f"{name}.XQ", durable=True, arguments=topology.dead_letter_arguments())


@pytest.mark.parametrize(
    ("suffix", "arguments"),
    [
        ("", {}),
        ("", {"x-queue-type": "quorum"}),
        ("", {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-delivery-limit": 20}),
        (".XQ", {"x-queue-type": "quorum", "x-message-ttl": 604_800_000}),
        (".XQ", {}),
    ],
    ids=["a classic queue", "without a limit", "another limit", "dead letters that expire", "classic dead letters"],
)
def test_and_in_no_other_way(
    consumers: Callable[..., JobmillConsumer],
    channels: Callable[[], Any],
    name: str,
    suffix: str,
    arguments: dict[str, Any],
):
    consumers()
    with pytest.raises(ChannelClosedByBroker) as raised:
        channels().queue_declare(name + suffix, durable=True, arguments=arguments)
    assert raised.value.reply_code == PRECONDITION_FAILED


def test_there_is_no_delay_queue(consumers: Callable[..., JobmillConsumer], channels: Callable[[], Any], name: str):
    consumers()
    with pytest.raises(ChannelClosedByBroker) as raised:
        channels().queue_declare(f"{name}.DQ", passive=True)
    assert raised.value.reply_code == NOT_FOUND


def test_the_dispatcher_and_the_workers_declare_alike(
    brokers: Callable[..., JobmillBroker], consumers: Callable[..., JobmillConsumer], name: str
):
    assert brokers()._build_queue_arguments(name) == topology.queue_arguments(name)


def test_only_the_dispatcher_publishes(brokers: Callable[..., JobmillBroker]):
    with pytest.raises(NotImplementedError, match="dispatcher"):
        brokers().enqueue(object())  # type: ignore[arg-type]


# Messages


def test_a_message_is_delivered_once_acknowledged_it_is_gone(
    consumers: Callable[..., JobmillConsumer], publish: Callable[..., None], depth: Callable[..., int]
):
    consumer, ref = consumers(), Ref(new_id(), 5)
    publish(encode([ref]))
    message = message_of(consumer)
    assert (message.actor_name, message.args) == (ACTOR, ([ref],))
    consumer.ack(message)
    settle(consumer)
    consumer.close()
    assert (depth(), depth(".XQ")) == (0, 0)


def test_a_message_that_is_given_back_waits_for_another_worker(
    consumers: Callable[..., JobmillConsumer], publish: Callable[..., None]
):
    first = consumers(prefetch=1)
    publish(body(7))
    message = message_of(first)
    second = consumers()
    first.broker.draining = True
    first.requeue([message])
    settle(first)
    assert message_of(second).args == message.args


def test_a_rejected_message_is_a_dead_letter(
    consumers: Callable[..., JobmillConsumer],
    publish: Callable[..., None],
    depth: Callable[..., int],
    eventually: Callable[..., Any],
):
    consumer = consumers()
    publish(body())
    consumer.nack(message_of(consumer))
    settle(consumer)
    eventually(lambda: depth(".XQ") == 1)
    assert depth() == 0


def test_what_is_not_ours_goes_to_the_dead_letters_and_stops_nobody(
    consumers: Callable[..., JobmillConsumer],
    publish: Callable[..., None],
    depth: Callable[..., int],
    eventually: Callable[..., Any],
):
    consumer, before = consumers(), counted("jobmill_bad_messages_total")
    dramatiqs = {
        "queue_name": "elsewhere",
        "actor_name": "run",
        "args": [],
        "kwargs": {},
        "options": None,
        "message_id": "1",
        "message_timestamp": 1,
    }
    bad = [
        b"",
        b"\xff\xfe",
        b"null",
        orjson.dumps(dramatiqs),
        orjson.dumps({**dramatiqs, "options": {"eta": 4_000_000_000_000}}),
        orjson.dumps({"run": [[new_id().hex, -1]]}),
        orjson.dumps({"run": [[new_id().hex, True]]}),
        orjson.dumps({"run": [[new_id().hex, 1]] * 101}),
        b"x" * 1_000_000,
    ]
    publish(*bad, body(9))
    assert message_of(consumer).args[0][0].lease == 9
    settle(consumer)
    eventually(lambda: depth(".XQ") == len(bad))
    consumer.close()
    # The one that was right was not acknowledged and is back; nothing else is.
    eventually(lambda: depth() == 1)
    assert depth(".XQ") == len(bad)
    assert counted("jobmill_bad_messages_total") - before == len(bad)


def test_no_more_than_the_prefetch_is_delivered(
    consumers: Callable[..., JobmillConsumer], publish: Callable[..., None], depth: Callable[..., int]
):
    consumer = consumers(prefetch=2)
    publish(*[body() for _ in range(5)])
    held = [message_of(consumer), message_of(consumer)]
    settle(consumer)
    assert depth() == 3
    consumer.ack(held[0])
    assert message_of(consumer) is not None
    assert depth() == 2


# Epochs: tags begin at 1 on each connection


@pytest.mark.parametrize("way", ["ack", "nack", "requeue"])
def test_an_answer_to_an_earlier_consumers_message_is_dropped(
    consumers: Callable[..., JobmillConsumer],
    publish: Callable[..., None],
    depth: Callable[..., int],
    eventually: Callable[..., Any],
    way: str,
):
    first = consumers(prefetch=1)
    publish(body(1))
    stale = message_of(first)
    first.connection.close()  # as after a network fault: RabbitMQ takes the message back
    second = consumers(prefetch=1)
    again = message_of(second)
    assert again._tag == stale._tag  # so by its tag alone the one would pass for the other
    before = counted("jobmill_stale_acknowledgements_total")

    second.requeue([stale]) if way == "requeue" else getattr(second, way)(stale)

    settle(second)
    assert counted("jobmill_stale_acknowledgements_total") - before == 1
    assert (depth(), depth(".XQ")) == (0, 0)  # still with the second consumer, which has not answered yet
    second.close()
    eventually(lambda: (depth(), depth(".XQ")) == (1, 0))


@pytest.mark.parametrize("way", ["ack", "nack", "requeue"])
def test_an_answer_on_a_broken_connection_is_dropped_and_keeps_no_thread_waiting(
    consumers: Callable[..., JobmillConsumer], publish: Callable[..., None], way: str
):
    consumer = consumers()
    publish(body())
    message = message_of(consumer)
    consumer.connection.close()
    before = counted("jobmill_stale_acknowledgements_total")
    consumer.requeue([message]) if way == "requeue" else getattr(consumer, way)(message)
    assert counted("jobmill_stale_acknowledgements_total") - before == 1


# When the broker goes away


def test_a_queue_that_is_deleted_is_made_anew_by_the_next_consumer(
    brokers: Callable[..., JobmillBroker],
    consumers: Callable[..., JobmillConsumer],
    channels: Callable[[], Any],
    publish: Callable[..., None],
    name: str,
):
    broker = brokers()
    consumer = consumers(broker)
    assert next(consumer) is None
    channels().queue_delete(name)
    with pytest.raises(ConnectionClosed):
        settle(consumer, looks=50)
    again = consumers(broker)
    publish(body())
    assert message_of(again)


def test_a_broken_connection_is_told_as_dramatiq_expects_it(
    brokers: Callable[..., JobmillBroker], consumers: Callable[..., JobmillConsumer], rabbitmq_url: str
):
    proxy = Proxy(rabbitmq_url)
    consumer = consumers(brokers(proxy.url))
    assert next(consumer) is None
    proxy.reset()
    with pytest.raises(ConnectionClosed):
        settle(consumer, looks=50)
    proxy.close()


def test_a_message_that_comes_while_draining_begins_goes_back_unread(
    consumers: Callable[..., JobmillConsumer], publish: Callable[..., None], depth: Callable[..., int]
):
    consumer = consumers(prefetch=1)
    assert next(consumer) is None
    publish(body())
    waiting = consumer.iterator

    def drain_meanwhile() -> Iterator[Any]:
        for delivery in waiting:
            consumer.broker.draining = True
            yield delivery

    consumer.iterator = drain_meanwhile()
    settle(consumer)
    consumer.close()
    assert depth() == 1


def test_a_draining_consumer_takes_nothing_more_and_can_still_acknowledge(
    consumers: Callable[..., JobmillConsumer],
    publish: Callable[..., None],
    depth: Callable[..., int],
    eventually: Callable[..., Any],
):
    consumer = consumers(prefetch=3)
    publish(*[body(number) for number in range(1, 4)])
    first = message_of(consumer)
    consumer.broker.draining = True
    settle(consumer)
    assert consumer.cancelled
    eventually(lambda: depth() == 2)  # what was delivered and not looked at went back
    publish(body())
    settle(consumer)
    assert depth() == 3
    consumer.ack(first)
    settle(consumer)
    consumer.close()
    assert depth() == 3
