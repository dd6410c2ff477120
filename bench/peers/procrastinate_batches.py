"""Procrastinate: batch_defer of 1,000 jobs, an asynchronous worker that does 20 at once, finished jobs kept.

Tasks are asynchronous, since its documentation runs those in the worker's own loop, and LISTEN is on, as it comes, so
that a waiting worker hears of a job at once; delete_jobs stays "never", its default.
"""

import asyncio
import os
import time

import procrastinate
import psycopg

from bench.peers import notes
from bench.peers.measure import THREADS, Threaded, main

URL, QUEUE = os.environ["BENCH_DATABASE_URL"], "bench"
BATCH, AT_ONCE = 1_000, 20
COUNT = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"


def _app(connector: procrastinate.BaseConnector) -> tuple[procrastinate.App, procrastinate.tasks.Task]:
    app = procrastinate.App(connector=connector)

    async def noop(sent: float) -> None:
        notes.note(sent)

    return app, app.task(noop, name="noop", queue=QUEUE)


class Procrastinate(Threaded):
    def prepare(self) -> None:
        connector = procrastinate.SyncPsycopgConnector(conninfo=URL, min_size=1, max_size=THREADS)
        self._app, self._noop = _app(connector)
        self._app.open()
        self._app.schema_manager.apply_schema()
        self._watch = psycopg.connect(URL, autocommit=True)

    def send(self, count: int) -> None:
        for first in range(0, count, BATCH):
            self._noop.batch_defer(*[{"sent": time.time()}] * min(BATCH, count - first))

    def send_one(self) -> None:
        self._noop.defer(sent=time.time())

    def settled(self) -> int:
        return int(self._watch.execute(COUNT).fetchone()[0])

    def serve(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        app, _ = _app(procrastinate.PsycopgConnector(conninfo=URL, min_size=1, max_size=AT_ONCE))
        async with app.open_async():
            await app.run_worker_async(queues=[QUEUE], concurrency=AT_ONCE, delete_jobs="never")


if __name__ == "__main__":
    main(Procrastinate())
