"""Dispatchers: none, several at once, one that stands still, and more jobs than any should look at."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pika
import pytest

from tests.acceptance.installation import Full, Installation, Json
from tests.acceptance.ledger import Ledger
from tests.acceptance.process import Process
from tests.faults import figures
from tests.faults.backlog import forget_backlog, queue_backlog, queue_copies
from tests.faults.beside import ALWAYS_LEADING, beside, several
from tests.faults.conftest import Install
from tests.faults.crashing import await_freeze, frozen, kill_family, let_time_pass, revive, start_armed
from tests.faults.evidence import gather
from tests.faults.health import HealthWatch, Outage
from tests.faults.invariants import check
from tests.faults.load import Load
from tests.faults.under_load import AT_ONCE_SECONDS, keeps_up
from workers.duties.pace import MOST_ON_BROKER
from workers.topology import queue_name

pytestmark = pytest.mark.timed

RATE = 20
STILL_ON_BROKER_SECONDS = 2.0
BACK_WITHIN = 30.0
LEADS_WITHIN = 7.0
"""What docs/operate.md promises of a standby."""
A_FEW = 2000
SPEEDING_UP_SECONDS = 1.0
WATCHED_SECONDS = 3.0
LOOK_EVERY = 0.25
BEGINS_WITHIN = 2.0
STARTS_WITHIN = 30.0


@pytest.fixture
def full(install: Install) -> Iterator[Installation]:
    installation = install(Full.mode)
    yield installation
    revive(installation)


# None


@pytest.mark.fault("dispatcher-dead-60s", "SIGKILL under load, and no other for eight seconds")
def test_without_a_dispatcher_jobs_are_accepted_and_running_ones_end(full: Installation, ledger: Ledger):
    _outlive_an_outage(full, ledger, 8)


@pytest.mark.long
@pytest.mark.fault("dispatcher-dead-60s", "SIGKILL under load, and no other for a minute")
def test_without_a_dispatcher_for_a_minute_they_are_too(full: Installation, ledger: Ledger):
    back = _outlive_an_outage(full, ledger, 60)
    figures.keep("dispatcher-dead-60s", "throughput was back after", back, "s")


def _outlive_an_outage(full: Installation, ledger: Ledger, seconds: float) -> float:
    """Gives after how many seconds from the next dispatcher's start jobs ended as fast as before."""
    dispatcher = full.processes["dispatcher"]
    with (
        HealthWatch(full.address) as watch,
        Load(full, "fault.sleep", ledger.args | {"seconds": 0.05}, rate=RATE, threads=4) as load,
    ):
        running = full.submit("fault.gated", ledger.gated_args)
        full.eventually(lambda: len(ledger.ends()) >= 2 * RATE)
        full.eventually(lambda: ledger.starts(running["id"]))
        kill_family(dispatcher)
        gone_at, accepted = time.monotonic(), len(load.accepted)
        ledger.open_gate()
        full.succeeded(running)
        time.sleep(max(0.0, gone_at + seconds - time.monotonic()))
        accepted = len(load.accepted) - accepted
        back_at = time.monotonic()
        dispatcher.start()
        back = full.eventually(lambda: _back_to_usual(ledger, load, back_at), BACK_WITHIN) - back_at

    assert accepted > RATE * seconds / 2  # a slow machine may accept them late, and that is all
    idle_from = gone_at + STILL_ON_BROKER_SECONDS
    assert [entry for entry in ledger.starts() if idle_from < entry.at < back_at] == []
    assert back < BACK_WITHIN
    known = check(
        full,
        ledger,
        [running, *load.accepted],
        lifted_at=back_at,
        faults=0,
        watch=watch,
        outages=[Outage("dispatcher", gone_at + LEADS_WITHIN, back_at)] if seconds > 2 * LEADS_WITHIN else [],
    )
    assert {row.state for row in known.rows_of_test()} == {"succeeded"}
    return back


def _back_to_usual(ledger: Ledger, load: Load, since: float) -> float | None:
    """The moment since then from which on jobs that were accepted were begun at once, for some seconds until now."""
    moment = time.monotonic() - WATCHED_SECONDS - AT_ONCE_SECONDS
    until = moment + WATCHED_SECONDS
    return moment if moment >= since and keeps_up(ledger, load, moment, until) else None


# Several


@pytest.mark.fault("dispatchers-two", "both sure that they lead, 8,000 jobs due at once")
def test_two_dispatchers_that_both_dispatch_start_each_job_once(full: Installation, ledger: Ledger):
    _race(full, ledger, 2)


@pytest.mark.long
@pytest.mark.fault("dispatchers-five", "each sure that it leads, 8,000 jobs due at once")
def test_five_dispatchers_that_all_dispatch_start_each_job_once(full: Installation, ledger: Ledger):
    _race(full, ledger, 5)


def _race(full: Installation, ledger: Ledger, dispatchers: int) -> None:
    kill_family(full.processes["dispatcher"])
    first = full.submit("fault.quick", ledger.args, delay_seconds=3600)
    jobs = [first, *queue_copies(full, first, 7999)]
    full.sql("UPDATE jobs SET due_at = now() + interval '1 hour' WHERE state = 'queued'")  # until both are there
    with several(full, dispatchers, "dispatcher", ALWAYS_LEADING) as racing:
        full.eventually(lambda: all('"publisher_connected"' in one.words for one in racing), STARTS_WITHIN)
        full.sql("UPDATE jobs SET due_at = now() WHERE state = 'queued'")
        full.sql("NOTIFY jobmill_due")  # else who looks first might be done before the other looks
        due = time.monotonic()
        full.eventually(lambda: len(ledger.ends()) >= len(jobs), 60, 0.2)
        fault = {2: "dispatchers-two", 5: "dispatchers-five"}[dispatchers]
        figures.keep(fault, "all of them done after", max(end.at for end in ledger.ends()) - due, "s")
        full.processes["dispatcher"].start()
        known = check(full, ledger, jobs, faults=0)
    claims = {name: _claimed(page) for name, page in known.pages.items() if name != "worker"}
    assert sum(claimed > 0 for claimed in claims.values()) >= 2, claims
    assert set(Counter(entry.job_id for entry in ledger.starts()).values()) == {1}


def _claimed(page: str) -> float:
    lines = [line for line in page.splitlines() if line.startswith('jobmill_moves_total{move="claim"}')]
    return float(lines[0].split()[-1]) if lines else 0


# The leader is gone


@pytest.mark.fault("dispatcher-leader-killed", "SIGKILL under load, with a standby beside it")
def test_a_standby_leads_within_the_lease_s_term_when_the_leader_is_killed(full: Installation, ledger: Ledger):
    with beside(full, "dispatcher") as standby:
        full.eventually(lambda: '"publisher_connected"' in standby.words, STARTS_WITHIN)
        with Load(full, "fault.sleep", ledger.args | {"seconds": 0.05}, rate=RATE, threads=4) as load:
            full.eventually(lambda: len(ledger.ends()) >= 2 * RATE)
            kill_family(full.processes["dispatcher"])
            killed_at = time.monotonic()
            full.eventually(lambda: _leads(standby), LEADS_WITHIN)
            back = full.eventually(lambda: _back_to_usual(ledger, load, killed_at), BACK_WITHIN)
            figures.keep("dispatcher-leader-killed", "throughput was back after", back - killed_at, "s")
        full.processes["dispatcher"].start()
        check(full, ledger, load.accepted, faults=0)


# The leader stands still


@pytest.mark.fault("dispatcher-frozen-leader", "SIGSTOP between claim and publication")
def test_a_leader_that_thaws_after_its_lease_does_no_harm(full: Installation, ledger: Ledger):
    _thaw_late(full, ledger, "dispatch.after_claim")


@pytest.mark.long
@pytest.mark.fault("dispatcher-frozen-leader", "SIGSTOP amid the confirms, and after them")
@pytest.mark.parametrize("point", ["dispatch.mid_batch", "dispatch.after_confirms"])
def test_nor_does_one_that_stood_still_while_it_published(point: str, full: Installation, ledger: Ledger):
    _thaw_late(full, ledger, point)


def _thaw_late(full: Installation, ledger: Ledger, point: str) -> None:
    leader = full.processes["dispatcher"]
    let_time_pass(full, kill_family(leader))
    reached = start_armed(leader, f"{point}=stop")
    before = full.submit("fault.quick", ledger.args)
    await_freeze(full, reached, point)
    with beside(full, "dispatcher") as standby:
        with frozen([leader.pid]):
            full.sql("UPDATE leases SET expires_at = now()")
            full.eventually(lambda: _leads(standby), LEADS_WITHIN)
            let_time_pass(full, [])
            meanwhile = full.submit("fault.quick", ledger.args)
            for job in (before, meanwhile):
                full.succeeded(job)
        full.eventually(lambda: not _leads(leader), LEADS_WITHIN)
        if point == "dispatch.after_claim":  # it publishes what it claimed, and that came too late
            full.eventually(lambda: gather(full, ledger, []).counted("jobmill_stale_total", move="start") >= 1)
        after = full.submit("fault.quick", ledger.args)
        full.succeeded(after)
        check(full, ledger, [before, meanwhile, after], faults=0)
        assert len(ledger.starts()) == 3
        standby.ask_to_end()
        full.eventually(lambda: _leads(leader), LEADS_WITHIN)


@pytest.mark.long
@pytest.mark.fault("dispatcher-frozen-leader", "SIGSTOP under load, for longer than its lease, by the clock")
def test_a_standby_leads_within_the_lease_s_term_when_the_leader_stands_still(full: Installation, ledger: Ledger):
    leader = full.processes["dispatcher"]
    with beside(full, "dispatcher") as standby:
        with Load(full, "fault.sleep", ledger.args | {"seconds": 0.05}, rate=RATE, threads=4) as load:
            full.eventually(lambda: len(ledger.ends()) >= 2 * RATE)
            with frozen([leader.pid]):
                frozen_at = time.monotonic()
                full.eventually(lambda: _leads(standby), LEADS_WITHIN)
                back = full.eventually(lambda: _back_to_usual(ledger, load, frozen_at), BACK_WITHIN)
                figures.keep("dispatcher-frozen-leader", "throughput was back after", back - frozen_at, "s")
            full.eventually(lambda: not _leads(leader), LEADS_WITHIN)
            thawed_at = time.monotonic()
            full.eventually(lambda: _back_to_usual(ledger, load, thawed_at), BACK_WITHIN)
        check(full, ledger, load.accepted, faults=0)


def _leads(dispatcher: Process) -> bool:
    """What a dispatcher said of it last."""
    said = [line for line in dispatcher.words.splitlines() if '"leadership_changed"' in line]
    return bool(said) and '"leads": true' in said[-1]


# A million


@pytest.mark.long
@pytest.mark.fault("dispatcher-million-queued", "100,000 due jobs inserted at once, and an empty broker")
def test_a_hundred_thousand_queued_jobs_slow_nothing_down(full: Installation, ledger: Ledger):
    _dig_in(full, ledger, 100_000)


@pytest.mark.long
@pytest.mark.timeout(400)  # for the inserting
@pytest.mark.fault("dispatcher-million-queued", "a million due jobs inserted at once, and an empty broker")
def test_a_million_queued_jobs_slow_nothing_down(full: Installation, ledger: Ledger):
    seen = _dig_in(full, ledger, 1_000_000)
    figures.keep("dispatcher-million-queued", "first start after", seen.first_start, "s")
    figures.keep("dispatcher-million-queued", "urgent job started after", seen.urgent_start, "s")
    figures.keep("dispatcher-million-queued", "messages ready, at most", seen.most_ready, "messages")
    figures.keep("dispatcher-million-queued", "with few queued", seen.per_second_few, "jobs/s")
    figures.keep("dispatcher-million-queued", "with all queued", seen.per_second_many, "jobs/s")


@dataclass(frozen=True)
class Seen:
    """How it went: seconds, messages, jobs per second."""

    first_start: float
    urgent_start: float
    most_ready: int
    per_second_few: float
    per_second_many: float


def _dig_in(full: Installation, ledger: Ledger, number: int) -> Seen:
    dispatcher, accepted = full.processes["dispatcher"], len(full.accepted)
    few = _throughput_of_a_few(full, ledger)
    let_time_pass(full, kill_family(dispatcher))
    first = full.submit("fault.quick", ledger.args)
    queue_backlog(full, first, number)
    began = _restarted(full, dispatcher)
    first_start = full.eventually(lambda: _first_start_since(ledger, began), LEADS_WITHIN) - began
    depths = []
    urgent = full.submit("fault.quick", ledger.args, priority=10)
    urgent_at = time.monotonic()
    counted_from = urgent_at + SPEEDING_UP_SECONDS
    while time.monotonic() < counted_from + WATCHED_SECONDS:
        depths.append(_messages(full))
        time.sleep(LOOK_EVERY)
    (left,) = full.sql("SELECT count(*) FROM jobs WHERE state = 'queued'")[0]
    many = _ends_per_second(ledger, counted_from, time.monotonic())
    (urgent_start,) = ledger.starts(urgent["id"])
    _clear_away(full, first, dispatcher)
    check(full, ledger, full.accepted[accepted:], faults=0)

    assert left > number / 2, "too few were left to tell"
    seen = Seen(first_start, urgent_start.at - urgent_at, max(depths), few, many)
    assert seen.first_start < BEGINS_WITHIN, seen
    assert seen.urgent_start < BEGINS_WITHIN, seen
    assert seen.most_ready <= MOST_ON_BROKER, seen
    assert seen.per_second_many > few / 2, seen  # claims that grow with the backlog would be slower by far
    return seen


def _restarted(full: Installation, dispatcher: Process) -> float:
    """Start the dispatcher before an empty broker; gives the moment from which it leads."""
    assert _messages(full) == 0
    _start_to_lead(full, dispatcher)
    return time.monotonic()


def _start_to_lead(full: Installation, dispatcher: Process) -> None:
    said = dispatcher.words.count('"leads": true')
    dispatcher.start()
    full.eventually(lambda: dispatcher.words.count('"leads": true') > said, STARTS_WITHIN)


def _throughput_of_a_few(full: Installation, ledger: Ledger) -> float:
    """Jobs per second with hardly any job in the table."""
    kill_family(full.processes["dispatcher"])
    first = full.submit("fault.quick", ledger.args)
    jobs = [first, *queue_copies(full, first, A_FEW - 1)]
    let_time_pass(full, [])
    _restarted(full, full.processes["dispatcher"])
    full.eventually(lambda: len(ledger.ends()) == len(jobs), 60)
    ends = sorted(entry.at for entry in ledger.ends())
    return (len(ends) - A_FEW // 3) / (ends[-1] - ends[A_FEW // 3])  # its beginning is not yet full speed


def _first_start_since(ledger: Ledger, moment: float) -> float | None:
    return next((entry.at for entry in ledger.starts() if entry.at > moment - BEGINS_WITHIN), None)


def _ends_per_second(ledger: Ledger, since: float, until: float) -> float:
    return sum(since < entry.at < until for entry in ledger.ends()) / (until - since)


def _messages(full: Installation) -> int:
    """Ready on the broker."""
    with pika.BlockingConnection(pika.URLParameters(full.settings["RABBITMQ_URL"])) as connection:
        name = queue_name(full.settings["JOBMILL_QUEUE_PREFIX"], "default")
        depth: int = connection.channel().queue_declare(name, passive=True).method.message_count
        return depth


def _clear_away(full: Installation, first: Json, dispatcher: Process) -> None:
    """Forget all that was not claimed, while nobody claims more."""
    dispatcher.ask_to_end()
    dispatcher.wait()
    forget_backlog(full, first)
    _start_to_lead(full, dispatcher)
    full.wait_until_ready()
