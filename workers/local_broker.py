"""The embedded mode's broker: queues in memory behind Dramatiq's interface. What it forgets, the rows remember."""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from dramatiq import Broker, Consumer, Message, MessageProxy

from models.job import Ref
from workers.flow import Flow
from workers.messages import dramatiq_message
from workers.of_no_job import PutAside
from workers.transport import Envelope


class LocalBroker(Broker):
    """Dramatiq's broker and the dispatcher's transport in one, within one process."""

    connected = True

    def __init__(self) -> None:
        super().__init__(middleware=[PutAside()])
        self.queues: dict[str, deque[Sequence[Ref]]] = {}
        self.draining = False
        self.flow: Flow | None = None
        self.changed = threading.Condition()
        """Held while queues and slots are looked at together; notified when either changes."""

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue, once."""
        if queue_name not in self.queues:
            self.queues[queue_name] = deque()
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Refused: only the dispatcher publishes, after it claimed the jobs."""
        raise NotImplementedError(f"{message} must come from the dispatcher (delay {delay})")

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1000) -> "LocalConsumer":
        """Messages of one queue; `prefetch` is how many threads share all of them."""
        with self.changed:
            self.flow = self.flow or Flow(prefetch)
        return LocalConsumer(self, queue_name, self.flow, timeout / 1000)

    def drain(self) -> None:
        """Hand out nothing more."""
        with self.changed:
            self.draining = True
            self.changed.notify_all()

    def publish(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Put messages on their queues; False for a queue that nobody here consumes."""
        with self.changed:
            confirmed = [self._put(envelope) for envelope in envelopes]
            self.changed.notify_all()
        return confirmed

    def depths(self, queues: Iterable[str]) -> dict[str, int]:
        """How many messages wait on each queue."""
        return {name: len(self.queues.get(name, ())) for name in queues}

    def dead_letter_depths(self, queues: Iterable[str]) -> dict[str, int]:  # noqa: ARG002 - the transport's signature
        """None: nobody else can put anything here, and what is given back is forgotten."""
        return {}

    def look_again(self) -> None:
        """Have every consumer look whether it can take a message now."""
        with self.changed:
            self.changed.notify_all()

    def _put(self, envelope: Envelope) -> bool:
        waiting = self.queues.get(envelope.queue)
        if waiting is None:
            return False
        waiting.append(envelope.refs)
        return True


class LocalConsumer(Consumer):
    """Takes a message when there is a thread for it."""

    def __init__(self, broker: LocalBroker, queue_name: str, shared: Flow, timeout: float) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.flow = shared
        self.timeout = timeout

    def __next__(self) -> MessageProxy | None:
        """The next message, or None when none came in time, or no thread was free for it."""
        with self.broker.changed:
            if not self.broker.changed.wait_for(self._may_look, self.timeout) or self.broker.draining:
                return None
            refs = self.broker.queues[self.queue_name].popleft()
        return MessageProxy(dramatiq_message(self.queue_name, refs))

    def _may_look(self) -> bool:
        """Whether to stop waiting: a message is there and a thread was taken for it, or nothing more will be."""
        waiting = self.broker.queues[self.queue_name]
        return self.broker.draining or (bool(waiting) and self.flow.take(self.broker.look_again))

    def ack(self, message: MessageProxy) -> None:  # noqa: ARG002 - Dramatiq's signature
        """The thread is free."""
        self.flow.done()

    def nack(self, message: MessageProxy) -> None:  # noqa: ARG002
        """The thread is free; the job's row waits for its claim to expire."""
        self.flow.done()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """The threads are free; the rows of what is given back are released when the next process starts."""
        for _ in messages:
            self.flow.done()
