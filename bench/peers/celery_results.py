"""Celery on RabbitMQ, as both peers have it: delay() with publisher confirms, two prefork children, results kept.

Messages are persistent and queues durable, as they come. A child may hold 128 messages, as Celery's page on optimizing
has it for many short tasks. They are acknowledged as they are taken, Celery's default: a job of a worker that is killed
is lost, which acks_late would prevent at some cost. Gossip, mingling and the worker's heartbeat are off, since
there is one worker.
"""

import os
import time
from collections.abc import Callable

from celery import Celery

from bench.peers import notes
from bench.peers.measure import THREADS, Threaded

NAME, PROCESSES, PREFETCH = os.environ["BENCH_NAME"], 2, 128


class CeleryResults(Threaded):
    """Celery with that backend, which `settled` asks how many results it holds."""

    def __init__(self, backend: str, settled: Callable[[], int], **settings: object) -> None:
        self.settled = settled
        self._app = Celery("bench", broker=os.environ["BENCH_RABBITMQ_URL"], backend=backend)
        self._app.conf.update(
            broker_transport_options={"confirm_publish": True},
            broker_connection_retry_on_startup=True,
            task_default_queue=NAME,
            worker_prefetch_multiplier=PREFETCH,
            worker_enable_remote_control=False,
            worker_send_task_events=False,
            **settings,
        )
        self._noop = self._app.task(notes.note, name="noop")

    def prepare(self) -> None:
        """One publisher declares the queue, and a result's table is made when it is first asked for."""
        with self._app.connection_for_write() as connection:
            self._app.amqp.queues[NAME].bind(connection.default_channel).declare()
        self._app.AsyncResult("nobody").state  # noqa: B018

    def send(self, count: int) -> None:
        self.send_each(count, THREADS)

    def send_one(self) -> None:
        self._noop.delay(time.time())

    def serve(self) -> None:
        # Made before its children, it keeps a connection in each; made in a child, one a result (its issue 3032).
        # A worker that prints its banner makes it by the way.
        _ = self._app.backend
        at_rest = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self._app.worker_main(
            [
                "--quiet",
                "worker",
                "--pool=prefork",
                f"--concurrency={PROCESSES}",
                "--loglevel=ERROR",
                "--queues",
                NAME,
                *at_rest,
            ]
        )
