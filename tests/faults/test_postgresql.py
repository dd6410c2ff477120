"""PostgreSQL restarted, away, losing its backends, without a connection to spare and held up, under a steady load."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import psycopg
import pytest

from tests.acceptance.installation import Full, Installation
from tests.acceptance.ledger import Ledger
from tests.acceptance.private_services import PrivatePostgresql
from tests.faults import figures
from tests.faults.chance import chance
from tests.faults.conftest import Install
from tests.faults.invariants import check
from tests.faults.load import Load, submit_patiently
from tests.faults.under_load import WINDOW_SECONDS, Trial, under_load

pytestmark = [pytest.mark.timed, pytest.mark.timeout(240)]

TOLD_SECONDS = 1.0
BOTH = [False, pytest.param(True, marks=pytest.mark.long)]
"""Briefly in every run of the tests, and for as long as the catalogue says in the long ones."""


def pace(long: bool) -> float:
    return WINDOW_SECONDS if long else WINDOW_SECONDS / 2


@pytest.fixture(scope="module")
def postgresql(eventually: Callable[..., Any]) -> Iterator[PrivatePostgresql]:
    server = PrivatePostgresql(eventually)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def full(postgresql: PrivatePostgresql, install: Install) -> Installation:
    return install(Full.mode, DATABASE_URL=postgresql.url, JOBMILL_THREADS="4")


def asked(server: PrivatePostgresql, statement: str) -> int:
    """A number, by somebody who is no part of the installation."""
    with psycopg.connect(server.url, autocommit=True, application_name="tests") as connection:
        found = connection.execute(statement.encode()).fetchone()
    assert found is not None
    return found[0]


OURS = "pg_stat_activity WHERE application_name LIKE 'jobmill%'"
COUNT_OURS = f"SELECT count(*) FROM {OURS}"  # noqa: S608 - our own words
COUNT_TRANSACTIONS = f"{COUNT_OURS} AND state LIKE 'idle in transaction%'"
END_OURS = f"SELECT count(pg_terminate_backend(pid)) FROM {OURS}"  # noqa: S608


@pytest.mark.fault("postgresql-restart", "SIGQUIT, as `pg_ctl stop -m immediate`, while handlers hold transactions")
@pytest.mark.parametrize("long", BOTH)
def test_restarts_in_the_middle_of_transactions_lose_nothing_and_do_nothing_twice(
    long: bool, full: Installation, postgresql: PrivatePostgresql, ledger: Ledger
):
    restarts, moments = (12 if long else 3), chance()
    paying = ledger.args | {"times": 0, "seconds": 0.3}
    with (
        under_load(full, ledger, "postgresql-restart", window=pace(long)),
        Load(full, "fault.pay", paying, rate=5, threads=4) as payments,
    ):
        for _ in range(restarts):
            time.sleep(moments.uniform(0.2, 1.5))
            full.eventually(lambda: asked(postgresql, COUNT_TRANSACTIONS))
            crash(postgresql)
        payments.stop()
    check(full, ledger, payments.accepted, faults=restarts)
    assert len(payments.accepted) > restarts
    figures.keep("postgresql-restart", "restarts in one run", restarts, "times")


def crash(server: PrivatePostgresql) -> None:
    """End it without letting anything finish, and start it again: it goes back to its log of transactions."""
    spoken = server.log.stat().st_size
    assert server.process is not None
    server.process.send_signal(signal.SIGQUIT)
    server.process.wait(20)
    server.start()
    assert b"not properly shut down" in server.log.read_bytes()[spoken:]


@pytest.mark.fault(
    "postgresql-down-60s", "stopped under load for a minute (6 s where time is short), and started again"
)
@pytest.mark.parametrize("long", BOTH)
def test_while_it_is_away_everyone_is_told_at_once_and_afterwards_everything_accepted_is_done(
    long: bool, full: Installation, postgresql: PrivatePostgresql, ledger: Ledger
):
    with under_load(full, ledger, "postgresql-down-60s", window=pace(long)) as trial:
        running = submit_patiently(full, "fault.gated", ledger.gated_args)
        full.eventually(lambda: ledger.starts(running["id"]))
        trial.load.accepted.append(running)
        postgresql.stop()
        with trial.away("database"):
            until = time.monotonic() + (60 if long else 6)
            ledger.open_gate()
            slowest = max(asked_in_vain(full, until))
            full.eventually(lambda: ledger.ends(running["id"]))
        postgresql.start()
    assert slowest < TOLD_SECONDS
    figures.keep("postgresql-down-60s", "slowest 503 while it was away", slowest, "s")
    end = full.succeeded(running)
    assert (end["attempt"], end["lost"]) == (1, 0)
    assert len(ledger.starts(running["id"])) == 1


def asked_in_vain(full: Installation, until: float) -> list[float]:
    """Submit until then; gives how long each refusal took."""
    took = []
    while (began := time.monotonic()) < until:
        answer = full.client.post("/v1/jobs", json={"type": "demo.echo", "args": {"value": 1}})
        took.append(time.monotonic() - began)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        time.sleep(0.1)
    return took


@pytest.mark.fault("postgresql-backends-killed", "pg_terminate_backend of every connection, twice a second, under load")
@pytest.mark.parametrize("long", BOTH)
def test_backends_killed_twice_a_second_cost_time_and_nothing_else(
    long: bool, full: Installation, postgresql: PrivatePostgresql, ledger: Ledger
):
    with under_load(full, ledger, "postgresql-backends-killed", window=pace(long)) as trial:
        began, killed = len(ledger.ends()), 0
        for _ in range(40 if long else 12):
            full.eventually(lambda: asked(postgresql, COUNT_OURS))
            killed += asked(postgresql, END_OURS)
            time.sleep(0.5)
        trial.submit_until(1)
        done = len(ledger.ends()) - began
    assert done
    figures.keep("postgresql-backends-killed", "connections ended", killed, "")
    figures.keep("postgresql-backends-killed", "jobs done meanwhile", done, "")


@pytest.mark.fault("postgresql-pool-exhausted", "somebody else holds every connection that the server gives")
def test_without_a_connection_to_be_had_everyone_is_told_and_all_goes_on_when_there_are_some(
    full: Installation, postgresql: PrivatePostgresql, ledger: Ledger
):
    with under_load(full, ledger, "postgresql-pool-exhausted", window=WINDOW_SECONDS / 2), ExitStack() as stack:
        asked(postgresql, END_OURS)
        take_all(stack, postgresql)
        full.eventually(lambda: refused(full), 20)
        assert full.client.get("/healthz").status_code == 200
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            psycopg.connect(postgresql.url)


def take_all(stack: ExitStack, server: PrivatePostgresql) -> None:
    """Every connection; those that the installation has made again meanwhile are ended, and taken too."""
    first = stack.enter_context(psycopg.connect(server.url, autocommit=True, application_name="tests"))
    theirs = 1
    while theirs:
        first.execute(END_OURS.encode())
        while not is_full(stack, server):
            pass
        (theirs,) = first.execute(COUNT_OURS.encode()).fetchone() or (0,)


def is_full(stack: ExitStack, server: PrivatePostgresql) -> bool:
    try:
        stack.enter_context(psycopg.connect(server.url, application_name="tests"))
    except psycopg.OperationalError:
        return True
    return False


def refused(full: Installation) -> bool:
    answer = full.client.post("/v1/jobs", json={"type": "demo.echo", "args": {"value": 1}})
    if answer.status_code == httpx2.codes.ACCEPTED:  # on a connection that it had made before
        full.accepted.append(answer.json())
    else:
        assert (answer.status_code, int(answer.headers["Retry-After"]) >= 1) == (503, True)
    return answer.status_code != httpx2.codes.ACCEPTED


OLD = "postgresql-old-transaction"
MOST_SLOWER_SECONDS = 0.05
WINDOW, WINDOWS = 100, 3
"""Dead rows make every job slower. What else the machine does makes some slower, so the best window counts."""
DEAD_ROWS = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'jobs'"
WAITED = """
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - created_at))
    FROM (SELECT * FROM jobs WHERE started_at IS NOT NULL ORDER BY id DESC LIMIT 100) AS latest
"""


@pytest.mark.fault(
    "postgresql-old-transaction", "a snapshot held open while jobs pass, so that no dead row is vacuumed"
)
@pytest.mark.parametrize("long", BOTH)
def test_a_transaction_that_is_held_open_does_not_make_jobs_slower(
    long: bool, full: Installation, postgresql: PrivatePostgresql, ledger: Ledger
):
    # Closed last: the pace that is looked at in the end is the pace with it.
    with (
        ExitStack() as afterwards,
        under_load(full, ledger, OLD, rate=80 if long else 40, window=pace(long)) as trial,
    ):
        before = waits_before_starts(full)
        holder = afterwards.enter_context(psycopg.connect(postgresql.url))
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM jobs")
        trial.submit_until(4000 if long else 100, 120)
        with psycopg.connect(postgresql.url, autocommit=True) as cleaner:
            cleaner.execute("VACUUM jobs")
        pinned = asked(postgresql, DEAD_ROWS)
        after = min(waits_of_more(trial, full) for _ in range(WINDOWS))
    assert pinned >= (4000 if long else 100)  # of each job that passed meanwhile, at least
    assert after < before + MOST_SLOWER_SECONDS
    figures.keep(OLD, "dead rows that could not be removed", pinned, "")
    figures.keep(OLD, "median from submission to start, without", before, "s")
    figures.keep(OLD, "median from submission to start, with", after, "s")


def waits_of_more(trial: Trial, full: Installation) -> float:
    trial.submit_until(WINDOW, 30)
    return waits_before_starts(full)


def waits_before_starts(full: Installation) -> float:
    """The median wait of the latest WINDOW jobs, in seconds."""
    return float(full.sql(WAITED)[0][0])
