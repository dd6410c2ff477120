"""The scenarios as every peer goes through them, each in an environment and a process without Jobmill.

`python -m bench.peers.<peer> <scenario> <how many>` prints one line of JSON; with `serve` it is that peer's worker.
Where its database and queues are stands in BENCH_DATABASE_URL, BENCH_RABBITMQ_URL, BENCH_REDIS_URL and BENCH_NAME; the
suite makes and removes them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from typing import Protocol

from bench.peers import notes

DEADLINE = 300.0
PER_SECOND = 20
THREADS = 16


class Peer(Protocol):
    """What the scenarios ask of a product."""

    def prepare(self) -> None:
        """Make tables or queues, before any clock runs."""

    def send(self, count: int) -> None:
        """Enqueue so many jobs in the product's quickest durable way, from one process."""

    def send_each(self, count: int, threads: int) -> None:
        """Enqueue them one call at a time, on so many threads, each call durable when it returns."""

    def send_one(self) -> None:
        """Enqueue one, that tells when it was sent."""

    def settled(self) -> int:
        """How many jobs the product itself holds for done: result kept, or message gone."""

    def serve(self) -> None:
        """Be a worker until SIGTERM."""


class Threaded:
    """A peer whose callers are threads; they stay from one call to the next, and with them their connections."""

    send_one: Callable[[], None]

    def send_each(self, count: int, threads: int) -> None:
        list(_pool(threads).map(lambda _: self.send_one(), range(count)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def main(peer: Peer) -> None:
    """Serve, or measure one scenario."""
    if sys.argv[1] == "serve":
        peer.serve()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("It was told to end."))  # by way of the worker's end
    peer.prepare()
    print(json.dumps(SCENARIOS[sys.argv[1]](peer, int(sys.argv[2]))), flush=True)


def end_to_end(peer: Peer, count: int) -> dict[str, float]:
    """From the first enqueue until the last is done, the worker already at work."""
    with _worker(), _warmed_up(peer) as before:
        began = time.time()
        peer.send(count)
        return {"jobs per second": count / (_all_done(peer, before + count) - began)}


def drain(peer: Peer, count: int) -> dict[str, float]:
    """From the start of the first job, which a worker finds in a full queue, until the last is done."""
    peer.send(count)
    with _worker():
        ended = _all_done(peer, count)
    return {"jobs per second": count / (ended - min(began for _, began in notes.read()))}


def enqueue(peer: Peer, count: int) -> dict[str, float]:
    """Single calls a second on one thread and on 16, the better of the two; nobody serves."""
    rates = {}
    for threads in (1, THREADS):
        peer.send_each(2 * threads, threads)  # connects
        began = time.time()
        peer.send_each(count, threads)
        rates[threads] = count / (time.time() - began)
    best = max(rates, key=lambda threads: rates[threads])
    return {"jobs per second": rates[best], "threads": best}


def latency(peer: Peer, count: int) -> dict[str, float]:
    """From before the enqueueing call to the start of the handler, at 20 a second."""
    with _worker(), _warmed_up(peer) as before:
        began = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
            peer.send_one()
        _all_done(peer, before + count)
    waited = [began - sent for sent, began in notes.read(before)]
    return {"p50 ms": percentile(waited, 50) * 1000, "p99 ms": percentile(waited, 99) * 1000}


SCENARIOS: dict[str, Callable[[Peer, int], dict[str, float]]] = {
    "end-to-end": end_to_end,
    "drain": drain,
    "enqueue": enqueue,
    "latency": latency,
}


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


@contextmanager
def _worker() -> Iterator[None]:
    """This peer's worker, as a process group of its own, ended with all its children."""
    command = [sys.executable, "-m", sys.modules["__main__"].__spec__.name, "serve"]
    process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with suppress(ProcessLookupError):  # children that outlived it, or itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _warmed_up(peer: Peer) -> Iterator[int]:
    """How many jobs it took until the worker had proved to run, and whatever enqueues was connected."""
    peer.send(2 * THREADS)
    peer.send_one()
    _all_done(peer, 2 * THREADS + 1)
    yield 2 * THREADS + 1


def _all_done(peer: Peer, count: int) -> float:
    """The moment at which so many handlers had run and the product held them for done."""
    _until(lambda: notes.how_many() >= count, f"{count} handlers to run")
    _until(lambda: peer.settled() >= count, f"{count} jobs to be done")
    return time.time()


def _until(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{DEADLINE} s were not enough for {what}; {notes.how_many()} had run.")
        time.sleep(0.01)
