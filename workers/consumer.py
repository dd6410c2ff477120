"""What a worker receives of one queue of RabbitMQ: handed on when a thread is free, answered on the right connection.

Dramatiq is pinned, and a test asserts that the private names used here exist.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dramatiq import Message, MessageProxy
from dramatiq.brokers.rabbitmq import _RabbitmqConsumer
from dramatiq.errors import ConnectionClosed
from dramatiq.logging import get_logger
from pika.exceptions import ConsumerCancelled

from workers import flow, metrics, topology
from workers.flow import Flow
from workers.messages import BadMessage, decode, dramatiq_message
from workers.silence import Silence

if TYPE_CHECKING:
    from workers.broker import JobmillBroker

CLOSE_SECONDS = 3


class JobmillMessage(MessageProxy):
    """A delivered message that knows which consumer delivered it."""

    def __init__(self, message: Message[Any], consumer: "JobmillConsumer", tag: int) -> None:
        super().__init__(message)
        self.consumer = consumer
        self._tag = tag


@dataclass(frozen=True)
class Waiting:
    """A message that no thread has taken yet, and when it came."""

    message: JobmillMessage
    tag: int
    at: float


class JobmillConsumer(_RabbitmqConsumer):
    """One connection's consumer of one queue. What threads call is said so; all else is the consumer's own thread's.

    Delivery tags begin at 1 again on each connection. An acknowledgement of a message that an earlier
    consumer delivered would hit an unrelated one, so it is dropped: RabbitMQ has requeued that message
    and the lease makes its second delivery harmless.

    It consumes while a thread is free. When none was for a while it cancels, which makes RabbitMQ hand the
    messages to other workers, and consumes again when one is.
    """

    def __init__(self, broker: "JobmillBroker", queue_name: str, shared: Flow, timeout: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.logger = get_logger(__name__, type(self))
        self.flow = shared
        self.idle_seconds = timeout / 1000
        self.cancelled = False
        self.paused = broker.draining
        self.window = 0
        self.delivered: set[int] = set()
        """Tags of this window that nobody answered."""
        self.waiting: deque[Waiting] = deque()
        self.in_hand: dict[int, float] = {}
        """Tags of what threads work on and nobody answered, by when it was begun, oldest first."""
        self.silence = Silence(time.monotonic())
        self.parameters, self.connection = broker.connect()
        try:
            self.channel = self.connection.channel()
            topology.declare(self.channel, queue_name)
            if not self.paused:
                self._consume(shared.threads)
        except BaseException:
            self._abandon()
            raise

    def __next__(self) -> MessageProxy | None:
        """The next message for which a thread is free; None when there was none for a while."""
        try:
            return self._next()
        except (AssertionError, *topology.BROKER_ERRORS) as error:
            self.cancelled = True
            self.broker.distrust(self.parameters)
            told = str(error) or f"RabbitMQ ended the consumer of {self.queue_name}"
            raise ConnectionClosed(told) from None

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge, unless that was done early or an earlier consumer delivered it. Called by threads."""
        self._answer(message, self.channel.basic_ack)

    def nack(self, message: MessageProxy) -> None:
        """Dead-letter, with the same exceptions. Called by threads."""
        self._answer(message, partial(self.channel.basic_nack, requeue=False))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back to RabbitMQ at once, for another worker. Called by threads."""
        for message in messages:
            self._answer(message, partial(self.channel.basic_nack, requeue=True))

    def wake(self) -> None:
        """End its wait. Called by threads."""
        with suppress(*topology.BROKER_ERRORS):
            self.connection.add_callback_threadsafe(lambda: None)

    def close(self) -> None:
        """Let the answers go out and close; a broker that is frozen is not waited for until its heartbeat is missed."""
        closing = threading.Thread(target=self._close, name="consumer-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _close(self) -> None:
        with suppress(ConnectionClosed):
            super().close()
        # Dramatiq leaves the connection to the garbage collector where its channel was closed before, as by a broker
        # that lost patience with a consumer.
        if self.connection.is_open:
            self._abandon()

    def _next(self) -> MessageProxy | None:
        self._acknowledge_early(time.monotonic())
        if self.broker.draining:
            self._take_nothing_more()
        elif self.paused:
            if free := self.flow.listen(self.wake):
                self._consume(free)
                return None
        else:
            if not self.waiting:
                self._receive()
            if self.waiting and self.flow.take(self.wake):
                return self._begin()
            if self._adjusted(time.monotonic()):
                return None
            self._doubt(time.monotonic())
        self._wait()
        return None

    # What comes.

    def _consume(self, window: int) -> None:
        """Have RabbitMQ deliver up to `window` messages. What came before counts no more, only its threads do."""
        self.window, self.delivered = window, set()
        self.paused = False
        self.channel.basic_qos(prefetch_count=self.window)
        self.iterator = self.channel.consume(self.queue_name, inactivity_timeout=0)
        self._receive()  # asks RabbitMQ for the first time

    def _receive(self) -> None:
        """Take in what has come, without waiting."""
        for method, _properties, body in self.iterator:
            if method is None or body is None:
                return
            self._take_in(method.delivery_tag, body)
        raise ConsumerCancelled

    def _doubt(self, now: float) -> None:
        """Give this consumer up if RabbitMQ has messages and room for them, and delivers none."""
        if self.waiting or len(self.delivered) >= self.window:
            self.silence.broken(now)
        elif self.silence.asks(now):
            queue = self.channel.queue_declare(self.queue_name, passive=True)
            if self.silence.is_deaf(queue.method.message_count, now):
                metrics.deaf_consumers.inc()
                raise ConsumerCancelled

    def _take_in(self, tag: int, body: bytes) -> None:
        self.silence.broken(time.monotonic())
        try:
            refs = decode(body)
        except BadMessage:
            metrics.bad_messages.inc()
            self.channel.basic_nack(tag, requeue=False)
            return
        self.delivered.add(tag)
        message = JobmillMessage(dramatiq_message(self.queue_name, refs), self, tag)
        self.waiting.append(Waiting(message, tag, time.monotonic()))

    def _begin(self) -> JobmillMessage:
        first = self.waiting.popleft()
        self.in_hand[first.tag] = time.monotonic()
        return first.message

    def _wait(self) -> None:
        """Let the connection work until something happens, or a waiting message has waited long enough."""
        seconds = self.idle_seconds
        if self.waiting:
            seconds = min(seconds, max(0.0, self.waiting[0].at + flow.PATIENCE.total_seconds() - time.monotonic()))
            if self.flow.free:  # kept for another queue, which may not come for it
                seconds = min(seconds, flow.KEPT_FOR.total_seconds())
        self.connection.process_data_events(time_limit=seconds)
        if not self.paused and not self.cancelled:
            self._receive()

    # How much may come.

    def _adjusted(self, now: float) -> bool:
        """Let RabbitMQ deliver as much as threads are free: nothing when none was in time, more when more are.

        Gives whether that changed anything.
        """
        # Threads are looked at before the window: what one of them ends between the two looks is room, not a thread.
        shrunk = self.window < self.flow.threads
        free = self.flow.listen(self.wake) if shrunk else self.flow.free
        room = self.window - len(self.delivered)
        patience = flow.PATIENCE.total_seconds()
        kept_waiting = self.waiting and now - self.waiting[0].at >= patience
        if kept_waiting or (room > 0 and self.flow.full_for(now) >= patience):
            self._pause()
            return True
        if free > room and not self.waiting:
            self._pause()
            self._consume(free)
            return True
        return False

    def _pause(self) -> None:
        """Cancel, and give back what no thread has begun."""
        self.paused = True
        self.channel.cancel()  # and pika gives back what it holds
        if self.waiting:
            self.flow.owe(self.wake)
        while self.waiting:
            self.channel.basic_nack(self.waiting.popleft().tag, requeue=True)
            metrics.given_back.inc()

    def _take_nothing_more(self) -> None:
        """Cancel for good; the connection stays for the acknowledgements still to come."""
        if not self.cancelled:
            if not self.paused:
                self._pause()
            self.cancelled = True

    # Answers.

    def _acknowledge_early(self, now: float) -> None:
        """Acknowledge what has been worked on for long: its lease protects it, and RabbitMQ's patience has an end."""
        for tag, begun in list(self.in_hand.items()):
            if now - begun < flow.ACKNOWLEDGED_AFTER.total_seconds():
                return
            if self._owed(tag):
                self.channel.basic_ack(tag)
                metrics.early_acknowledgements.inc()

    def _owed(self, tag: int) -> bool:
        """Whether the message is still to be answered; True once only, whichever thread asks."""
        self.delivered.discard(tag)
        return self.in_hand.pop(tag, None) is not None

    def _answer(self, message: MessageProxy, answer: Callable[[int], None]) -> None:
        """Answer a message that this consumer delivered; on a lost connection RabbitMQ has it back already."""
        if not isinstance(message, JobmillMessage):
            return
        try:
            if message.consumer._owed(message._tag):  # noqa: SLF001 - Dramatiq's own name for it
                self._send(message, answer)
        finally:
            self.flow.done()

    def _send(self, message: JobmillMessage, answer: Callable[[int], None]) -> None:
        if message.consumer is self:
            # Dramatiq would have the thread wait five seconds for the connection, and try in vain.
            with suppress(*topology.BROKER_ERRORS):
                return self.connection.add_callback_threadsafe(partial(answer, message._tag))  # noqa: SLF001
        metrics.stale_acknowledgements.inc()
        return None

    def _abandon(self) -> None:
        with suppress(*topology.BROKER_ERRORS):
            self.connection.close()
