"""`make bench ARGS=prune`: submissions while a million old jobs go. `ARGS=churn`: two million through the tables.

A churn is what a busy day does to the tables, within minutes: batches over HTTP, a drain, and retention of some
seconds, all at once. What it tells at each tenth is what PostgreSQL's own vacuum has left: where sizes settle, a year
costs what a day costs.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg

from bench.growth import FINISHED_LONG_AGO, fill
from bench.installation import Installation, of_its_own
from bench.line import Line
from bench.load import modest
from bench.rounds import tell
from bench.scenarios import BATCH, WAITING, percentile, post, when

PRUNED = 1_000_000
SETTLING = 5
CHURNED, TENTHS = 2_000_000, 10
MOST_WAITING = 20_000
KEPT_DAYS = "0.0005"
SENDERS = 2
PATIENCE = 180.0

_LEFT = "SELECT count(*) FROM jobs WHERE state = 'succeeded' AND finished_at < now() - interval '1 day'"
_SIZES = """
    SELECT pg_table_size('jobs') / 1048576.0, pg_indexes_size('jobs') / 1048576.0, n_live_tup, n_dead_tup,
        autovacuum_count
    FROM pg_stat_user_tables WHERE relname = 'jobs'"""


def prune() -> None:
    """The p95 of 50 submissions a second, before, while a million jobs are deleted, and how long that takes."""
    with of_its_own() as running:
        _tell_submissions("with nothing to delete", modest(running))
        fill(running, {FINISHED_LONG_AGO: PRUNED})
        when(running, _LEFT, lambda rows: rows[0][0] < PRUNED)
        time.sleep(SETTLING)
        began, left = time.monotonic(), _count(running, _LEFT)
        took = modest(running)
        gone = left - _count(running, _LEFT)
        _tell_submissions(f"while {gone:,} are deleted", took)
        tell("jobs deleted a second", gone / (time.monotonic() - began))


def churn() -> None:
    """Two million jobs submitted, done and deleted; at each tenth the rate, and what the table looks like."""
    print("jobs a second; MB of table and of its indexes; live and dead rows, vacuums")
    with of_its_own({"JOBMILL_RETAIN_SUCCEEDED_DAYS": KEPT_DAYS}) as running:
        for tenth in range(1, TENTHS + 1):
            began = time.monotonic()
            _through(running, CHURNED // TENTHS)
            took = time.monotonic() - began
            table, indexes, live, dead, vacuums = _row(running, _SIZES)
            print(
                f"{tenth * CHURNED // TENTHS:>10,}  {CHURNED / TENTHS / took:>6,.0f}/s  {table:>7,.0f} {indexes:>7,.0f}"
                f"  {live:>9,} {dead:>9,} {vacuums:>3}",
                flush=True,
            )


def _through(running: Installation, count: int) -> None:
    """So many jobs, in batches, never many more at once than workers keep up with; returns when all are done."""
    body = json.dumps({"jobs": [{"type": "bench.noop"}] * BATCH})
    batches = iter(range(count // BATCH))
    deadline = time.monotonic() + PATIENCE

    def send() -> None:
        for _ in batches:
            while _count(running, WAITING) > MOST_WAITING:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"Workers did not keep up within {PATIENCE} s.")
                time.sleep(0.05)
            post(Line(running.port), running.token, "/v1/jobs/batch", body)

    with ThreadPoolExecutor(SENDERS) as senders:
        for sent in [senders.submit(send) for _ in range(SENDERS)]:
            sent.result()
    when(running, WAITING, lambda rows: rows[0][0] == 0)


def _tell_submissions(where: str, took: list[float]) -> None:
    for percent in (50, 95, 99):
        tell(f"submit p{percent} ms, {where}", percentile(took, percent) * 1000)


def _count(running: Installation, question: str) -> int:
    return int(_row(running, question)[0])


def _row(running: Installation, question: str) -> tuple:
    with psycopg.connect(running.database_url) as connection:
        return connection.execute(question).fetchone()
