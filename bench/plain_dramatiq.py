"""The yardstick: the same number of no-ops through Dramatiq as it comes, with confirms, and nothing remembered."""

import sys
import threading
import time
from uuid import uuid4

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

THREADS = 8
DEADLINE = 120.0


def measure(url: str, count: int) -> tuple[float, float]:
    """Messages enqueued per second, and messages done per second by a worker that starts with the queue full."""
    name = f"bench_{uuid4().hex[:12]}"
    broker = RabbitmqBroker(url=url, confirm_delivery=True)
    done, finished = iter(range(1, count + 1)), threading.Event()

    def noop() -> None:
        if next(done) == count:
            finished.set()

    actor = dramatiq.actor(noop, broker=broker, queue_name=name)
    try:
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
    finally:
        for queue in (name, f"{name}.DQ", f"{name}.XQ"):
            broker.channel.queue_delete(queue)
        broker.close()
    return count / enqueued, count / drained


if __name__ == "__main__":
    enqueue_rate, drain_rate = measure(sys.argv[1], int(sys.argv[2]))
    print(f"{enqueue_rate} {drain_rate}")
