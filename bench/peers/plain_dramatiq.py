"""Dramatiq on RabbitMQ: one process of 8 threads, publisher confirms on, prefetch as it comes (two a thread).

Its own middleware as it comes, without a result backend: Dramatiq by default keeps no results, so nothing is
remembered of a job, and a message counts as done when its queue is empty.
"""

import os
import signal
import threading
import time

import dramatiq
import pika
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from bench.peers import notes
from bench.peers.measure import THREADS, Threaded, main

QUEUE, WORKER_THREADS = os.environ["BENCH_NAME"], 8
broker = RabbitmqBroker(url=os.environ["BENCH_RABBITMQ_URL"], confirm_delivery=True)
noop = dramatiq.actor(notes.note, broker=broker, queue_name=QUEUE, actor_name="noop")


class PlainDramatiq(Threaded):
    def prepare(self) -> None:
        broker.declare_queue(QUEUE, ensure=True)
        self._watch = pika.BlockingConnection(pika.URLParameters(os.environ["BENCH_RABBITMQ_URL"])).channel()

    def send(self, count: int) -> None:
        self.send_each(count, THREADS)

    def send_one(self) -> None:
        noop.send(time.time())

    def settled(self) -> int:
        """Those that ran, once none is left to be taken; the last acknowledgements may still be on their way."""
        left = self._watch.queue_declare(QUEUE, passive=True).method.message_count
        return 0 if left else notes.how_many()

    def serve(self) -> None:
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        worker = dramatiq.Worker(broker, worker_threads=WORKER_THREADS)
        worker.start()
        ended.wait()
        worker.stop()


if __name__ == "__main__":
    main(PlainDramatiq())
