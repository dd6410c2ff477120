"""Dramatiq's RabbitMQ broker, made safe: consumes our quorum queues, and never publishes.

The dispatcher publishes through `workers.publisher`. Dramatiq is pinned, and a test asserts that the
private names used here exist.
"""

import os
import threading
import time
from typing import Any

import pika
from dramatiq import Consumer, Message
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.errors import ConnectionClosed

from workers import topology
from workers.consumer import JobmillConsumer
from workers.drift import Shunned, wrong_queue
from workers.flow import Flow
from workers.of_no_job import PutAside


class JobmillBroker(RabbitmqBroker):
    """Consumes our queues without Dramatiq's delay queues, retries, or any other middleware of its."""

    def __init__(self, urls: tuple[str, ...], connection_name: str) -> None:
        super().__init__(url=list(urls), middleware=[PutAside()], confirm_delivery=True)
        first = os.getpid() % len(urls)  # workers spread over the nodes
        self.parameters = [topology.connection_parameters(url, connection_name) for url in urls[first:] + urls[:first]]
        self.draining = False
        self.flow: Flow | None = None
        self.shunned = Shunned()
        self._lock = threading.Lock()
        self._drained = threading.Event()
        self._consumers: dict[str, JobmillConsumer] = {}

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1000) -> Consumer:
        """A consumer of one queue; `prefetch` is how many threads share all of them. Raises ConnectionClosed."""
        with self._lock:
            self.flow = self.flow or Flow(prefetch)
        self._drained.wait(self.shunned.seconds_left(queue_name, time.monotonic()))
        try:
            consumer = self._consumers[queue_name] = JobmillConsumer(self, queue_name, self.flow, timeout)
        except topology.BROKER_ERRORS as error:
            if wrong := wrong_queue(error):
                self.shunned.failed(wrong, time.monotonic())
            raise ConnectionClosed(error) from None
        self.shunned.worked(queue_name)
        return consumer

    def drain(self) -> None:
        """Have the consumers take nothing more, and give back what no thread has begun."""
        self.draining = True
        self._drained.set()
        for consumer in list(self._consumers.values()):
            consumer.wake()

    def connect(self) -> tuple[pika.URLParameters, pika.BlockingConnection]:
        """A connection to the first broker that answers; those that do not are tried last from now on."""
        error: BaseException | None = None
        for parameters in list(self.parameters):
            try:
                return parameters, pika.BlockingConnection(parameters)
            except topology.BROKER_ERRORS as raised:
                error = raised
                self.distrust(parameters)
        raise ConnectionClosed(error) from None

    def distrust(self, parameters: pika.URLParameters) -> None:
        """Try this broker after the others; each of several consumers that lost it may say so."""
        with self._lock:
            if self.parameters[0] is parameters:
                self.parameters = [*self.parameters[1:], parameters]

    def declare_queue(self, queue_name: str, **_ensure: bool) -> None:
        """Have a queue consumed; its consumer declares it, without the delay queue that Dramatiq would make."""
        if queue_name not in self.queues:
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Refused: only the dispatcher publishes, after it claimed the jobs."""
        raise NotImplementedError(f"{message} must come from the dispatcher (delay {delay})")
