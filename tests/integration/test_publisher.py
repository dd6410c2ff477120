"""Publishing to a real RabbitMQ: each message is confirmed or not, whatever becomes of the broker."""

import gc
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.channel import Channel
from pika.frame import Method
from pika.spec import Basic
from prometheus_client import REGISTRY

from models.ids import new_id
from models.job import Ref
from tests.proxy import Proxy
from workers import publisher as publisher_module
from workers import refusals, topology
from workers.messages import MOST_REFS, decode
from workers.publisher import Publisher
from workers.transport import Envelope

NOBODY_LISTENS = "amqp://guest:guest@127.0.0.1:9/"
PROMPTLY = 1.5


@pytest.fixture
def publishers(
    queue_prefix: str, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> Iterator[Callable[..., Publisher]]:
    monkeypatch.setattr(publisher_module, "RECONNECT_SECONDS", 0.05)
    made: list[Publisher] = []

    def start(*urls: str, connects: bool = True, timeout: float = 5.0) -> Publisher:
        made.append(Publisher(urls, queue_prefix, "jobmill tests", timeout))
        made[-1].start()
        if connects:
            eventually(lambda: made[-1].connected)
        return made[-1]

    yield start
    for publisher in made:
        publisher.stop()
        eventually(lambda ended=publisher.thread: not ended.is_alive())


@pytest.fixture
def publisher(publishers: Callable[..., Publisher], rabbitmq_url: str) -> Publisher:
    return publishers(rabbitmq_url)


@pytest.fixture
def proxy(rabbitmq_url: str) -> Iterator[Proxy]:
    proxy = Proxy(rabbitmq_url)
    yield proxy
    proxy.close()


@pytest.fixture
def channel(rabbitmq_url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    yield connection.channel()
    connection.close()


def envelopes(how_many: int, queue: str = "default") -> list[Envelope]:
    return [Envelope(queue, (Ref(new_id(), number),)) for number in range(1, how_many + 1)]


def counted(metric: str) -> float:
    return REGISTRY.get_sample_value(metric) or 0


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def on_queue(channel: Any, name: str) -> int:
    count: int = channel.queue_declare(name, passive=True).method.message_count
    return count


def test_two_thousand_messages_are_confirmed_and_there(publisher: Publisher, channel: Any, queue_prefix: str):
    sent = envelopes(2_000)
    assert publisher.publish(sent) == [True] * 2_000
    assert publisher.depths(["default"]) == {"default": 2_000}
    got = []
    for _, properties, body in channel.consume(f"{queue_prefix}.default", inactivity_timeout=5):
        got += decode(body)
        assert properties.delivery_mode == 2
        if len(got) == len(sent):
            break
    assert got == [ref for envelope in sent for ref in envelope.refs]


def test_a_batch_may_go_to_several_queues_and_a_message_may_name_many_jobs(publisher: Publisher):
    many = Envelope("media", tuple(Ref(new_id(), 1) for _ in range(MOST_REFS)))
    assert publisher.publish([*envelopes(2), many, *envelopes(1, "reports")]) == [True] * 4
    assert publisher.depths(["default", "media", "reports"]) == {"default": 2, "media": 1, "reports": 1}


def test_nothing_to_publish_and_nothing_to_ask_are_answered_at_once(publisher: Publisher):
    assert publisher.publish([]) == []
    assert publisher.depths([]) == {}


def test_queues_are_declared_as_the_topology_says(publisher: Publisher, channel: Any, queue_prefix: str):
    publisher.publish(envelopes(1))
    name = f"{queue_prefix}.default"
    channel.queue_declare(name, durable=True, arguments=topology.queue_arguments(name))
    channel.queue_declare(f"{name}.XQ", durable=True, arguments=topology.dead_letter_arguments())


def test_asking_for_depths_makes_the_queues_that_are_missing(publisher: Publisher, channel: Any, queue_prefix: str):
    assert publisher.depths(["default", "other"]) == {"default": 0, "other": 0}
    assert on_queue(channel, f"{queue_prefix}.other.XQ") == 0


@pytest.mark.fault("rabbitmq-queue-deleted", "a queue deleted under the publisher")
def test_a_message_that_is_returned_is_not_confirmed_and_the_queue_is_made_anew(
    publisher: Publisher, channel: Any, queue_prefix: str
):
    assert publisher.publish([*envelopes(1), *envelopes(1, "media")]) == [True, True]
    channel.queue_delete(f"{queue_prefix}.default")
    mixed = [*envelopes(2), *envelopes(1, "media"), *envelopes(1)]
    assert publisher.publish(mixed) == [False, False, True, False]
    assert publisher.publish(mixed) == [True] * 4
    assert publisher.depths(["default", "media"]) == {"default": 3, "media": 3}


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_queue_that_refuses_is_not_confirmed(publisher: Publisher, channel: Any, queue_prefix: str, kind: str):
    # As an operator's policy would have it: room for one message, and what is over is refused.
    name = f"{queue_prefix}.other"
    full = {"x-queue-type": kind, "x-max-length": 1, "x-overflow": "reject-publish"}
    channel.queue_declare(name, durable=True, arguments=full)
    publisher.connection.ioloop.add_callback_threadsafe(lambda: publisher.declared.add(name))  # type: ignore[union-attr]
    answers = [publisher.publish(envelopes(10, "other")) for _ in range(5)]
    assert answers[0][0] is True
    assert answers[-1] == [False] * 10
    assert on_queue(channel, name) == sum(batch.count(True) for batch in answers)


def test_a_channel_that_goes_on_refusing_a_queue_is_changed_and_the_others_are_served(
    publisher: Publisher,
    channel: Any,
    queue_prefix: str,
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(refusals, "FIRST_PATIENCE_SECONDS", 0.3)
    assert publisher.depths(["media"]) == {"media": 0}
    name = f"{queue_prefix}.other"
    full = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
    channel.queue_declare(name, durable=True, arguments=full)
    monkeypatch.setattr(publisher, "_ensure", lambda *_: None)  # it would find the queue to be another
    for _ in range(5):
        channel.basic_publish("", name, b"it is full")
    eventually(lambda: on_queue(channel, name))
    stuck = publisher.opened
    eventually(lambda: not any(publisher.publish(envelopes(2, "other"))) and publisher.opened is not stuck)
    publisher.refusals._patience[name] = refusals.LONGEST_PATIENCE_SECONDS
    eventually(lambda: publisher.connected)
    assert publisher.publish([*envelopes(1, "media"), *envelopes(1, "other")]) == [True, False]
    channel.queue_purge(name)
    eventually(lambda: publisher.publish(envelopes(1, "other")) == [True])


def test_an_unreachable_broker_is_told_at_once(publishers: Callable[..., Publisher]):
    publisher = publishers(NOBODY_LISTENS, connects=False)
    for _ in range(20):
        began = time.monotonic()
        assert publisher.connected is False
        assert publisher.publish(envelopes(3)) == [False] * 3
        assert publisher.depths(["default"]) == {}
        assert time.monotonic() - began < PROMPTLY


@pytest.mark.parametrize("wait_for_it", [False, True])
def test_a_broker_that_accepts_and_says_nothing_is_no_connection(
    publishers: Callable[..., Publisher], eventually: Callable[..., Any], wait_for_it: bool
):
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        url = f"amqp://guest:guest@127.0.0.1:{mute.getsockname()[1]}/"
        publisher = publishers(url, connects=False)
        if wait_for_it:
            eventually(lambda: publisher.connection)
        began = time.monotonic()
        assert publisher.publish(envelopes(3)) == [False] * 3
        assert publisher.connected is False
        assert time.monotonic() - began < PROMPTLY
        began = time.monotonic()
        publisher.stop()
        assert time.monotonic() - began < PROMPTLY


def test_of_several_brokers_one_that_lives_is_found(publishers: Callable[..., Publisher], rabbitmq_url: str):
    assert publishers(NOBODY_LISTENS, rabbitmq_url).publish(envelopes(1)) == [True]


def test_a_broker_that_says_nothing_does_not_keep_from_the_next(
    publishers: Callable[..., Publisher], rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(topology, "STACK_TIMEOUT_SECONDS", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        url = f"amqp://guest:guest@127.0.0.1:{mute.getsockname()[1]}/"
        assert publishers(url, rabbitmq_url).publish(envelopes(1)) == [True]


def test_a_publisher_whose_broker_dies_goes_to_the_next(
    publishers: Callable[..., Publisher], proxy: Proxy, rabbitmq_url: str, eventually: Callable[..., Any]
):
    publisher = publishers(proxy.url, rabbitmq_url)
    assert publisher.publish(envelopes(1)) == [True]
    proxy.close()
    eventually(lambda: publisher.publish(envelopes(1)) == [True], within_seconds=3)


@pytest.mark.parametrize("answered_bytes", [1, 30, 60])
def test_a_connection_that_breaks_in_mid_batch_leaves_no_doubt_and_is_made_again(
    publishers: Callable[..., Publisher],
    proxy: Proxy,
    channel: Any,
    queue_prefix: str,
    eventually: Callable[..., Any],
    answered_bytes: int,
):
    publisher = publishers(proxy.url)
    publisher.publish(envelopes(1))
    proxy.reset_after(answered_bytes)
    began = time.monotonic()
    answers = publisher.publish(envelopes(1_000))
    assert time.monotonic() - began < publisher.timeout / 2
    assert False in answers or answered_bytes > 1
    eventually(lambda: publisher.connected)
    assert publisher.publish(envelopes(10)) == [True] * 10
    # More may have arrived than was confirmed; what was confirmed is there.
    assert on_queue(channel, f"{queue_prefix}.default") >= 1 + answers.count(True) + 10


def test_breaks_without_end_neither_hang_nor_lie(
    publishers: Callable[..., Publisher], proxy: Proxy, channel: Any, queue_prefix: str
):
    publisher = publishers(proxy.url)
    publisher.publish(envelopes(1))
    confirmed, deadline = 1, time.monotonic() + 1.5
    while time.monotonic() < deadline:
        proxy.reset_after(50)
        confirmed += publisher.publish(envelopes(100)).count(True)
    assert proxy.connections > 5
    assert on_queue(channel, f"{queue_prefix}.default") >= confirmed


@pytest.mark.fault("rabbitmq-frozen", "a proxy that passes nothing from the publisher")
def test_a_frozen_broker_costs_the_timeout_and_no_more(
    publishers: Callable[..., Publisher], proxy: Proxy, eventually: Callable[..., Any]
):
    publisher = publishers(proxy.url, timeout=0.5)
    publisher.publish(envelopes(1))
    with proxy.frozen():
        began = time.monotonic()
        assert publisher.publish(envelopes(5)) == [False] * 5
        assert 0.4 < time.monotonic() - began < 1 + PROMPTLY
        eventually(lambda: not publisher.connected)  # it opens another channel, and nothing is claimed meanwhile
        assert publisher.depths(["default"]) == {}
        assert not publisher.pending  # nor does it cost memory
    eventually(lambda: publisher.connected)
    # The late confirms belong to the batch that was given up, not to the next.
    assert publisher.publish(envelopes(5)) == [True] * 5
    assert publisher.depths(["default"]) == {"default": 11}


@pytest.mark.parametrize("late", ["confirm", "return"])
def test_what_a_channel_that_was_given_up_still_says_means_nothing_for_the_next(
    publishers: Callable[..., Publisher],
    proxy: Proxy,
    queue_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
    late: str,
):
    confirms: list[Callable[[Any], None]] = []
    confirm_delivery = Channel.confirm_delivery

    def noted(channel: Channel, on_confirm: Any, callback: Any) -> None:
        confirms.append(on_confirm)
        confirm_delivery(channel, on_confirm, callback)

    monkeypatch.setattr(Channel, "confirm_delivery", noted)
    publisher = publishers(proxy.url, timeout=0.3)
    given_up = publisher.channel
    publisher.publish(envelopes(1))
    with proxy.frozen():
        assert publisher.publish(envelopes(20)) == [False] * 20
        eventually(lambda: publisher.channel is not given_up)  # or an answer might still come first, and keep it
    eventually(lambda: publisher.connected)
    said = {
        "confirm": lambda: confirms[0](Method(1, Basic.Ack(5, multiple=True))),
        "return": lambda: publisher._on_return(given_up, None, pika.BasicProperties(message_id="1"), b""),
    }
    publisher.timeout = 30.0
    with ThreadPoolExecutor() as pool:
        with proxy.frozen():
            sent = pool.submit(publisher.publish, envelopes(5))
            eventually(lambda: len(publisher.pending) == 5)
            heard = Future()
            publisher._call(lambda: heard.set_result(said[late]()))
            heard.result(timeout=10.0)
            assert len(publisher.pending) == 5
            assert publisher.declared == {f"{queue_prefix}.default"}
        assert sent.result() == [True] * 5


def test_a_question_for_depths_that_nobody_answers_is_a_reason_for_another_channel(
    publishers: Callable[..., Publisher], proxy: Proxy, eventually: Callable[..., Any]
):
    publisher = publishers(proxy.url, timeout=0.3)
    first = publisher.channel
    with proxy.frozen():
        assert publisher.depths(["default"]) == {}
        eventually(lambda: not publisher.connected)
    eventually(lambda: publisher.depths(["default"]) == {"default": 0})
    assert publisher.channel is not first


def test_a_lost_connection_answers_a_question_for_depths_at_once(
    publishers: Callable[..., Publisher], proxy: Proxy, eventually: Callable[..., Any]
):
    publisher = publishers(proxy.url)
    publisher.depths(["default"])
    proxy.reset_after(1)
    began = time.monotonic()
    assert publisher.depths(["default", "media"]) == {}
    assert time.monotonic() - began < publisher.timeout / 2
    eventually(lambda: publisher.connected)
    assert publisher.depths(["default"]) == {"default": 0}


@pytest.mark.fault("rabbitmq-arguments", "a classic queue, found by the publisher")
def test_a_queue_with_other_arguments_is_named_and_does_not_stop_the_others(
    publisher: Publisher,
    channel: Any,
    queue_prefix: str,
    eventually: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
):
    channel.queue_declare(f"{queue_prefix}.other", durable=True)
    before = counted("jobmill_wrong_queues_total")
    began = time.monotonic()
    assert publisher.publish(envelopes(2, "other")) == [False, False]
    assert publisher.depths(["other"]) == {}
    assert time.monotonic() - began < publisher.timeout
    eventually(lambda: publisher.connected)
    # It is left in peace for a moment: each look at it would cost the others their connection.
    mixed = [*envelopes(2), *envelopes(2, "other")]
    assert [publisher.publish(mixed) for _ in range(3)] == [[True, True, False, False]] * 3
    assert publisher.depths(["default", "other"]) == {"default": 6}
    assert counted("jobmill_wrong_queues_total") - before == 1
    logged = capfd.readouterr().out
    assert "queue_is_wrong" in logged
    assert f"delete_queue {queue_prefix}.other" in logged

    channel.queue_delete(f"{queue_prefix}.other")
    eventually(lambda: publisher.depths(["other"]) == {"other": 0})
    assert publisher.publish(envelopes(1, "other")) == [True]


def test_reconnecting_for_a_long_time_leaks_no_descriptors(
    publishers: Callable[..., Publisher], monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
):
    monkeypatch.setattr(publisher_module, "RECONNECT_SECONDS", 0.001)
    tries = 0
    original = Publisher._connect

    def connect(publisher: Publisher, url: str) -> None:
        nonlocal tries
        tries += 1
        original(publisher, url)

    monkeypatch.setattr(Publisher, "_connect", connect)
    gc.disable()  # what only the collector would close does not count as closed
    try:
        before = descriptors()
        publishers(NOBODY_LISTENS, connects=False)
        eventually(lambda: tries > 50)
        assert descriptors() < before + 20
    finally:
        gc.enable()


def test_stopping_closes_the_connection_and_later_publishing_is_refused(publisher: Publisher):
    publisher.publish(envelopes(1))
    publisher.stop()
    assert publisher.connected is False
    assert publisher.publish(envelopes(1)) == [False]
    assert publisher.depths(["default"]) == {}
