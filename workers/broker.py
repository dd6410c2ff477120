"""Dramatiq's RabbitMQ broker, made safe: consumes our quorum queues, and never publishes.

The dispatcher publishes through `workers.publisher`. Dramatiq is pinned, and a test asserts that the
private names used here exist.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from dramatiq import Message, MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.common import q_name
from dramatiq.errors import ConnectionClosed

from workers import metrics, topology
from workers.messages import BadMessage, decode, dramatiq_message


class JobmillBroker(RabbitmqBroker):
    """Consumes our queues without Dramatiq's delay queues, retries, or any other middleware."""

    def __init__(self, urls: tuple[str, ...], connection_name: str) -> None:
        super().__init__(url=list(urls), middleware=[], confirm_delivery=True)
        self.parameters = [topology.connection_parameters(url, connection_name) for url in urls]
        self.draining = False

    @property
    def consumer_class(self) -> type["JobmillConsumer"]:
        """The consumer that checks every message."""
        return JobmillConsumer

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Declare a queue, without the delay queue that Dramatiq would give a consumer of its own."""
        if queue_name not in self.queues:
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure:
            self._ensure_queue(queue_name)
            # Made on this thread for the declaration only; left open it would miss its heartbeats.
            del self.connection

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Refused: only the dispatcher publishes, after it claimed the jobs."""
        raise NotImplementedError(f"{message} must come from the dispatcher (delay {delay})")

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return topology.queue_arguments(queue_name)

    def _declare_dq_queue(self, queue_name: str) -> None:
        """No delay queue: a delay is a row with a later due_at."""

    def _declare_xq_queue(self, queue_name: str) -> Any:
        return self.channel.queue_declare(
            queue=topology.dead_letter_name(queue_name), durable=True, arguments=topology.dead_letter_arguments()
        )


class JobmillMessage(MessageProxy):
    """A delivered message that knows which consumer delivered it."""

    def __init__(self, message: Message[Any], consumer: "JobmillConsumer", tag: int) -> None:
        super().__init__(message)
        self.consumer = consumer
        self._tag = tag


class JobmillConsumer(_RabbitmqConsumer):
    """One connection's consumer of one queue.

    Delivery tags begin at 1 again on each connection. An acknowledgement of a message that an earlier
    consumer delivered would hit an unrelated one, so it is dropped: RabbitMQ has requeued that message
    and the lease makes its second delivery harmless.
    """

    def __init__(self, broker: JobmillBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)
        self.idle_seconds = timeout / 1000
        self.cancelled = False

    def __next__(self) -> MessageProxy | None:
        """The next message that is one of ours; None when none came in time, or when draining."""
        try:
            if self.broker.draining:
                self._take_nothing_more()
                return None
            method, _properties, body = next(self.iterator)
        except (AssertionError, StopIteration, *topology.BROKER_ERRORS) as error:
            # AMQP says not-found of a queue that is missing, and just ends the consumer of one that is deleted.
            if isinstance(error, StopIteration) or getattr(error, "reply_code", None) == 404:  # noqa: PLR2004
                self.broker.queues_pending.add(q_name(self.queue_name))
            raise ConnectionClosed(error) from None
        if method is None or body is None:
            return None
        if self.broker.draining:  # it began while we waited for this message
            self.channel.basic_nack(method.delivery_tag, requeue=True)
            return None
        return self._checked(method.delivery_tag, body)

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge, unless an earlier consumer delivered it."""
        self._answer(message, super().ack)

    def nack(self, message: MessageProxy) -> None:
        """Dead-letter, unless an earlier consumer delivered it."""
        self._answer(message, super().nack)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back to RabbitMQ at once, for another worker."""
        for message in messages:
            self._answer(message, self._give_back)

    def _give_back(self, message: MessageProxy) -> None:
        tag = message._tag  # noqa: SLF001 - Dramatiq's own name for it
        self.known_tags.discard(tag)
        self.connection.add_callback_threadsafe(lambda: self.channel.basic_nack(tag, requeue=True))

    def _checked(self, tag: int, body: bytes) -> MessageProxy | None:
        try:
            refs = decode(body)
        except BadMessage:
            metrics.bad_messages.inc()
            self._nack(tag)
            return None
        self.known_tags.add(tag)
        return JobmillMessage(dramatiq_message(self.queue_name, refs), self, tag)

    def _answer(self, message: MessageProxy, answer: Callable[[MessageProxy], None]) -> None:
        """Answer a message that this consumer delivered; on a lost connection RabbitMQ has it back already."""
        if self._is_mine(message):
            # Dramatiq would have the thread wait five seconds for the connection, and try in vain.
            with suppress(ConnectionClosed, *topology.BROKER_ERRORS):
                return answer(message)
        metrics.stale_acknowledgements.inc()
        return None

    def _is_mine(self, message: MessageProxy) -> bool:
        return getattr(message, "consumer", None) is self

    def _take_nothing_more(self) -> None:
        """Cancel once, then only keep the connection alive for the acknowledgements still to come."""
        if not self.cancelled:
            self.cancelled = True
            self.channel.cancel()
        self.connection.process_data_events(time_limit=self.idle_seconds)
