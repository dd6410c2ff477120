"""`make bench ARGS=under-load`, `busy` and `fan-in`: submissions amid a drain, full threads, and many tenants."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from statistics import median

import psycopg

from bench.installation import Installation, installation
from bench.line import Line
from bench.scenarios import CONNECTIONS, SHARING, drained, percentile, planted, submit

BACKLOG, SECONDS, MODEST = 80_000, 10, 50
WAITS, PROCESSES, THREADS = 32_000, 2, 8
ROUNDS = 5
_DONE = "SELECT count(*) FROM jobs WHERE queue = 'default' AND state = 'succeeded'"
_HANDLERS = "SELECT sum((result #>> '{}')::float) FROM jobs"
_AMID = """
    WITH span AS (
        SELECT min(started_at) + interval '2 seconds' AS first, max(finished_at) - interval '2 seconds' AS last
        FROM jobs
    )
    SELECT sum((result #>> '{}')::float) / extract(epoch FROM last - first)
    FROM jobs, span WHERE finished_at > first AND finished_at <= last GROUP BY first, last"""
"""Handlers at work at a moment, in the mean, two seconds after the first start to two before the last end."""


def under_load() -> None:
    """The p95 of submissions while a backlog is drained: 16 connections always busy, then 50 a second."""
    with of_its_own() as running:
        for name, load in ((f"{CONNECTIONS} connections, always busy", _flood), (f"{MODEST} a second", modest)):
            took, drain_rate = _amid_a_drain(running, load)
            tell(f"submit p95 ms, {name}", percentile(took, 95) * 1000)
            tell("    submissions a second meanwhile", len(took) / SECONDS)
            tell("    jobs done a second meanwhile (aim 2,000)", drain_rate)


def _amid_a_drain(running: Installation, load: "Callable[[Installation], list[float]]") -> tuple[list[float], float]:
    """How long each submission took, and the rate of the drain; raises if the backlog did not last."""
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        before = _done(connection)
        due_at = planted(running, ["default"], BACKLOG)
        time.sleep(max(0.0, (due_at - datetime.now(UTC)).total_seconds()) + 1)  # workers have begun by then
        first, began = _done(connection), time.monotonic()
        took = load(running)
        last, elapsed = _done(connection), time.monotonic() - began
        if last - before >= BACKLOG:
            raise RuntimeError(f"{BACKLOG:,} jobs were done before the submissions were. A larger backlog is needed.")
        while _done(connection) - before < BACKLOG:
            time.sleep(1)
    return took, (last - first) / elapsed


def _flood(running: Installation) -> list[float]:
    ends = time.monotonic() + SECONDS

    def one_connection(number: int) -> list[float]:
        line, took = Line(running.port), []
        while time.monotonic() < ends:
            took.append(submit(line, running.token, number, "idle"))
        return took

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return [each for found in pool.map(one_connection, range(CONNECTIONS)) for each in found]


def modest(running: Installation) -> list[float]:
    """Each counted from the moment it was planned for, so that a stall is not left out."""
    local, began = threading.local(), time.monotonic()

    def one(number: int) -> float:
        if not hasattr(local, "line"):
            local.line = Line(running.port)
        planned = began + number / MODEST
        time.sleep(max(0.0, planned - time.monotonic()))
        submit(local.line, running.token, number, "idle")
        return time.monotonic() - planned

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(one, range(SECONDS * MODEST)))


def busy() -> None:
    """Which share of 2 x 8 threads' time was spent in handlers of 10 ms, over a drain of 32,000: some 20 seconds."""
    with of_its_own({"JOBMILL_PROCESSES": str(PROCESSES), "JOBMILL_THREADS": str(THREADS)}) as running:
        rate = drained(running, ["default"], WAITS, "bench.wait")
        with psycopg.connect(running.database_url) as connection:
            (handlers,), (amid,) = (connection.execute(question).fetchone() for question in (_HANDLERS, _AMID))
    threads = PROCESSES * THREADS
    tell("jobs of 10 ms a second", rate)
    tell("busy, % of the threads, once all have work (aim 95)", 100 * amid / threads)
    tell("the same from when they were due to the last one's end", 100 * handlers / (threads * WAITS / rate))


def fan_in() -> None:
    """The drain of one tenant's jobs and of 100 tenants', in five rounds of both."""
    groups = {"one tenant's": ["default"], f"{SHARING} tenants'": [f"tenant-{number}" for number in range(SHARING)]}
    found: dict[str, list[float]] = {group: [] for group in groups}
    with of_its_own() as running:
        for _ in range(ROUNDS):
            for group, names in groups.items():
                found[group].append(drained(running, names))
    for group, rates in found.items():
        tell(f"jobs a second, {group} ({min(rates):,.0f} to {max(rates):,.0f})", median(rates))
    one, many = found.values()
    tell("many against one, ratio", median(many) / median(one))


def _done(connection: psycopg.Connection) -> int:
    return int(connection.execute(_DONE).fetchone()[0])


@contextmanager
def of_its_own(settings: dict[str, str] | None = None) -> Iterator[Installation]:
    """A whole installation on the services at hand, with these settings besides the usual ones."""
    urls = os.environ["JOBMILL_TEST_DATABASE_URL"], os.environ["JOBMILL_TEST_RABBITMQ_URL"]
    with installation(*urls, settings=settings or {}) as running:
        yield running


def tell(name: str, value: float) -> None:
    """Print one figure."""
    print(f"{name:<66} {value:>12,.3f}", flush=True)
