"""The dispatcher's way to RabbitMQ: many messages in flight, each confirmed, refused or unknown.

pika's blocking channel waits for every single confirm, about a thousand a second here; a SelectConnection
on a thread of its own keeps a whole batch in flight and reaches ten times that.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import pika
import structlog
from pika.channel import Channel
from pika.exceptions import AMQPError

from models.crashpoints import crashpoint
from workers import topology
from workers.drift import Shunned, wrong_queue
from workers.in_flight import Batch, Sent
from workers.messages import encode
from workers.refusals import Refusals
from workers.transport import Envelope

log = structlog.get_logger(__name__)

RECONNECT_SECONDS = 1.0

_Declare = Callable[[Any, str, Callable[[Any], None]], None]


class Publisher:
    """A Transport on RabbitMQ. Everything with an underscore runs on the connection's thread."""

    def __init__(self, urls: tuple[str, ...], prefix: str, connection_name: str, timeout: float = 5.0) -> None:
        self.urls = urls
        self.prefix = prefix
        self.connection_name = connection_name
        self.timeout = timeout
        self.stopping = threading.Event()
        self.gate = threading.Lock()
        self.connection: pika.SelectConnection | None = None
        self.channel: Channel | None = None
        """The one to publish on, once it confirms; `opened` from when it was opened."""
        self.opened: Channel | None = None
        self.blocked = False
        self.shunned = Shunned()
        self.refusals = Refusals()
        self.calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.asking: list[Batch] = []
        self.thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._forget()

    def start(self) -> None:
        """Connect, and connect again whenever that is needed, in the background."""
        self.thread.start()

    def stop(self) -> None:
        """Close the connection and end the thread; one that is still connecting ends with that, by its timeouts."""
        self.stopping.set()
        was_connected = self.channel is not None
        self._call(self._close)
        self.thread.join(self.timeout if was_connected else RECONNECT_SECONDS)

    @property
    def connected(self) -> bool:
        """Whether there is a channel to publish on, and a broker that reads what comes on it."""
        return self.channel is not None and not self.blocked

    def publish(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Send all and wait for the confirms; what is not confirmed in time counts as not confirmed."""
        batch = Batch(len(envelopes))
        if envelopes and self._call(lambda: self._send(batch, envelopes)) and not batch.done.wait(self.timeout):
            self._call(lambda: self._miss(batch))
        return list(batch.confirmed)

    def depths(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages waiting on each queue; declares those that are missing, which then hold none."""
        return self._depths(queues, topology.declare, whole=True)

    def dead_letter_depths(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages waiting in the dead letters of each queue, declared likewise."""
        return self._depths(queues, topology.declare_dead_letters, whole=False)

    def _depths(self, queues: Iterable[str], declare: _Declare, *, whole: bool) -> dict[str, int]:
        """`whole` says that `declare` proves all of a queue, by which one that was shunned is so no longer."""
        names = list(queues)
        found: dict[str, int] = {}
        batch = Batch(len(names))
        ask = partial(self._ask, batch, names, found, declare, whole=whole)
        if names and self._call(ask) and not batch.done.wait(self.timeout):
            self._call(lambda: self._miss(batch))
        return dict(found)

    def _call(self, function: Callable[[], object]) -> bool:
        """Have the connection's thread call `function`; False if there is no connection."""
        with self.gate:
            if self.connection is None:
                return False
            self.calls.put(function)
            self.connection.ioloop.add_callback_threadsafe(self._answer_calls)
            return True

    def _answer_calls(self) -> None:
        while not self.calls.empty():
            self.calls.get()()

    def _forget(self) -> None:
        """Begin anew: confirms of an earlier channel say nothing about this one."""
        self.sequence = 0
        self.pending: dict[int, Sent] = {}
        self.returned: set[int] = set()
        self.declared: set[str] = set()
        self.refusals.begin_anew()

    # The connection's life.

    def _run(self) -> None:
        turn = 0
        while not self.stopping.is_set():
            url = self.urls[turn % len(self.urls)]
            turn += 1
            try:
                self._connect(url)
            except Exception:
                log.exception("publisher_failed")
            self._lose_channel()
            self.stopping.wait(RECONNECT_SECONDS / len(self.urls))

    def _connect(self, url: str) -> None:
        connection = self.connection = pika.SelectConnection(
            topology.connection_parameters(url, self.connection_name),
            on_open_callback=self._on_connected,
            on_open_error_callback=self._on_connection_lost,
            on_close_callback=self._on_connection_lost,
        )
        try:
            connection.ioloop.start()
        finally:
            with self.gate:
                self.connection = None
            self._lose_channel()
            self._answer_calls()  # what was asked in the last moment learns that there is no channel
            connection.ioloop.close()

    def _close(self) -> None:
        if self.connection is not None and self.connection.is_open:
            self.connection.close()

    def _on_connected(self, connection: Any) -> None:
        # A broker that is short of memory or disk reads nothing more from who publishes, until it is better.
        connection.add_on_connection_blocked_callback(lambda *_: self._block(blocked=True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._block(blocked=False))
        connection.channel(on_open_callback=self._on_channel)

    def _block(self, *, blocked: bool) -> None:
        self.blocked = blocked
        log.warning("publisher_blocked" if blocked else "publisher_unblocked")

    def _on_connection_lost(self, connection: pika.SelectConnection, reason: BaseException) -> None:
        if not self.stopping.is_set():
            log.warning("publisher_disconnected", reason=type(reason).__name__)
        self._lose_channel()
        connection.ioloop.stop()

    def _on_channel(self, channel: Channel) -> None:
        self.opened = channel
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(
            lambda frame: self._on_confirm(channel, frame), callback=lambda _frame: self._on_ready(channel)
        )

    def _on_ready(self, channel: Channel) -> None:
        self._forget()
        self.channel = channel
        self.blocked = False
        log.info("publisher_connected")

    def _change_channel(self, event: str) -> None:
        """Open another channel: in a cluster one can wait for a dead leader of a queue, and serve nobody meanwhile."""
        useless = self.opened
        if self.connection is None or not self.connection.is_open or self.channel is None or useless is None:
            return
        log.warning(event)
        self.opened = None
        self._lose_channel()
        if useless.is_open:
            useless.close()
        self.connection.channel(on_open_callback=self._on_channel)

    def _on_channel_closed(self, channel: Channel, reason: BaseException) -> None:
        if channel is not self.opened:
            return
        if wrong := wrong_queue(reason):
            self.shunned.failed(wrong, time.monotonic())
        elif not self.stopping.is_set():
            log.error("publisher_channel_closed", reason=str(reason))
        self._lose_channel()
        if channel.connection.is_open:
            channel.connection.close()

    def _lose_channel(self) -> None:
        """What was in flight is unknown now; its jobs are released, and a second delivery is stale by lease."""
        self.channel = None
        pending, self.pending = self.pending, {}
        for sent in pending.values():
            sent.settle(confirmed=False)
        for batch in self.asking:
            batch.give_up()
        self.asking.clear()

    # Sending, and what comes back.

    def _send(self, batch: Batch, envelopes: Sequence[Envelope]) -> None:
        for index, envelope in enumerate(envelopes):
            channel, name = self.channel, topology.queue_name(self.prefix, envelope.queue)
            if channel is None or not channel.is_open or self._shuns(name):
                batch.settle(index, confirmed=False)
                continue
            self._publish(channel, batch, index, name, envelope)

    def _shuns(self, name: str) -> bool:
        """Whether the queue proved wrong: RabbitMQ closes the channel over it, at the cost of all the others."""
        return self.shunned.seconds_left(name, time.monotonic()) > 0

    def _publish(self, channel: Channel, batch: Batch, index: int, name: str, envelope: Envelope) -> None:
        self._ensure(channel, name)
        self.sequence += 1
        self.pending[self.sequence] = Sent(batch, index, name)
        properties = pika.BasicProperties(delivery_mode=2, message_id=str(self.sequence))
        try:
            channel.basic_publish("", name, encode(envelope.refs), properties, mandatory=True)
        except AMQPError:
            self._settle(self.sequence, confirmed=False)

    def _ensure(self, channel: Channel, name: str) -> None:
        """Declare a queue once per channel; the channel's order puts it before the message that follows."""
        if name not in self.declared:
            self.declared.add(name)
            topology.declare(channel, name)

    def _on_return(self, channel: Channel, _method: Any, properties: pika.BasicProperties, _body: bytes) -> None:
        """No such queue: the return comes before its confirm, which must not count."""
        if channel is not self.channel:
            return
        tag = int(properties.message_id)
        if tag in self.pending:
            self.returned.add(tag)
        self.declared.clear()

    def _on_confirm(self, channel: Channel, frame: Any) -> None:
        if channel is not self.channel:
            return  # each channel counts from 1
        crashpoint("dispatch.mid_batch")
        method = frame.method
        acknowledged = isinstance(method, pika.spec.Basic.Ack)
        tags = self._tags_up_to(method.delivery_tag) if method.multiple else [method.delivery_tag]
        queues = {self.pending[tag].queue for tag in tags if tag in self.pending and tag not in self.returned}
        for tag in tags:
            self._settle(tag, confirmed=acknowledged and tag not in self.returned)
            self.returned.discard(tag)
        self._judge(queues, acknowledged=acknowledged)

    def _judge(self, queues: set[str], *, acknowledged: bool) -> None:
        """Whether the channel still serves the queues that these were for."""
        if acknowledged:
            for name in queues:
                self.refusals.accepted(name)
        elif any(self.refusals.refused(name, time.monotonic()) for name in queues):
            self._change_channel("publisher_channel_refuses")

    def _tags_up_to(self, last: int) -> list[int]:
        return list(takewhile(lambda tag: tag <= last, self.pending))  # tags were added in rising order

    def _settle(self, tag: int, *, confirmed: bool) -> None:
        if tag in self.pending:
            sent = self.pending.pop(tag)
            sent.batch.answered = True
            sent.settle(confirmed=confirmed)

    def _miss(self, batch: Batch) -> None:
        """Nobody waits for these any more; a broker that never confirms must not fill our memory with them."""
        if batch.done.is_set():  # it was settled as its time ran out; the channel there is now may be another
            return
        if not batch.answered:
            self._change_channel("publisher_channel_silent")
        self.pending = {tag: sent for tag, sent in self.pending.items() if sent.batch is not batch}
        self.returned.intersection_update(self.pending)

    def _ask(
        self, batch: Batch, names: Sequence[str], found: dict[str, int], declare: _Declare, *, whole: bool
    ) -> None:
        self.asking = [asked for asked in self.asking if not asked.done.is_set()] + [batch]
        for index, asked_for in enumerate(names):
            channel = self.channel
            if channel is None or not channel.is_open:
                batch.give_up()
                return
            name = topology.queue_name(self.prefix, asked_for)
            if self._shuns(name):
                batch.settle(index, confirmed=False)
                continue
            declare(channel, name, self._depth_taker(batch, index, asked_for, found, name if whole else None))

    def _depth_taker(
        self, batch: Batch, index: int, asked_for: str, found: dict[str, int], proved: str | None
    ) -> Callable[[Any], None]:
        """What takes in one queue's answer, by which the queue `proved`, if it is all of it, is as it should be."""

        def take(frame: Any) -> None:
            found[asked_for] = frame.method.message_count
            batch.answered = True
            batch.settle(index, confirmed=True)
            if proved is not None:
                self.shunned.worked(proved)

        return take
