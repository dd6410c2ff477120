"""Consuming from a real RabbitMQ: what is declared, what is refused, and whose acknowledgement counts."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
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
from workers import consumer as consumer_module
from workers import flow, silence, topology
from workers.broker import JobmillBroker
from workers.consumer import JobmillConsumer
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

    def consume(
        broker: JobmillBroker | None = None, prefetch: int = 10, timeout: int = BRIEFLY, queue: str = name
    ) -> JobmillConsumer:
        made.append((broker or brokers()).consume(queue, prefetch, timeout))
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


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


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


@pytest.mark.fault("rabbitmq-malformed", "nine kinds of bodies on a queue of ours")
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


@pytest.mark.fault("rabbitmq-delivery-limit", "a message that is given back more often than its limit")
def test_a_message_that_is_given_back_without_end_is_a_dead_letter_at_last_and_the_queue_goes_on(
    consumers: Callable[..., JobmillConsumer], publish: Callable[..., None], depth: Callable[..., int]
):
    consumer = consumers(prefetch=1)
    publish(body(1))
    deliveries = 0
    while depth(".XQ") == 0:
        if (message := next(consumer)) is not None:
            deliveries += 1
            consumer.requeue([message])
    assert deliveries == topology.DELIVERY_LIMIT + 1
    publish(body(2))
    assert message_of(consumer).args[0][0].lease == 2


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


@pytest.mark.fault("rabbitmq-queue-deleted", "a queue deleted under its consumer")
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


def test_a_consumer_that_rabbitmq_forgot_without_a_word_is_given_up_and_counted(
    consumers: Callable[..., JobmillConsumer], publish: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(silence, "ASKED_AFTER", timedelta(seconds=0.2))
    consumer, before = consumers(prefetch=1), counted("jobmill_deaf_consumers_total")
    settle(consumer, looks=5)  # a quiet queue is no reason
    publish(body())
    assert consumer._owed(message_of(consumer)._tag)  # its answer gets lost, so that there is room here only
    consumer.flow.done()
    publish(body())
    with pytest.raises(ConnectionClosed):
        settle(consumer, looks=50)
    assert counted("jobmill_deaf_consumers_total") - before == 1
    assert message_of(consumers())


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


def test_closing_does_not_wait_for_a_frozen_broker(
    brokers: Callable[..., JobmillBroker],
    consumers: Callable[..., JobmillConsumer],
    rabbitmq_url: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(consumer_module, "CLOSE_SECONDS", 0.3)
    proxy = Proxy(rabbitmq_url)
    consumer = consumers(brokers(proxy.url))
    assert next(consumer) is None
    with proxy.frozen():
        began = time.monotonic()
        consumer.close()
        assert 0.2 < time.monotonic() - began < 1
    deadline = time.monotonic() + 5
    while consumer.connection.is_open and time.monotonic() < deadline:
        time.sleep(0.02)
    assert consumer.connection.is_closed
    proxy.close()


# Several brokers


def first_of(broker: JobmillBroker) -> int:
    return int(broker.parameters[0].port)


def test_workers_begin_with_different_brokers(brokers: Callable[..., JobmillBroker], monkeypatch: pytest.MonkeyPatch):
    urls = [f"amqp://guest:guest@127.0.0.1:{port}/" for port in (1, 2, 3)]
    firsts = []
    for pid in range(100, 106):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        broker = brokers(*urls)
        firsts.append(first_of(broker))
        assert sorted(parameters.port for parameters in broker.parameters) == [1, 2, 3]
    assert sorted(firsts) == [1, 1, 2, 2, 3, 3]


def test_a_dead_broker_is_passed_over_and_not_asked_first_again(
    brokers: Callable[..., JobmillBroker],
    consumers: Callable[..., JobmillConsumer],
    rabbitmq_url: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("os.getpid", lambda: 0)
    monkeypatch.setattr(topology, "STACK_TIMEOUT_SECONDS", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        nobody = ["amqp://guest:guest@127.0.0.1:9/", f"amqp://guest:guest@127.0.0.1:{mute.getsockname()[1]}/"]
        broker = brokers(*nobody, rabbitmq_url)
        began = time.monotonic()
        assert next(consumers(broker)) is None
        assert 0.5 < time.monotonic() - began < 2
        began = time.monotonic()
        assert next(consumers(broker)) is None
        assert time.monotonic() - began < 0.5


def test_whoever_loses_its_broker_goes_to_the_next_and_all_its_queues_with_it(
    brokers: Callable[..., JobmillBroker],
    consumers: Callable[..., JobmillConsumer],
    other: str,
    rabbitmq_url: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("os.getpid", lambda: 0)
    proxies = [Proxy(rabbitmq_url), Proxy(rabbitmq_url)]
    broker = brokers(*(proxy.url for proxy in proxies))
    lost = [consumers(broker), consumers(broker, queue=other)]
    proxies[0].reset()
    for consumer in lost:
        with pytest.raises(ConnectionClosed):
            settle(consumer, looks=50)
    for queue_name in (None, other):
        settle(consumers(broker, **({"queue": queue_name} if queue_name else {})))
    assert [proxy.connections for proxy in proxies] == [2, 2]
    for proxy in proxies:
        proxy.close()


def test_when_no_broker_answers_that_is_told_as_dramatiq_expects_it(brokers: Callable[..., JobmillBroker], name: str):
    with pytest.raises(ConnectionClosed):
        brokers("amqp://guest:guest@127.0.0.1:9/").consume(name, 1, BRIEFLY)


def test_a_consumer_that_could_not_begin_leaves_no_connection_behind(
    brokers: Callable[..., JobmillBroker], channels: Callable[[], Any], name: str
):
    channels().queue_declare(name, durable=True)
    before = descriptors()
    for _ in range(3):
        broker = brokers()
        with pytest.raises(ConnectionClosed):
            broker.consume(name, 1, BRIEFLY)
    assert descriptors() == before


def test_draining_ends_a_consumers_wait_at_once_and_what_it_held_goes_back(
    consumers: Callable[..., JobmillConsumer],
    publish: Callable[..., None],
    depth: Callable[..., int],
    eventually: Callable[..., Any],
):
    consumer = consumers(prefetch=1, timeout=4_000)
    publish(body(), body())
    assert message_of(consumer)
    drain = threading.Timer(0.2, consumer.broker.drain)
    drain.start()
    began = time.monotonic()
    settle(consumer, looks=1)
    assert time.monotonic() - began < 2
    drain.join()
    consumer.idle_seconds = 0.1
    settle(consumer, looks=1)
    assert consumer.cancelled
    eventually(lambda: depth() == 1)


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


# Flow: work goes to free threads only


class Hands:
    """Consumers of several queues, each on a thread as Dramatiq has them, and the messages they hand to threads."""

    def __init__(self, broker: JobmillBroker, threads: int, names: Sequence[str]) -> None:
        self.taken: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.flow = broker.flow = flow.Flow(threads)
        self.consumers = {name: broker.consume(name, threads, 1000) for name in names}
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=[name]) for name in names]
        for thread in self.threads:
            thread.start()

    def _run(self, name: str) -> None:
        while not self.over.is_set():
            if (message := next(self.consumers[name])) is not None:
                self.taken.put(message)

    def take(self, within_seconds: float = 5) -> Any:
        return self.taken.get(timeout=within_seconds)

    def done(self, message: Any) -> None:
        self.consumers[message.queue_name].ack(message)

    def stop(self) -> None:
        self.over.set()
        for consumer in self.consumers.values():
            consumer.wake()
        for thread in self.threads:
            thread.join()
        for consumer in self.consumers.values():
            consumer.close()


@pytest.fixture
def other(queue_prefix: str) -> str:
    return topology.queue_name(queue_prefix, "media")


@pytest.fixture
def queues(queue_prefix: str, name: str, other: str) -> list[str]:
    return [name, other, topology.queue_name(queue_prefix, "reports")]


@pytest.fixture
def hands(brokers: Callable[..., JobmillBroker], name: str, other: str) -> Iterator[Callable[..., Hands]]:
    made: list[Hands] = []

    def make(threads: int = 1, names: Sequence[str] = (name, other)) -> Hands:
        made.append(Hands(brokers(), threads, names))
        return made[-1]

    yield make
    for each in made:
        if not each.over.is_set():
            each.stop()


@pytest.fixture
def send(channels: Callable[[], Any]) -> Callable[..., None]:
    channel = channels()
    channel.confirm_delivery()

    def put(name: str, how_many: int = 1) -> None:
        for _ in range(how_many):
            channel.basic_publish("", name, body(), mandatory=True)

    return put


@pytest.fixture
def waiting_on(channels: Callable[[], Any]) -> Callable[[str], tuple[int, int]]:
    channel = channels()

    def look(name: str) -> tuple[int, int]:
        """Messages that wait on a queue, and its consumers."""
        told = channel.queue_declare(name, passive=True).method
        return told.message_count, told.consumer_count

    return look


def test_what_waits_behind_a_busy_thread_goes_to_a_free_one_elsewhere_within_a_second(
    hands: Callable[..., Hands], send: Callable[..., None], name: str, other: str
):
    busy = hands()
    send(name)
    running = busy.take()
    idle = hands()
    for queue_name in (other, name, other, name):
        send(queue_name)
        sent = time.monotonic()
        idle.done(idle.take(within_seconds=1))
        assert time.monotonic() - sent < 1
    assert busy.taken.empty()
    busy.done(running)


def test_a_worker_whose_threads_are_all_busy_consumes_nothing_and_begins_again_when_one_is_free(
    hands: Callable[..., Hands],
    send: Callable[..., None],
    waiting_on: Callable[[str], tuple[int, int]],
    eventually: Callable[..., Any],
    name: str,
    other: str,
):
    worker = hands()
    eventually(lambda: waiting_on(other) == (0, 1))
    send(name)
    running = worker.take()
    eventually(lambda: waiting_on(other) == (0, 0), within_seconds=3)
    assert waiting_on(name)[1] == 1  # its window is taken by what runs: nothing comes on it
    send(name, 2)
    send(other, 2)
    time.sleep(0.7)
    assert (waiting_on(name)[0], waiting_on(other)) == (2, (2, 0))
    done = time.monotonic()
    worker.done(running)
    for _ in range(4):
        worker.done(worker.take(within_seconds=1))
    assert time.monotonic() - done < 2
    eventually(lambda: waiting_on(name) == waiting_on(other) == (0, 1), within_seconds=3)


def test_a_process_that_one_job_has_for_itself_keeps_no_message_and_begins_again_when_it_is_over(
    hands: Callable[..., Hands],
    send: Callable[..., None],
    waiting_on: Callable[[str], tuple[int, int]],
    eventually: Callable[..., Any],
    name: str,
    other: str,
):
    reserved, free = hands(threads=4), None
    send(name)
    alone = reserved.take()
    with reserved.flow.reserved():
        send(other)  # it may be delivered here, and is given back
        free = hands(threads=1)
        for queue_name in (other, name, other):
            sent = time.monotonic()
            free.done(free.take(within_seconds=2))
            assert time.monotonic() - sent < 1
            send(queue_name)
        free.done(free.take(within_seconds=1))
        free.stop()
        send(other)
        eventually(lambda: waiting_on(other) == (1, 0), within_seconds=3)
        assert reserved.taken.empty()
        over = time.monotonic()
    reserved.done(reserved.take(within_seconds=1))
    assert time.monotonic() - over < 1
    reserved.done(alone)
    eventually(lambda: waiting_on(name) == waiting_on(other) == (0, 1), within_seconds=3)


def test_both_queues_are_served_by_all_threads_whatever_was_busy_before(
    hands: Callable[..., Hands], send: Callable[..., None], eventually: Callable[..., Any], name: str, other: str
):
    worker = hands(threads=4)
    for queue_name in (name, other, name):
        send(queue_name, 6)
        held = [worker.take(within_seconds=1) for _ in range(4)]
        assert worker.taken.empty()
        time.sleep(0.7)  # no thread is free for long enough to give the rest back
        for message in held:
            worker.done(message)
        for _ in range(2):
            worker.done(worker.take(within_seconds=1))


def test_many_short_jobs_on_two_queues_are_done_at_full_speed_and_hardly_one_is_given_back(
    hands: Callable[..., Hands],
    send: Callable[..., None],
    waiting_on: Callable[[str], tuple[int, int]],
    eventually: Callable[..., Any],
    name: str,
    other: str,
):
    before, worker = counted("jobmill_given_back_total"), hands(threads=2)
    for queue_name in (name, other):
        send(queue_name, 200)
    for _ in range(400):
        worker.done(worker.take(within_seconds=2))
    eventually(lambda: waiting_on(name)[0] == waiting_on(other)[0] == 0)
    assert counted("jobmill_given_back_total") - before < 20


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is worked on for long, is so after a moment."""
    monkeypatch.setattr(flow, "ACKNOWLEDGED_AFTER", timedelta(seconds=0.2))


@pytest.mark.usefixtures("soon")
def test_a_message_worked_on_for_long_is_acknowledged_and_its_thread_stays_taken(
    hands: Callable[..., Hands],
    send: Callable[..., None],
    waiting_on: Callable[[str], tuple[int, int]],
    eventually: Callable[..., Any],
    name: str,
    other: str,
):
    before = counted("jobmill_early_acknowledgements_total"), counted("jobmill_stale_acknowledgements_total")
    worker = hands()
    send(name)
    long = worker.take()
    send(name)
    eventually(lambda: counted("jobmill_early_acknowledgements_total") > before[0], within_seconds=3)
    eventually(lambda: waiting_on(name) == (1, 0), within_seconds=3)
    assert worker.taken.empty()
    worker.done(long)
    worker.done(worker.take(within_seconds=1))
    worker.stop()
    assert (waiting_on(name)[0], waiting_on(other)[0]) == (0, 0)
    assert counted("jobmill_early_acknowledgements_total") - before[0] == 1
    assert counted("jobmill_stale_acknowledgements_total") == before[1]


def test_what_an_earlier_connection_brought_keeps_its_thread_and_no_more_is_taken_behind_it(
    brokers: Callable[..., JobmillBroker],
    consumers: Callable[..., JobmillConsumer],
    publish: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
):
    broker = brokers()
    first = consumers(broker, prefetch=1)
    publish(body())
    running = message_of(first)
    first.connection.close()
    second = consumers(broker, prefetch=1)
    settle(second, looks=10)  # the message came again, and its thread is still at it
    second.ack(running)
    assert message_of(second).args == running.args


@pytest.mark.parametrize("way", ["ack", "nack", "requeue"])
def test_an_answer_to_what_was_acknowledged_early_is_no_answer_at_all(
    brokers: Callable[..., JobmillBroker],
    consumers: Callable[..., JobmillConsumer],
    publish: Callable[..., None],
    depth: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
):
    """Also when the connection was lost in between, and the tag is another message's by now."""
    monkeypatch.setattr(flow, "ACKNOWLEDGED_AFTER", timedelta(0))
    broker = brokers()
    first = consumers(broker, prefetch=2)
    publish(body(1))
    long = message_of(first)
    settle(first)
    first.connection.close()
    monkeypatch.undo()
    second = consumers(broker, prefetch=2)
    publish(body(2))
    other = message_of(second)
    assert other._tag == long._tag
    before = counted("jobmill_stale_acknowledgements_total")
    second.requeue([long]) if way == "requeue" else getattr(second, way)(long)
    settle(second)
    assert counted("jobmill_stale_acknowledgements_total") == before
    assert (depth(), depth(".XQ"), second.flow.free) == (0, 0, 1)


def work(worker: Hands, seconds: float, begun: dict[str, list[float]]) -> None:
    """One thread of a worker: whatever comes takes so long, and when it was begun is noted by its queue."""
    while not worker.over.is_set():
        with suppress(queue.Empty):
            message = worker.take(within_seconds=0.1)
            begun[message.queue_name].append(time.monotonic())
            time.sleep(seconds)
            worker.done(message)


LOOKS = 15


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("quiet", [1, 2])
def test_a_queue_that_is_always_full_keeps_no_other_from_the_threads(
    hands: Callable[..., Hands], send: Callable[..., None], queues: list[str], quiet: int, threads: int
):
    full, *others = queues[: 1 + quiet]
    worker = hands(threads, [full, *others])
    begun: dict[str, list[float]] = {queue_name: [] for queue_name in worker.consumers}
    sent: dict[str, list[float]] = {queue_name: [] for queue_name in others}
    send(full, 100 * threads)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(threads):
            pool.submit(work, worker, 0.02, begun)
        try:
            for _ in range(LOOKS):
                send(full, 15 * threads)  # more than is done until the next look
                for queue_name, moments in sent.items():
                    moments.append(time.monotonic())
                    send(queue_name)
                time.sleep(0.2)
            time.sleep(1)
        finally:
            worker.stop()
    assert LOOKS < len(begun[full]) < (100 + 15 * LOOKS) * threads  # it was always full
    for queue_name, moments in sent.items():
        assert max(at - since for since, at in zip(moments, begun[queue_name], strict=True)) < 1


@pytest.mark.parametrize("how_many", [2, 3])
def test_of_several_queues_with_long_jobs_none_keeps_another_from_the_threads(
    hands: Callable[..., Hands], send: Callable[..., None], queues: list[str], how_many: int
):
    turns = dict.fromkeys(queues[:how_many], 0)
    worker = hands(1, list(turns))
    for queue_name in turns:
        send(queue_name, 9)
    for _ in range(9):
        message = worker.take(within_seconds=1)
        turns[message.queue_name] += 1
        time.sleep(0.6)  # long enough for the other queues' to be given back
        worker.done(message)
    assert min(turns.values()) >= 6 // how_many


def test_a_consumer_whose_channel_is_gone_closes_its_connection_all_the_same(
    consumers: Callable[..., JobmillConsumer],
):
    consumer = consumers()
    consumer.channel.close()  # as RabbitMQ does to one that has not acknowledged for too long
    consumer.close()
    assert consumer.connection.is_closed
