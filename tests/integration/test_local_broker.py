"""The broker of the embedded mode: a queue in memory that never hands out more than was asked for."""

import threading
import time
from typing import Any

import pytest

from models.ids import new_id
from models.job import Ref
from workers.local_broker import LocalBroker
from workers.messages import ACTOR
from workers.transport import Envelope

BRIEFLY = 20  # milliseconds


@pytest.fixture
def broker() -> LocalBroker:
    broker = LocalBroker()
    broker.declare_queue("default")
    return broker


def envelopes(how_many: int, queue: str = "default") -> list[Envelope]:
    return [Envelope(queue, (Ref(new_id(), number),)) for number in range(1, how_many + 1)]


def refs_of(message: Any) -> list[Ref]:
    assert message.actor_name == ACTOR
    return list(message.args[0])


def test_messages_come_in_the_order_they_were_published(broker: LocalBroker):
    sent = envelopes(5)
    assert broker.publish(sent) == [True] * 5
    consumer = broker.consume("default", prefetch=5, timeout=BRIEFLY)
    assert [refs_of(next(consumer)) for _ in sent] == [list(envelope.refs) for envelope in sent]
    assert next(consumer) is None


def test_a_queue_that_nobody_consumes_here_is_not_confirmed(broker: LocalBroker):
    assert broker.publish([*envelopes(1), *envelopes(1, "media")]) == [True, False]


def test_declaring_twice_keeps_what_is_there(broker: LocalBroker):
    broker.publish(envelopes(1))
    broker.declare_queue("default")
    assert broker.depths(["default", "media"]) == {"default": 1, "media": 0}


def test_depths_count_what_waits_and_not_what_was_taken(broker: LocalBroker):
    broker.publish(envelopes(3))
    next(broker.consume("default", prefetch=1, timeout=BRIEFLY))
    assert broker.depths(["default"]) == {"default": 2}


@pytest.mark.parametrize("freed_by", ["ack", "nack", "requeue"])
def test_no_more_than_the_prefetch_is_handed_out_at_once(broker: LocalBroker, freed_by: str):
    broker.publish(envelopes(4))
    consumer = broker.consume("default", prefetch=2, timeout=BRIEFLY)
    first, second = next(consumer), next(consumer)
    assert second is not None
    assert next(consumer) is None
    consumer.requeue([first]) if freed_by == "requeue" else getattr(consumer, freed_by)(first)
    assert next(consumer) is not None
    assert next(consumer) is None


def test_looking_in_vain_costs_no_slot(broker: LocalBroker):
    consumer = broker.consume("default", prefetch=1, timeout=BRIEFLY)
    assert [next(consumer) for _ in range(3)] == [None] * 3
    broker.publish(envelopes(1))
    assert next(consumer) is not None


def test_waiting_ends_with_the_next_message(broker: LocalBroker):
    consumer = broker.consume("default", prefetch=1, timeout=20_000)
    began = time.monotonic()
    threading.Timer(0.05, broker.publish, [envelopes(1)]).start()
    assert next(consumer) is not None
    assert time.monotonic() - began < 5


def test_a_draining_broker_hands_out_nothing_more(broker: LocalBroker):
    broker.publish(envelopes(3))
    consumer = broker.consume("default", prefetch=3, timeout=BRIEFLY)
    next(consumer)
    broker.draining = True
    assert [next(consumer) for _ in range(4)] == [None] * 4


def test_only_the_dispatcher_publishes(broker: LocalBroker):
    message = broker.consume("default", timeout=BRIEFLY)
    broker.publish(envelopes(1))
    with pytest.raises(NotImplementedError, match="dispatcher"):
        broker.enqueue(next(message), delay=5)


def test_threads_are_shared_by_all_queues(broker: LocalBroker):
    broker.declare_queue("media")
    broker.publish([*envelopes(2), *envelopes(2, "media")])
    first, second = (broker.consume(name, prefetch=2, timeout=BRIEFLY) for name in ("default", "media"))
    held = [next(first), next(second)]
    assert None not in held
    assert (next(first), next(second)) == (None, None)
    assert broker.depths(["default", "media"]) == {"default": 1, "media": 1}
    first.ack(held[0])  # type: ignore[arg-type]
    assert next(second) is not None


def test_waiting_for_a_thread_ends_when_one_is_done_on_another_queue(broker: LocalBroker):
    broker.declare_queue("media")
    broker.publish([*envelopes(1), *envelopes(1, "media")])
    first, second = (broker.consume(name, prefetch=1, timeout=20_000) for name in ("default", "media"))
    held: Any = next(first)
    began = time.monotonic()
    threading.Timer(0.05, first.ack, [held]).start()
    assert next(second) is not None
    assert time.monotonic() - began < 5


def test_draining_ends_a_wait_at_once(broker: LocalBroker):
    consumer = broker.consume("default", prefetch=1, timeout=20_000)
    began = time.monotonic()
    threading.Timer(0.05, broker.drain).start()
    assert next(consumer) is None
    assert time.monotonic() - began < 5


def test_a_process_that_one_job_has_for_itself_is_handed_nothing_until_that_is_over(broker: LocalBroker):
    broker.publish(envelopes(2))
    consumer = broker.consume("default", prefetch=4, timeout=BRIEFLY)
    alone = next(consumer)
    assert broker.flow
    with broker.flow.reserved():
        assert [next(consumer), broker.depths(["default"])] == [None, {"default": 1}]
        consumer.ack(alone)  # which frees a thread, and not for this
        assert next(consumer) is None
    assert next(consumer) is not None


def test_waiting_ends_with_the_reservation(broker: LocalBroker):
    broker.publish(envelopes(1))
    consumer, got = broker.consume("default", prefetch=2, timeout=60_000), []
    assert broker.flow
    looking = threading.Thread(target=lambda: got.append(next(consumer)))
    with broker.flow.reserved():
        looking.start()
        looking.join(0.1)
        assert looking.is_alive()
    looking.join(5)
    assert got
