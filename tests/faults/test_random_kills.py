"""Every process is killed (-9), over and over and at random, under a load that goes on; and nothing comes of it.

The seed is printed, and JOBMILL_TEST_SEED gives it. The kills are then the same; what they hit is up to the machine.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import inf
from random import Random
from typing import Any
from uuid import UUID

import psutil
import psycopg
import pytest

from tests.acceptance.installation import FINAL, Full, Installation
from tests.acceptance.ledger import Entry, Ledger
from tests.acceptance.private_services import PrivatePostgresql, PrivateRabbitmq
from tests.faults.chance import chance
from tests.faults.conftest import Install
from tests.faults.evidence import Evidence, unfinished, usage
from tests.faults.figures import keep
from tests.faults.health import HEALTH_LAG_SECONDS, HealthWatch, Outage
from tests.faults.invariants import RECOVERY_SECONDS, check
from tests.faults.load import Load
from tests.faults.mixture import TOLD_OF, mixed
from tests.faults.receiving import receiving
from tests.faults.supervisor import Supervisor, doubled, members

pytestmark = pytest.mark.timed

FAULT = "killed-at-random"
PARENT, CHILD = "worker's parent", "worker's child"
VICTIMS = ("API server", "API process", "dispatcher", PARENT, CHILD)
CLIENTS = 16
RATE = 100
SIZES = (1, 1, 1, 1, 1, 14)
"""Jobs of a request: five come alone, then a batch. Their sum has no divisor in common with the number of kinds of
jobs, nor with how many have somebody told, so that each sort comes in each way."""
PAUSES = (0.5, 3.0)
VICTIM_WITHIN = 90
AIMED_FOR = 10.0
IN_FLIGHT_SECONDS = 0.05
WARM_SECONDS = 5.0
AWAY_SECONDS = 5.0
BEFORE_SECONDS = 12.0
STEADY_SECONDS, AFTERWARDS_SECONDS = 5.0, 10.0
QUEUED_WITHIN = 2.0
"""From a kill until the parent has queued the job again. Where the parent was killed too, as with its whole machine,
the dispatcher does it once the heartbeat has stopped, and RECOVERY_SECONDS are all the time there is."""


@dataclass(frozen=True)
class Kill:
    """Which process, of what role, when, and whose end that is: its children's as well, where it was their parent."""

    at: float
    pid: int
    role: str
    ended: frozenset[int]


class Killer:
    """Kills one process after the other, of each role in turn and in a random order, at random moments.

    Every other child of a worker is hit while it runs a job, if one does within AIMED_FOR seconds, so that luck does
    not decide if any run is lost.
    """

    def __init__(self, supervisor: Supervisor, random: Random) -> None:
        self.supervisor = supervisor
        self.kills: list[Kill] = []
        self.of: Counter[str] = Counter()
        self._random = random
        self._choices = Random(random.random())  # noqa: S311 - apart, for how many it takes is up to the machine

    def kill_for(self, seconds: float) -> None:
        """Kill for so long, and until each role has had its turn."""
        over = time.monotonic() + seconds
        for role in self._roles():
            time.sleep(self._random.uniform(*PAUSES))
            if time.monotonic() > over and self.of.keys() == set(VICTIMS):
                break
            self._kill(role)

    def _roles(self) -> Iterator[str]:
        while True:
            yield from self._random.sample(VICTIMS, len(VICTIMS))

    def _kill(self, role: str) -> None:
        # All of them may just be starting, or the one that was chosen just be ending with its parent; and while a
        # service is away, whose own start takes a minute beside other work, there may be none to kill.
        aims = role == CHILD and self.of[role] % 2 == 0
        until = time.monotonic() + AIMED_FOR * aims
        self.kills.append(self.supervisor.installation.eventually(lambda: self._killed(role, until), VICTIM_WITHIN))
        self.of[role] += 1

    def _killed(self, role: str, aimed_until: float) -> Kill | None:
        living = [pid for kind, pid in members(self.supervisor.installation) if kind == role]
        if not living:
            return None
        pid = self._choices.choice(living)
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            children = {child.pid for child in psutil.Process(pid).children()} if role == PARENT else set()
            if time.monotonic() < aimed_until and not self._caught_at_work(pid):
                return None
            if self.supervisor.kill(pid):
                return Kill(self.supervisor.struck[pid], pid, role, frozenset({pid} | children))
        return None

    def _caught_at_work(self, pid: int) -> bool:
        """Hold a process still; it goes on unless it runs a job, which cannot end before the kill then."""
        os.kill(pid, signal.SIGSTOP)
        busy = False
        try:
            time.sleep(IN_FLIGHT_SECONDS)  # what it had sent before is done then
            busy = self._runs_a_job(pid)
        finally:
            if not busy:
                os.kill(pid, signal.SIGCONT)
        return busy

    def _runs_a_job(self, pid: int) -> bool:
        # Of an earlier process of that id nothing runs: its jobs were taken from it.
        running = f"SELECT 1 FROM jobs JOIN workers ON workers.id = worker_id WHERE state = 'running' AND pid = {pid}"  # noqa: S608
        with suppress(psycopg.OperationalError):  # the database may be away
            return bool(self.supervisor.installation.sql(running))
        return False


@dataclass(frozen=True)
class Recovery:
    """Of a job whose run was lost in a kill: seconds until it was queued again, and until it ran again.

    They count from the kill, or from when a service that was away meanwhile was back.
    """

    by_parent: bool
    queued: float
    again: float


@dataclass(frozen=True)
class Story:
    """How it went, in figures."""

    submitted: int
    accepted: int
    started: int  # runs, the first and all others
    retried: int  # runs that a handler's failure asked for
    repeated: int  # runs again, since the one before was lost
    lost: int  # accepted, and without a final state
    doubled: int  # jobs with more than one effect
    kills: int
    rate: float  # accepted jobs a second
    rest: float  # seconds from the end of submissions until the backlog was worked off
    back: float  # seconds from the last kill until jobs were started at 95 % of the rate at which they are submitted
    longest_pause: float  # seconds between two starts, of whatever jobs
    slowest_start: float  # seconds from a kill to the next start of any job
    meanwhile: str  # what happened from a little before that pause until its end
    queued_again: float  # seconds from a kill until the parent had queued a job of the killed process again, at most
    slowest_recovery: float  # seconds from that kill until such a job ran again
    slowest_recovery_without_parent: float  # the same, where the parent was killed as well


KEPT = {
    "accepted": ("jobs accepted", ""),
    "rate": ("a second", "jobs"),
    "kills": ("processes killed", ""),
    "lost": ("jobs lost", ""),
    "doubled": ("jobs with two effects", ""),
    "repeated": ("runs that a kill cost", ""),
    "queued_again": ("queued again by the parent after", "s"),
    "slowest_recovery": ("running again after", "s"),
    "rest": ("backlog gone after", "s"),
    "back": ("95 % of the rate after", "s"),
}
"""What of a story is kept, under which words and in which unit."""


def show(story: Story, of: Counter[str]) -> None:
    """Print the report of a run, and keep its figures."""
    for name, value in asdict(story).items():
        print(f"{name}: {value}")  # noqa: T201
        if name in KEPT:
            what, unit = KEPT[name]
            keep(FAULT, what, value, unit)
    print(dict(of))  # noqa: T201 - how many of each were killed


def back_after(moments: Sequence[float], spared_at: float, rate: float) -> float:
    """How long it took until jobs were started as fast as they were submitted, for some seconds; inf if never."""
    after = [at for at in moments if at > spared_at]
    enough = int(0.95 * rate * STEADY_SECONDS)
    steady = (at for at, later in zip(after, after[enough:], strict=False) if later - at <= STEADY_SECONDS)
    return next(steady, inf) - spared_at


def await_pace(ledger: Ledger, load: Load, spared_at: float) -> None:
    """Let the load go on until its pace is back, for as long as that may take."""
    over = spared_at + RECOVERY_SECONDS + STEADY_SECONDS
    while time.monotonic() < over:
        if back_after(sorted(entry.at for entry in ledger.starts()), spared_at, rate_of(load)) < inf:
            break
        time.sleep(1)


def rate_of(load: Load) -> float:
    """Accepted jobs a second."""
    return len(load.accepted) / (load.answered[-1].sent_at - load.answered[0].sent_at)


def told(known: Evidence, load: Load, killer: Killer, spared_at: float) -> Story:
    """The story of a run, from what was seen of it."""
    starts = sorted((entry for entry in known.entries if entry.event == "start"), key=lambda entry: entry.at)
    moments = [entry.at for entry in starts]
    again = len(starts) - len({entry.job_id for entry in starts})
    retried = sum(event.move == "retry" for event in known.events)
    pause, since = max((after - before, before) for before, after in pairwise(moments))
    recovered = list(recoveries(starts, known, killer))
    rate = rate_of(load)
    return Story(
        submitted=load.submitted,
        accepted=len(load.accepted),
        started=len(starts),
        retried=retried,
        repeated=again - retried,
        lost=sum(job_id not in known.rows or known.rows[job_id].state not in FINAL for job_id in known.submitted),
        doubled=sum(_effects(known, job_id) > 1 for job_id in known.submitted),
        kills=len(killer.kills),
        rate=rate,
        back=back_after(moments, spared_at, rate),
        rest=known.settled_after or 0.0,
        longest_pause=pause,
        meanwhile=_around(killer, since, since + pause),
        slowest_start=max(next((at for at in moments if at > kill.at), inf) - kill.at for kill in killer.kills),
        queued_again=max(one.queued for one in recovered if one.by_parent),  # none: no kill was worth the name
        slowest_recovery=max(one.again for one in recovered if one.by_parent),
        slowest_recovery_without_parent=max((one.again for one in recovered if not one.by_parent), default=0.0),
    )


def _around(killer: Killer, since: float, until: float) -> str:
    happened = [(kill.at, f"{kill.role} killed") for kill in killer.kills]
    for outage in killer.supervisor.outages:
        happened += [(outage.since, f"{outage.dependency} stops"), (outage.until, f"{outage.dependency} is back")]
    near = [(at, what) for at, what in sorted(happened) if since - BEFORE_SECONDS < at < until]
    return ", ".join(f"{at - since:+.1f} s {what}" for at, what in near)


def _effects(known: Evidence, job_id: str) -> int:
    """How many ends of handlers were recorded: those under the lease of the result, or what they wrote themselves."""
    recorded = [entry for entry in known.ledger("end", job_id) if entry.lease == known.rows[job_id].lease]
    return max(len(recorded), len(known.paid(job_id)))


def recoveries(starts: Sequence[Entry], known: Evidence, killer: Killer) -> Iterator[Recovery]:
    """One for each run that was lost in a kill. A parent that lives until then is who has to queue its job again."""
    rescues = {(event.job_id, event.lease): event for event in known.events if event.move == "rescue"}
    behind = time.time() - time.monotonic()  # the database's clock is this machine's
    for start in starts:
        rescue = rescues.get((start.job_id, start.lease))
        hits = [kill for kill in killer.kills if start.pid in kill.ended]
        if rescue is not None and hits:
            since = hits[0].at
            queued = rescue.at.timestamp() - behind
            again = min((entry.at for entry in known.ledger("start", start.job_id) if entry.at > since), default=inf)
            yield Recovery(
                by_parent=not any(hit.role == PARENT and hit.at < queued for hit in hits),
                queued=queued - _lifted(killer, since, queued),
                again=again - _lifted(killer, since, again),
            )


def _lifted(killer: Killer, since: float, until: float) -> float:
    """The last moment between those two at which a service was back, or else the first of them."""
    return max((one.until for one in killer.supervisor.outages if since < one.until < until), default=since)


def survive(
    installation: Installation,
    ledger: Ledger,
    seconds: float,
    rate: float,
    damage: Callable[[Supervisor, HealthWatch], list[Outage]] = lambda *_: [],
) -> tuple[Story, Counter[str]]:
    """Kill for so long, while `damage` does the rest; then check every invariant, and tell.

    An endpoint is registered for the jobs that fail at first, so that events reach it beside those that jobs ask for.
    """
    supervisor = Supervisor(installation)
    killer = Killer(supervisor, chance())
    with HealthWatch(installation.address) as watch, supervisor, receiving() as (receiver, heard):
        wanted = {"url": receiver, "events": TOLD_OF, "types": ["fault.fail"]}
        endpoint = installation.client.post("/v1/webhook-endpoints", json=wanted).raise_for_status().json()["id"]
        with (
            mixed(installation, ledger, rate=rate, threads=CLIENTS, receiver=receiver, sizes=SIZES) as load,
            ThreadPoolExecutor(1) as beside,
        ):
            time.sleep(WARM_SECONDS)
            installation.at_rest = usage(installation)
            doing = beside.submit(damage, supervisor, watch)
            killer.kill_for(seconds)
            outages = doing.result()
            spared_at = time.monotonic()
            time.sleep(AFTERWARDS_SECONDS)  # under the load, so that what is back then is the pace, and not a last rush
            await_pace(ledger, load, spared_at)
        lifted_at = time.monotonic()
        backlog = len(unfinished(installation, load.accepted))
        _await_leader(installation)
        known = check(
            installation,
            ledger,
            load.accepted,
            lifted_at=lifted_at,
            watch=watch,
            outages=outages,
            supervisor=supervisor,
            within=RECOVERY_SECONDS + backlog / rate,  # what is to be done then goes as fast as it came, or faster
        )
        story = told(known, load, killer, spared_at)
        print(story)  # noqa: T201 - also of a run that fails
        of_load = {job["id"] for job in load.accepted}
        events = {f"evt_{UUID(one.event_id).hex}" for one in known.told if one.job_id in of_load}
        assert {endpoint, receiver} == {one.to for one in known.told}
        installation.eventually(lambda: events == set(heard), RECOVERY_SECONDS)
    assert story.back < RECOVERY_SECONDS
    assert story.queued_again < QUEUED_WITHIN
    assert max(story.slowest_recovery, story.slowest_recovery_without_parent) < RECOVERY_SECONDS
    assert story.submitted == story.accepted >= rate * seconds
    assert (story.lost, story.doubled) == (0, 0)
    return story, killer.of


def _await_leader(installation: Installation) -> None:
    """Wait until a dispatcher that lives leads: the lease names a dead one for up to five seconds."""
    expires = "SELECT expires_at FROM leases"
    (before,) = installation.sql(expires)
    installation.eventually(lambda: installation.sql(expires) > [before], 30, 0.2)


@pytest.mark.fault("killed-at-random", "the same for 15 s, without the services")
def test_15_seconds_of_kills_cost_nothing(install: Install, ledger: Ledger):
    installation = install(Full.mode, JOBMILL_API_PROCESSES="2")
    doubled(installation)
    _, of = survive(installation, ledger, seconds=15, rate=40)
    print(dict(of))  # noqa: T201 - the figures to keep are those of the long run


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.fault(
    "killed-at-random",
    "kill -9 to a random process of API, dispatchers, workers every other second for two minutes, "
    "with a restart of RabbitMQ and one of PostgreSQL, at 100 jobs a second",
)
def test_two_minutes_of_kills_and_restarts_cost_nothing(
    install: Install, ledger: Ledger, eventually: Callable[..., Any]
):
    with ExitStack() as stack:
        postgresql, rabbitmq = PrivatePostgresql(eventually), PrivateRabbitmq(eventually)
        for service in (postgresql, rabbitmq):
            stack.callback(service.remove)
            service.start()
        installation = install(
            Full.mode, DATABASE_URL=postgresql.url, RABBITMQ_URL=rabbitmq.url, JOBMILL_API_PROCESSES="2"
        )
        stack.callback(installation.stop)
        doubled(installation)

        def restarts(supervisor: Supervisor, watch: HealthWatch) -> list[Outage]:
            time.sleep(20)
            away = supervisor.restart("rabbitmq", rabbitmq, AWAY_SECONDS, watch)
            time.sleep(20)
            other = supervisor.restart("database", postgresql, AWAY_SECONDS)
            # No API process starts while it is away: where all were killed just then, there is nobody to say so.
            witnessed = watch.was_told_between(other.since + HEALTH_LAG_SECONDS, other.until)
            return [away, other] if witnessed else [away]

        show(*survive(installation, ledger, seconds=120, rate=RATE, damage=restarts))
