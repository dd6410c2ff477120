"""`make bench ARGS=under-load`, `beside-long`, `busy` and `fan-in`: submissions amid a drain, short jobs beside long
ones, full threads, and many tenants.
"""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg

from bench.installation import Installation, of_its_own
from bench.line import Line
from bench.rounds import Way, prepare, tell
from bench.scenarios import (
    CONNECTIONS,
    DONE_SINCE,
    LOW_LOAD_PER_SECOND,
    SHARING,
    WAITING,
    drained,
    evenly,
    paced,
    percentiles,
    planted,
    submit,
    tidy,
    when,
)

BACKLOG, SECONDS, MODEST = 100_000, 6, 50
WAITS, PROCESSES, THREADS = 32_000, 2, 8
MANY = 20_000
SHORT, SHORT_SECONDS, MEETING_PER_SECOND = 300, 300 / LOW_LOAD_PER_SECOND, 2
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
    benchmark = prepare("under-load", arguments)
    paced_ones, of_a_flood = f"{SECONDS * MODEST} submissions", f"{SECONDS} s of submissions"
    with of_its_own() as running:
        ways = {
            f"{MODEST} a second, at rest": Way(paced_ones, lambda: _submitted(running, modest)),
            f"{MODEST} a second, amid a drain": Way(paced_ones, lambda: _amid_a_drain(running, modest)),
            f"{CONNECTIONS} connections, amid a drain": Way(of_a_flood, lambda: _amid_a_drain(running, _flood)),
        }
        benchmark.compare(ways, "submit p95 ms", "submit p50 ms", "submit p99 ms", before=lambda: tidy(running))


def _submitted(running: Installation, load: Callable[[Installation], list[float]]) -> dict[str, float]:
    began = time.monotonic()
    took = load(running)
    return {**percentiles("submit", took), "submissions per second": len(took) / (time.monotonic() - began)}


def _amid_a_drain(running: Installation, load: Callable[[Installation], list[float]]) -> dict[str, float]:
    """How long submissions took, and the rate of the drain; raises RuntimeError if the backlog did not last."""
    due_at = planted(running, ["default"], BACKLOG)
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        time.sleep(max(0.0, (due_at - datetime.now(UTC)).total_seconds()) + 1)  # workers have begun by then
        first, began = _done(connection, due_at), time.monotonic()
        found = _submitted(running, load)
        last, elapsed = _done(connection, due_at), time.monotonic() - began
    if last >= BACKLOG:
        raise RuntimeError(f"{BACKLOG:,} jobs were done before the submissions were. A larger backlog is needed.")
    when(running, DONE_SINCE, lambda rows: rows[0][1] == BACKLOG, due_at, due_at)
    return {**found, "jobs done per second": (last - first) / elapsed}


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
    """How long each of 50 submissions a second took, to a queue that nobody serves."""
    return paced(running, evenly(SECONDS * MODEST, MODEST), "idle")


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
    benchmark = prepare("fan-in", arguments)
    groups = {"one tenant": ["default"], f"{SHARING} tenants": [f"tenant-{number}" for number in range(SHARING)]}
    with of_its_own() as running:
        ways = {
            group: Way(f"{MANY:,} jobs", lambda names=names: {"jobs per second": drained(running, names, MANY)})
            for group, names in groups.items()
        }
        benchmark.compare(ways, "jobs per second", before=lambda: tidy(running))


def beside_long(arguments: Sequence[str]) -> None:
    """How long short jobs wait for their start, at 20 a second: alone, and beside jobs of 1 s on the same queue.

    Of those as many a second as take a half, or three quarters, of the 2 x 4 threads.
    """
    benchmark = prepare("beside-long", arguments)
    with of_its_own({"JOBMILL_PROCESSES": "2", "JOBMILL_THREADS": "4"}) as running:
        ways = {
            name: Way(f"{SHORT} short jobs", lambda long_ones=long_ones: _waits(running, long_ones))
            for name, long_ones in (("alone", 0), ("half the threads taken", 4), ("three quarters taken", 6))
        }
        benchmark.compare(
            ways,
            *(f"submit to start p{percent} ms" for percent in (99, 50, 95)),
            before=lambda: tidy(running),
        )


def _waits(running: Installation, long_per_second: int) -> dict[str, float]:
    """From created_at to started_at, of short jobs."""
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        (first,) = connection.execute("SELECT now()").fetchone()
    long_ones = evenly(int(SHORT_SECONDS * long_per_second), max(1, long_per_second), "bench.long")
    paced(running, sorted([*_short_ones(), *long_ones]), "default")
    # The long ones too, or they would be beside the next way's.
    when(running, WAITING, lambda rows: rows[0][0] == 0)
    found = when(running, _WAITS_SINCE, lambda rows: len(rows) == SHORT, first)
    return percentiles("submit to start", [float(row[0]) for row in found])


def _short_ones() -> list[tuple[float, str]]:
    """Their moments, the same in each run: some come together with long ones, which they may share a message with."""
    meeting = evenly(int(SHORT_SECONDS * MEETING_PER_SECOND), MEETING_PER_SECOND)
    chance = random.Random(20)  # noqa: S311 - no secret
    return meeting + [(chance.uniform(0, SHORT_SECONDS), "bench.noop") for _ in range(SHORT - len(meeting))]


def _done(connection: psycopg.Connection, due_at: datetime) -> int:
    """How many of those that became due then."""
    return int(connection.execute(DONE_SINCE, [due_at, due_at]).fetchone()[1])
