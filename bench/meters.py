"""Readings before and after: processor time and wake-ups of processes, commits, statements and WAL of PostgreSQL.

PostgreSQL's and RabbitMQ's processes are found by their names, so all on the machine are counted: measure where nobody
else uses them.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from bench.installation import Installation

SERVICES = {"postgres": "PostgreSQL, all on this machine", "beam.smp": "RabbitMQ, all on this machine"}
_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_LOADED = "SELECT current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%'"
_CALLS = """
    SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""
STATISTICS_LAG = 1.5  # PostgreSQL's backends report at most once a second


@dataclass(frozen=True)
class Spent:
    """What one process, or one kind, has used: processor seconds and voluntary context switches."""

    cpu: float
    wakes: int


@dataclass(frozen=True)
class Reading:
    """One look at everything."""

    at: float
    processes: dict[tuple[str, int], Spent]
    commits: int
    statements: int | None  # None without pg_stat_statements
    wal_bytes: int


def count_statements(running: Installation) -> bool:
    """Whether statements can be counted: where the server has loaded pg_stat_statements."""
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        loaded = bool(connection.execute(_LOADED).fetchone()[0])
        if loaded:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    return loaded


def read(running: Installation, statements: bool) -> Reading:
    """Take a reading; costs two commits or three of its own."""
    time.sleep(STATISTICS_LAG)
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        commits = connection.execute(_COMMITS).fetchone()[0]
        calls = int(connection.execute(_CALLS).fetchone()[0]) if statements else None
        wal = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").fetchone()[0]
    return Reading(time.monotonic(), dict(_processes(running)), commits, calls, wal)


def differences(before: Reading, after: Reading) -> dict[str, Spent]:
    """By name. The processor time of one that ended meanwhile is its parent's; wake-ups are of those that lived on."""
    cpu: dict[str, float] = defaultdict(float)
    wakes: dict[str, int] = defaultdict(int)
    for sign, reading in ((1, after), (-1, before)):
        for (name, pid), spent in reading.processes.items():
            cpu[name] += sign * spent.cpu
            both = (name, pid) in before.processes and (name, pid) in after.processes
            wakes[name] += sign * spent.wakes if both else 0
    return {name: Spent(seconds, wakes[name]) for name, seconds in cpu.items()}


def _processes(running: Installation) -> Iterator[tuple[tuple[str, int], Spent]]:
    for role, parent in running.processes.items():
        yield (role, parent.pid), _spent(parent)
        for child in parent.children(recursive=True):
            yield (f"{role} child", child.pid), _spent(child)
    for process in psutil.process_iter(["name"]):
        if (process.info["name"] or "") in SERVICES:
            with suppress(psutil.NoSuchProcess):
                yield (SERVICES[process.info["name"]], process.pid), _spent(process)


def _spent(process: psutil.Process) -> Spent:
    """Of all its threads, since /proc counts the switches of the first alone; and of its children that have ended."""
    times = process.cpu_times()
    switches = sum(map(_switches, Path(f"/proc/{process.pid}/task").glob("*/status")))
    return Spent(sum((times.user, times.system, times.children_user, times.children_system)), switches)


def _switches(thread: Path) -> int:
    with suppress(OSError):  # it may have ended
        return next(
            int(line.split()[1])
            for line in thread.read_text().splitlines()
            if line.startswith("voluntary_ctxt_switches")
        )
    return 0
