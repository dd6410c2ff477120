"""The primary is lost under load and its standby promoted: the installation follows by itself, and no 202 is broken."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from tests.acceptance.installation import Installation
from tests.acceptance.ledger import Ledger
from tests.faults.conftest import Install
from tests.faults.figures import keep
from tests.faults.health import HealthWatch
from tests.faults.invariants import check
from tests.faults.load import NO_ANSWER
from tests.faults.mixture import mixed
from tests.faults.postgresql_pair import PostgresqlPair
from tests.faults.under_load import keeps_up

pytestmark = pytest.mark.timed

FAULT = "postgresql-failover"
JOBS_A_SECOND = 40
STEADY_SECONDS = 4
UNTIL_PROMOTED = 1.0
"""What noticing the loss and deciding on it takes whoever promotes: with a tool for it, or by hand, it takes longer."""
LONGEST_PAUSE = 10.0
LATE_SECONDS = 1
"""How far the load may be behind: what was to be submitted while nothing was accepted is submitted soon afterwards."""


@pytest.fixture(scope="module")
def pair(eventually: Callable[..., Any]) -> Iterator[PostgresqlPair]:
    made = PostgresqlPair(eventually)
    with ExitStack() as stack:
        stack.callback(made.remove)
        made.start()
        yield made


@pytest.fixture(scope="module")
def full(pair: PostgresqlPair, install: Install) -> Installation:
    return install("full", DATABASE_URL=pair.url)


@pytest.mark.fault("postgresql-failover", "every process of the primary killed (-9) under load, `pg_ctl promote`")
def test_the_installation_follows_a_promoted_standby_and_every_acknowledged_job_is_there(
    full: Installation, pair: PostgresqlPair, ledger: Ledger
):
    pids = {name: process.pid for name, process in full.processes.items()}
    with HealthWatch(full.address) as watch, mixed(full, ledger, rate=JOBS_A_SECOND, threads=8) as load:
        began = time.monotonic()
        time.sleep(STEADY_SECONDS)  # not a hope: the load before
        before = len(load.accepted)
        killed = time.monotonic()
        pair.kill_primary()
        time.sleep(UNTIL_PROMOTED)
        pair.standby.promote()
        promoted = time.monotonic()
        full.eventually(lambda: load.answered[-1].at > promoted, LONGEST_PAUSE)
        back = load.answered[-1].at - promoted
        time.sleep(STEADY_SECONDS)
        load.stop()
        lasted = time.monotonic() - began

    # The worker keeps what it has through the loss: none begins again but one whose own writes went with the primary.
    known = check(full, ledger, load.accepted, faults=1, watch=watch)
    for row in known.rows_of_test():
        first, *more = known.ledger("start", row.id)
        if len(more) > sum(event.move == "retry" for event in known.history(row.id)):
            assert (row.type, first.at < promoted, more[0].at > killed) == ("fault.pay", True, True), row
    assert keeps_up(ledger, load, promoted + back + STEADY_SECONDS / 2)
    assert load.turned_away
    assert load.turned_away.keys() <= {NO_ANSWER, httpx2.codes.SERVICE_UNAVAILABLE}
    assert before >= JOBS_A_SECOND * (STEADY_SECONDS - LATE_SECONDS)
    assert len(load.accepted) >= JOBS_A_SECOND * (lasted - LATE_SECONDS)
    assert {row.state for row in known.rows_of_test()} == {"succeeded"}
    assert set(known.rows) == {job["id"] for job in full.accepted}  # each key made one job
    assert {entry.job_id for entry in ledger.ends()} == set(known.submitted)
    assert all(held.database for held in known.after.values())  # counted where they went, and no more of them
    pause = longest_gap(answered.at for answered in load.answered)
    keep(FAULT, "accepted and done", len(known.submitted), "jobs")
    keep(FAULT, "refused meanwhile with 503", load.turned_away.total(), "requests")
    keep(FAULT, "longest pause between two 202s", pause, "s")
    keep(FAULT, "longest pause between two jobs done", longest_gap(entry.at for entry in ledger.ends()), "s")
    keep(FAULT, "first 202 after the promotion", back, "s")
    assert pause < LONGEST_PAUSE
    assert {name: process.pid for name, process in full.processes.items()} == pids
    assert all(process.alive for process in full.processes.values())


def longest_gap(moments: Iterable[float]) -> float:
    return max(after - before for before, after in pairwise(sorted(moments)))
