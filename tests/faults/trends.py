"""What a long run measures over and over, and which way it goes: least squares, per hour."""

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, quantiles
from types import TracebackType
from typing import Self

import psutil
import psycopg

from tests.acceptance.installation import Installation
from tests.faults.evidence import ports, usage
from tests.faults.supervisor import members

HOUR = 3600.0
EVERY_SECONDS = 10.0
MEGABYTE = 1024 * 1024
TABLES = """
SELECT relname, n_dead_tup, n_live_tup, pg_table_size(relid), pg_indexes_size(relid) FROM pg_stat_user_tables
"""
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'jobmill %'"
SERVICES = {"DATABASE_URL": "PostgreSQL", "RABBITMQ_URL": "RabbitMQ", "REDIS_URL": "Redis"}
KINDS = {"socket", "pipe", "anon_inode"}
GROWING = {"jobs", "job_events"}
"""Tables that keep the past: theirs is what a row takes, of the others the whole."""


@dataclass(frozen=True)
class Point:
    """One look: `life` is the process it was taken from, or nothing where there is only one."""

    at: float
    value: float
    life: str = ""


@dataclass
class Held:
    """What one process's descriptors were, by kind, at each look."""

    role: str
    looks: list[tuple[float, Counter[str]]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it was seen."""
        return self.looks[-1][0] - self.looks[0][0]

    def told(self, settled_after: float) -> str:
        """Of each kind: how many there were once it had settled, at most, and at the end."""
        settled = next(kinds for at, kinds in self.looks if at - self.looks[0][0] >= min(settled_after, self.seconds))
        last = self.looks[-1][1]
        most = {kind: max(kinds[kind] for _, kinds in self.looks) for kind in sorted(settled | last)}
        figures = ", ".join(f"{kind} {settled[kind]} {most[kind]} {last[kind]}" for kind in most)
        return f"{self.role}, {self.seconds:.0f} s: {figures}"


def slope(points: Sequence[Point], settled_after: float) -> float | None:
    """The least-squares slope per hour, of all lives together, each around its own mean: a restart is no fall.

    What a life showed in its first seconds is left out, for it was still filling its pools.
    """
    above = below = 0.0
    for life in lives(points):
        settled = [point for point in life if point.at - life[0].at >= settled_after]
        if len(settled) < 2:
            continue
        at, value = fmean(point.at for point in settled), fmean(point.value for point in settled)
        above += sum((point.at - at) * (point.value - value) for point in settled)
        below += sum((point.at - at) ** 2 for point in settled)
    return above / below * HOUR if below else None


def lives(points: Sequence[Point]) -> list[list[Point]]:
    """The points of each life."""
    found: defaultdict[str, list[Point]] = defaultdict(list)
    for point in points:
        found[point.life].append(point)
    return list(found.values())


def longest_life(points: Sequence[Point]) -> float:
    """In seconds."""
    return max((life[-1].at - life[0].at for life in lives(points)), default=0.0)


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]


def descriptors(installation: Installation, process: psutil.Process) -> Counter[str]:
    """What a process's descriptors are: connections to a service, other sockets, pipes, files, and so on."""
    services = {port: name for name in SERVICES for port in ports(installation, name)}
    remote = {link.fd: link.raddr.port for link in process.net_connections("tcp") if link.raddr}
    found: Counter[str] = Counter()
    for one in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            kind = str(one.readlink()).split(":")[0]
            port = remote.get(int(one.name))
            found[SERVICES.get(services.get(port, ""), kind if kind in KINDS else "file")] += 1  # type: ignore[arg-type]
    return found


class Sampler:
    """Looks every few seconds while the block lasts; `series` has what it saw, by name, and `held` by process."""

    def __init__(self, installation: Installation) -> None:
        self.series: dict[str, list[Point]] = {}
        self.held: dict[str, Held] = {}
        self._installation = installation
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            for look in (self._processes, self._connections, self._tables):
                with suppress(psutil.Error, psycopg.Error):  # what has just been struck is looked at next time
                    look(time.monotonic())

    def _note(self, name: str, at: float, value: float, life: object = "") -> None:
        self.series.setdefault(name, []).append(Point(at, value, str(life)))

    def _processes(self, at: float) -> None:
        for role, pid in members(self._installation):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                life = f"{pid} {process.create_time()}"
                self._note(f"{role}: memory, MB", at, process.memory_info().rss / MEGABYTE, life)
                kinds = descriptors(self._installation, process)
                self._note(f"{role}: descriptors", at, kinds.total(), life)
                self._note(f"{role}: connections to PostgreSQL", at, kinds["PostgreSQL"], life)
                self.held.setdefault(life, Held(role)).looks.append((at, kinds))

    def _connections(self, at: float) -> None:
        self._note("connections to RabbitMQ", at, sum(one.amqp for one in usage(self._installation).values()))
        self._note("connections to PostgreSQL, together", at, self._installation.sql(CONNECTIONS)[0][0])
        self._note("load of the machine", at, os.getloadavg()[0])

    def _tables(self, at: float) -> None:
        rest = [0, 0]
        for name, dead, live, table, indexes in self._installation.sql(TABLES):
            if name in GROWING and live:
                self._note(f"{name}: dead rows for each live one", at, dead / live)
                self._note(f"{name}: bytes a row, table", at, table / live)
                self._note(f"{name}: bytes a row, indexes", at, indexes / live)
            elif name not in GROWING:
                rest = [rest[0] + dead, rest[1] + table + indexes]
        self._note("other tables: dead rows", at, rest[0])
        self._note("other tables: size, MB", at, rest[1] / MEGABYTE)


def by_minute(samples: Mapping[float, float], of: Callable[[Sequence[float]], float], fewest: int) -> list[Point]:
    """One point a minute, where there are samples enough: what the function makes of them."""
    minutes: defaultdict[int, list[float]] = defaultdict(list)
    for at, value in samples.items():
        minutes[int(at // 60)].append(value)
    return [Point(60.0 * minute, of(values)) for minute, values in sorted(minutes.items()) if len(values) >= fewest]
