"""A long run under a steady load, with a fault a minute, and at its end what grew meanwhile: `make soak HOURS=8`.

Services are private ones of the run. It exits with 1 when anything grows faster than BOUNDS allow, or an invariant does
not hold; what it measured is printed, as a table and as JSON.
"""

import argparse
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil

from tests.acceptance.installation import Full
from tests.acceptance.ledger import Ledger
from tests.acceptance.private_services import PrivatePostgresql, PrivateRabbitmq, PrivateService
from tests.conftest import REDIS_URL
from tests.faults.conftest import PAYMENTS, fault_settings
from tests.faults.crashing import family
from tests.faults.evidence import Evidence, usage
from tests.faults.health import HealthWatch, Outage
from tests.faults.invariants import judge
from tests.faults.load import Load
from tests.faults.mixture import mixed
from tests.faults.supervisor import Supervisor, doubled, members
from tests.faults.trends import HOUR, Held, Point, Sampler, by_minute, longest_life, percentiles, slope

FAULT_SECONDS = 60.0
WARM_SECONDS = 120.0
CALM_AFTER_SECONDS = 30.0
"""So long after a fault's end everything may take longer than otherwise."""
FROZEN_SECONDS = 25.0
"""Longer than a heartbeat may be late."""
AWAY_SECONDS = 8.0
FEWEST_A_MINUTE = 100

BOUNDS = {
    "memory, MB": 30.0,
    "descriptors": 10.0,
    "PostgreSQL, together": math.inf,  # of processes that come and go; each one's own is judged
    "connections to": 10.0,
    "load of the machine": math.inf,  # what else it has to do: latencies rise with that, whoever causes it
    "dead rows for each live one": 0.5,
    "bytes a row, table": 200.0,
    "bytes a row, indexes": 200.0,
    "other tables: dead rows": 500.0,
    "other tables: size, MB": 5.0,
    "submit, ms": 50.0,
    "submit to start, ms": 100.0,
}
"""How much each may grow in an hour, by a part of its name."""
FILLS = {"memory, MB": 8.0, "descriptors": 16.0, "connections to": 16.0}
"""How much may be pools and caches that fill: a slope that comes to no more in the longest life is none yet."""


Fault = Callable[["Soak"], None]
TIMETABLE: dict[str, Fault] = {
    "a worker's child killed": lambda soak: soak.kill("worker's child"),
    "RabbitMQ restarted": lambda soak: soak.restart("rabbitmq"),
    "a dispatcher killed": lambda soak: soak.kill("dispatcher"),
    "a worker frozen": lambda soak: soak.freeze(),
    "an API process killed": lambda soak: soak.kill("API process"),
    "PostgreSQL restarted": lambda soak: soak.restart("database"),
    "a worker's parent killed": lambda soak: soak.kill("worker's parent"),
    "the API server killed": lambda soak: soak.kill("API server"),
}
"""One after the other, and from the beginning again."""
ENDS_ALL_LIVES = "the API server killed"
"""Its processes go with it. Left out in the second half, in which the older of each role are spared."""


@dataclass(frozen=True)
class Happened:
    """A fault, from one moment of `time.monotonic` to another."""

    what: str
    since: float
    until: float


@dataclass
class Soak:
    """The run: an installation, what watches over it, and what has happened to it."""

    installation: Full
    services: dict[str, PrivateService]
    supervisor: Supervisor
    choose: random.Random
    happened: list[Happened] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    spares_the_old: bool = False

    def follow_timetable(self, until: float) -> None:
        """A fault at the beginning of each interval, and none so late that its traces would be those of the end.

        In the second half the older of each role live on, so that there are lives long enough to have a slope.
        """
        half = (time.monotonic() + until) / 2
        for what, fault in cycle(TIMETABLE.items()):
            began = time.monotonic()
            if began > until - FAULT_SECONDS:
                break
            self.spares_the_old = began > half
            if self.spares_the_old and what == ENDS_ALL_LIVES:
                continue
            fault(self)
            self.happened.append(Happened(what, began, time.monotonic()))
            say(f"{what}, for {time.monotonic() - began:.1f} s")
            time.sleep(max(0.0, began + FAULT_SECONDS - time.monotonic()))
        time.sleep(max(0.0, until - time.monotonic()))

    def kill(self, role: str) -> None:
        """Kill -9 to one process of a role."""
        living = [psutil.Process(pid) for kind, pid in members(self.installation) if kind == role]
        if self.spares_the_old:
            living = [max(living, key=lambda process: process.create_time())]
        self.supervisor.kill(self.choose.choice(living).pid)

    def freeze(self) -> None:
        """A whole worker stands still for longer than its heartbeat may be late."""
        name = self.choose.choice(["worker", "second worker"])
        with self.supervisor.frozen(family(self.installation.processes[name])):
            time.sleep(FROZEN_SECONDS)

    def restart(self, service: str) -> None:
        """A service is stopped, and started again a little later."""
        self.outages.append(self.supervisor.restart(service, self.services[service], AWAY_SECONDS))

    def is_calm(self, at: float) -> bool:
        """Whether no fault is near."""
        return not any(one.since - 5 < at < one.until + CALM_AFTER_SECONDS for one in self.happened)


def say(what: str) -> None:
    """A line of the report, or of what goes on."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def patiently(condition: Callable[[], Any], within_seconds: float = 10, every_seconds: float = 0.02) -> Any:
    """The first true answer of the condition, or a failure."""
    deadline = time.monotonic() + within_seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_seconds} s: {condition!r}")
        time.sleep(every_seconds)
    return answer


@contextmanager
def running(choose: random.Random) -> Iterator[Soak]:
    """Two of each process, over services of their own."""
    with ExitStack() as stack:
        services: dict[str, PrivateService] = {
            "database": PrivatePostgresql(patiently),
            "rabbitmq": PrivateRabbitmq(patiently),
        }
        for service in services.values():
            stack.callback(service.remove)
            service.start()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobmill_soak_")))
        settings = {
            "DATABASE_URL": services["database"].url,
            "RABBITMQ_URL": services["rabbitmq"].url,
            "REDIS_URL": REDIS_URL,
            "JOBMILL_API_PROCESSES": "2",
        }
        installation = stack.enter_context(Full(folder, patiently, fault_settings() | settings))
        installation.sql(PAYMENTS)
        doubled(installation)
        yield Soak(installation, services, Supervisor(installation), choose)


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    known: Evidence
    complaints: list[str]
    load: Load
    series: dict[str, list[Point]]
    held: list[Held]


def soaked(soak: Soak, ledger: Ledger, hours: float, rate: float) -> Outcome:
    """The run itself, and the check of every invariant after it."""
    ends = time.monotonic() + hours * HOUR
    with HealthWatch(soak.installation.address) as watch, Sampler(soak.installation) as sampler:
        with mixed(soak.installation, ledger, rate=rate, threads=16) as load:
            time.sleep(WARM_SECONDS)
            soak.installation.at_rest = usage(soak.installation)
            with soak.supervisor:
                soak.follow_timetable(ends)
        known, complaints = judge(
            soak.installation,
            ledger,
            load.accepted,
            watch=watch,
            outages=soak.outages,
            supervisor=soak.supervisor,
        )
    return Outcome(known, complaints, load, sampler.series, list(sampler.held.values()))


def latencies(soak: Soak, known: Evidence, load: Load) -> dict[str, list[Point]]:
    """p50 and p99 of each minute, of the submissions that no fault was near."""
    calm = [one for one in load.answered if soak.is_calm(one.sent_at)]
    submit = {one.sent_at: 1000 * one.after for one in calm}
    begun = [(one.sent_at, known.ledger("start", one.job_id)) for one in calm]
    start = {sent_at: 1000 * (starts[0].at - sent_at) for sent_at, starts in begun if starts}
    return {
        f"{name}, ms, {which}": by_minute(samples, lambda values, n=n: percentiles(values)[n], FEWEST_A_MINUTE)
        for name, samples in (("submit", submit), ("submit to start", start))
        for n, which in enumerate(("p50", "p99"))
    }


@dataclass(frozen=True)
class Trend:
    """What something was like, how much it grew in an hour, and how much it may."""

    name: str
    first: float
    last: float
    most: float
    per_hour: float | None
    bound: float
    hours: float  # of the longest life
    fills: float

    @property
    def within(self) -> bool:
        """Whether it grows no faster than it may."""
        return self.per_hour is None or self.per_hour <= self.bound or self.per_hour * self.hours <= self.fills


def trends(series: dict[str, list[Point]]) -> list[Trend]:
    """Of all that was measured."""
    return [
        Trend(
            name,
            points[0].value,
            points[-1].value,
            max(point.value for point in points),
            slope(points, WARM_SECONDS),
            next(bound for part, bound in BOUNDS.items() if part in name),
            longest_life(points) / HOUR,
            next((fills for part, fills in FILLS.items() if part in name), 0.0),
        )
        for name, points in sorted(series.items())
        if points
    ]


def table(found: Sequence[Trend]) -> str:
    """For people, in Markdown."""
    lines = [
        "| what | first | last | most | longest life, hours | slope an hour | may be |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        grew = "too short" if one.per_hour is None else f"{one.per_hour:+.3g}"
        figures = " | ".join(f"{value:.4g}" for value in (one.first, one.last, one.most))
        figures += f" | {one.hours:.2f}"
        lines.append(f"| {one.name} | {figures} | {grew}{'' if one.within else ' **too much**'} | {one.bound:g} |")
    return "\n".join(lines)


def longest_lives(held: Sequence[Held]) -> dict[str, str]:
    """Of each role the process that was seen longest, and what its descriptors were: a leak is one kind's."""
    longest = {one.role: one for one in sorted(held, key=lambda one: one.seconds)}
    return {role: one.told(WARM_SECONDS) for role, one in sorted(longest.items())}


def main() -> int:
    """Parse, run, report; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--rate", type=float, default=20.0, help="jobs a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--json", type=Path, help="where to write what was measured")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(os.EX_TEMPFAIL))  # what was started is ended on the way out
    say(f"{given.hours:g} hours at {given.rate:g} jobs a second, seed {given.seed}")
    with running(random.Random(given.seed)) as soak:  # noqa: S311 - it need not be secret
        ledger = Ledger(soak.installation.folder)
        outcome = soaked(soak, ledger, given.hours, given.rate)
        found = trends(outcome.series | latencies(soak, outcome.known, outcome.load))
        return report(soak, outcome, found, given.json)


def report(soak: Soak, outcome: Outcome, found: list[Trend], file: Path | None) -> int:
    """Print it all; gives the exit code."""
    document = {
        "jobs": outcome.load.report(),
        "complaints": outcome.complaints,
        "faults": Counter(one.what for one in soak.happened),
        "descriptors": longest_lives(outcome.held),
        "trends": [
            asdict(one) | {"within": one.within, "bound": one.bound if math.isfinite(one.bound) else None}
            for one in found
        ],
    }
    say("\n".join([table(found), *outcome.complaints]))
    say("Descriptors by kind, in the longest life of each role: settled, most, last")
    say("\n".join(longest_lives(outcome.held).values()))
    say(json.dumps(document))
    if file:
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if all(one.within for one in found) and not outcome.complaints else 1


if __name__ == "__main__":
    sys.exit(main())
