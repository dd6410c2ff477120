"""The embedded mode's broker: a queue in memory behind Dramatiq's interface. What it forgets, the rows remember."""

import queue
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from dramatiq import Broker, Consumer, Message, MessageProxy

from models.job import Ref
from workers.messages import dramatiq_message
from workers.transport import Envelope


class LocalBroker(Broker):
    """Dramatiq's broker and the dispatcher's transport in one, within one process."""

    connected = True

    def __init__(self) -> None:
        super().__init__(middleware=[])
        self.queues: dict[str, queue.SimpleQueue[Sequence[Ref]]] = {}
        self.draining = False

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue, once."""
        if queue_name not in self.queues:
            self.queues[queue_name] = queue.SimpleQueue()
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Refused: only the dispatcher publishes, after it claimed the jobs."""
        raise NotImplementedError(f"{message} must come from the dispatcher (delay {delay})")

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1000) -> "LocalConsumer":
        """Messages of one queue, at most `prefetch` of them unacknowledged."""
        return LocalConsumer(self, queue_name, prefetch, timeout / 1000)

    def publish(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Put messages on their queues; False for a queue that nobody here consumes."""
        return [self._put(envelope) for envelope in envelopes]

    def depths(self, queues: Iterable[str]) -> dict[str, int]:
        """How many messages wait on each queue."""
        return {name: self.queues[name].qsize() if name in self.queues else 0 for name in queues}

    def _put(self, envelope: Envelope) -> bool:
        waiting = self.queues.get(envelope.queue)
        if waiting is None:
            return False
        waiting.put(envelope.refs)
        return True


class LocalConsumer(Consumer):
    """Takes messages while fewer than `prefetch` of them are unacknowledged."""

    def __init__(self, broker: LocalBroker, queue_name: str, prefetch: int, timeout: float) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.timeout = timeout
        self.slots = threading.Semaphore(prefetch)

    def __next__(self) -> MessageProxy | None:
        """The next message, or None when none came in time."""
        if not self.slots.acquire(timeout=self.timeout):
            return None
        message = self._next()
        if message is None:
            self.slots.release()
        return message

    def _next(self) -> MessageProxy | None:
        try:
            refs = self.broker.queues[self.queue_name].get(timeout=self.timeout)
        except queue.Empty:
            return None
        if self.broker.draining:
            return None
        return MessageProxy(dramatiq_message(self.queue_name, refs))

    def ack(self, message: MessageProxy) -> None:  # noqa: ARG002 - Dramatiq's signature
        """Free the message's slot."""
        self.slots.release()

    def nack(self, message: MessageProxy) -> None:  # noqa: ARG002
        """Free the message's slot; the job's row waits for its claim to expire."""
        self.slots.release()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Free the slots; the rows of what is given back are released when the next process starts."""
        for _ in messages:
            self.slots.release()
