"""The yardstick: the same number of no-ops through Dramatiq as it comes, with confirms, and nothing remembered."""

import os
import sys
import threading
import time

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

THREADS = 8
DEADLINE = 120.0


def measure(url: str, name: str, count: int) -> tuple[float, float]:
    """Messages enqueued per second, and messages done per second by a worker that starts with the queue full.

    Whoever gave the queue its name removes it.
    """
    broker = RabbitmqBroker(url=url, confirm_delivery=True)
    done, finished = iter(range(1, count + 1)), threading.Event()

    def noop() -> None:
        if next(done) == count:
            finished.set()

    actor = dramatiq.actor(noop, broker=broker, queue_name=name)
    began = time.monotonic()
    for _ in range(count):
        actor.send()
    enqueued = time.monotonic() - began
    worker = dramatiq.Worker(broker, worker_threads=THREADS)
    began = time.monotonic()
    worker.start()
    if not finished.wait(DEADLINE):
        raise TimeoutError(f"{DEADLINE} s were not enough for {count} messages.")
    drained = time.monotonic() - began
    worker.stop()
    broker.close()
    return count / enqueued, count / drained


if __name__ == "__main__":
    enqueue_rate, drain_rate = measure(os.environ["BENCH_RABBITMQ_URL"], os.environ["BENCH_NAME"], int(sys.argv[1]))
    print(f"{enqueue_rate} {drain_rate}")
