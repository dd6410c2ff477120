"""`make bench ARGS=under-load`, `beside-long`, `busy` and `fan-in`: submissions amid a drain, short jobs beside long
ones, full threads, and many tenants.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg

from bench.installation import Installation, installation
from bench.line import Line
from bench.rounds import Way, compare, rounds_of
from bench.scenarios import (
    CONNECTIONS,
    DONE_SINCE,
    LOW_LOAD_PER_SECOND,
    SHARING,
    WAITING,
    drained,
    percentiles,
    planted,
    submit,
    when,
)

BACKLOG, SECONDS, MODEST = 100_000, 6, 50
WAITS, PROCESSES, THREADS = 32_000, 2, 8
MANY = 20_000
SHORT, SHORT_PER_LONG = 300, 5
_WAITS_SINCE = """
    SELECT extract(epoch FROM started_at - created_at) FROM jobs WHERE type = 'bench.noop' AND created_at > %s"""
_HANDLERS = "SELECT sum((result #>> '{}')::float) FROM jobs"
_AMID = """
    WITH span AS (
        SELECT min(started_at) + interval '2 seconds' AS first, max(finished_at) - interval '2 seconds' AS last
        FROM jobs
    )
    SELECT sum((result #>> '{}')::float) / extract(epoch FROM last - first)
    FROM jobs, span WHERE finished_at > first AND finished_at <= last GROUP BY first, last"""
"""Handlers at work at a moment, in the mean, two seconds after the first start to two before the last end."""


def under_load(arguments: Sequence[str]) -> None:
    """How long submissions take: 50 a second at rest and amid a drain, and there of 16 connections, always busy."""
    rounds = rounds_of("under-load", arguments)
    with of_its_own() as running:
        ways = {
            f"{MODEST} a second, at rest": Way(SECONDS * MODEST, lambda: _figures(modest(running))),
            f"{MODEST} a second, amid a drain": Way(BACKLOG, lambda: _amid_a_drain(running, modest)),
            f"{CONNECTIONS} connections, amid a drain": Way(BACKLOG, lambda: _amid_a_drain(running, _flood)),
        }
        compare("under-load", ways, rounds)


def _figures(took: Sequence[float]) -> dict[str, float]:
    return {**percentiles("submit", took), "submissions per second": len(took) / SECONDS}


def _amid_a_drain(running: Installation, load: Callable[[Installation], list[float]]) -> dict[str, float]:
    """How long submissions took, and the rate of the drain; raises RuntimeError if the backlog did not last."""
    due_at = planted(running, ["default"], BACKLOG)
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        time.sleep(max(0.0, (due_at - datetime.now(UTC)).total_seconds()) + 1)  # workers have begun by then
        first, began = _done(connection, due_at), time.monotonic()
        took = load(running)
        last, elapsed = _done(connection, due_at), time.monotonic() - began
    if last >= BACKLOG:
        raise RuntimeError(f"{BACKLOG:,} jobs were done before the submissions were. A larger backlog is needed.")
    when(running, DONE_SINCE, lambda rows: rows[0][1] == BACKLOG, due_at, due_at)
    return {**_figures(took), "jobs done per second": (last - first) / elapsed}


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


def fan_in(arguments: Sequence[str]) -> None:
    """The drain of one tenant's jobs, and of 100 tenants'."""
    rounds = rounds_of("fan-in", arguments)
    groups = {"one tenant": ["default"], f"{SHARING} tenants": [f"tenant-{number}" for number in range(SHARING)]}
    with of_its_own() as running:
        drained(running, ["default"])  # finds out how fast workers are
        ways = {
            group: Way(MANY, lambda names=names: {"jobs per second": drained(running, names, MANY)})
            for group, names in groups.items()
        }
        compare("fan-in", ways, rounds)


def beside_long(arguments: Sequence[str]) -> None:
    """How long short jobs wait for their start, at 20 a second: alone, and beside jobs of 1 s.

    Those come on the same queue, four a second, so that half of the 2 x 4 threads are taken by them.
    """
    rounds = rounds_of("beside-long", arguments)
    with of_its_own({"JOBMILL_PROCESSES": "2", "JOBMILL_THREADS": "4"}) as running:
        ways = {
            "alone": Way(SHORT, lambda: _waits(running, beside_long=False)),
            "beside jobs of 1 s": Way(SHORT, lambda: _waits(running, beside_long=True)),
        }
        compare("beside-long", ways, rounds)


def _waits(running: Installation, *, beside_long: bool) -> dict[str, float]:
    """From created_at to started_at, of short jobs; beside long ones each fifth is followed by one of those."""
    line, began = Line(running.port), time.monotonic()
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        (first,) = connection.execute("SELECT now()").fetchone()
    for number in range(SHORT):
        time.sleep(max(0.0, began + number / LOW_LOAD_PER_SECOND - time.monotonic()))
        submit(line, running.token, number, "default")
        if beside_long and number % SHORT_PER_LONG == 0:
            submit(line, running.token, number, "default", "bench.long")
    # The long ones too, or they would be beside the next way's.
    when(running, WAITING, lambda rows: rows[0][0] == 0)
    found = when(running, _WAITS_SINCE, lambda rows: len(rows) == SHORT, first)
    return percentiles("submit to start", [float(row[0]) for row in found])


def _done(connection: psycopg.Connection, due_at: datetime) -> int:
    """How many of those that became due then."""
    return int(connection.execute(DONE_SINCE, [due_at, due_at]).fetchone()[1])


@contextmanager
def of_its_own(settings: dict[str, str] | None = None) -> Iterator[Installation]:
    """A whole installation on the services at hand, with these settings besides the usual ones."""
    urls = os.environ["JOBMILL_TEST_DATABASE_URL"], os.environ["JOBMILL_TEST_RABBITMQ_URL"]
    with installation(*urls, settings=settings or {}) as running:
        yield running


def tell(name: str, value: float) -> None:
    """Print one figure."""
    print(f"{name:<66} {value:>12,.3f}", flush=True)
