"""pgqueuer: enqueue of 1,000 jobs a call; five consumers in one process, each with an asyncpg connection, on uvloop.

That is how its own benchmark runs: five consumers that take 10 a time, asyncpg, which its page finds twice as
fast as psycopg, and uvloop. Tables are `durable`, the default: all of them logged. A job counts as done when it has
moved from the queue to the log.
"""

import asyncio
import os
import signal
import struct
import time

import asyncpg
import psycopg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers import notes
from bench.peers.measure import THREADS, main

URL = os.environ["BENCH_DATABASE_URL"]
BATCH, CONSUMERS, TAKEN = 1_000, 5, 10
COUNT = "SELECT count(*) FROM pgqueuer"
SENT = struct.Struct("d")


class PgqueuerBatches:
    def prepare(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._queries = self._loop.run_until_complete(self._installed())
        self._watch = psycopg.connect(URL, autocommit=True)

    async def _installed(self) -> Queries:
        pool = await asyncpg.create_pool(URL, min_size=1, max_size=THREADS)
        queries = Queries(AsyncpgPoolDriver(pool))
        await queries.install()
        return queries

    def send(self, count: int) -> None:
        for first in range(0, count, BATCH):
            many = min(BATCH, count - first)
            call = self._queries.enqueue(["noop"] * many, [SENT.pack(time.time())] * many, [0] * many)
            self._loop.run_until_complete(call)

    def send_each(self, count: int, threads: int) -> None:
        """As so many coroutines, which is what its asynchronous callers are."""
        self._loop.run_until_complete(self._at_once(count, threads))

    async def _at_once(self, count: int, threads: int) -> None:
        numbers = iter(range(count))

        async def one_by_one() -> None:
            for _ in numbers:
                await self._queries.enqueue("noop", SENT.pack(time.time()))

        await asyncio.gather(*(one_by_one() for _ in range(threads)))

    def send_one(self) -> None:
        self._loop.run_until_complete(self._queries.enqueue("noop", SENT.pack(time.time())))

    def settled(self) -> int:
        """Those that ran, once the queue's table is empty."""
        (left,) = self._watch.execute(COUNT).fetchone()
        return 0 if left else notes.how_many()

    def serve(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        consumers = [PgQueuer(AsyncpgDriver(await asyncpg.connect(URL))) for _ in range(CONSUMERS)]

        def end() -> None:
            for consumer in consumers:
                consumer.shutdown.set()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
        await asyncio.gather(*(_consume(consumer) for consumer in consumers))


async def _consume(consumer: PgQueuer) -> None:
    @consumer.entrypoint("noop")
    async def noop(job: Job) -> None:
        notes.note(*SENT.unpack(job.payload))

    await consumer.run(batch_size=TAKEN)


if __name__ == "__main__":
    main(PgqueuerBatches())
