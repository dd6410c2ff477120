"""Handlers that do to their process what they should not: what their neighbours notice, and what history tells."""

from pathlib import Path

import psutil
import pytest

from models.worker import DEAD_AFTER
from tests.acceptance.installation import Full, Installation, Json
from tests.acceptance.ledger import Ledger
from tests.faults.at_rest import complete
from tests.faults.conftest import Install
from tests.faults.invariants import check

pytestmark = pytest.mark.timed

MEGABYTE = 1024 * 1024
PROCESSES, THREADS = 2, 4
NEIGHBOURS = 6
"""More than one process can hold, so that some share the culprit's and some do not."""
AGAIN_WITHIN = 30
YIELDS_WITHIN = 20
HOLDS_SECONDS = 30
"""Give or take half of it: longer than a heartbeat may be late, and no longer than a child may be silent."""


@pytest.fixture(scope="module")
def full(install: Install) -> Installation:
    return complete(install(Full.mode, JOBMILL_PROCESSES=str(PROCESSES), JOBMILL_THREADS=str(THREADS)), PROCESSES)


@pytest.fixture
def neighbours(full: Installation, ledger: Ledger) -> list[Json]:
    """Jobs with a single attempt each, all running."""
    full.wait_until_ready()
    full.eventually(lambda: len(full.child_pids()) == PROCESSES, AGAIN_WITHIN)
    jobs = [full.submit("fault.gated", ledger.gated_args, max_attempts=1) for _ in range(NEIGHBOURS)]
    full.eventually(lambda: len(ledger.starts()) == NEIGHBOURS)
    assert len({entry.pid for entry in ledger.starts()}) == PROCESSES
    return jobs


def companions(ledger: Ledger, culprit: Json) -> set[str]:
    """The jobs that ran in the process of a job's first run."""
    first = ledger.starts(culprit["id"])[0]
    return {entry.job_id for entry in ledger.starts() if entry.pid == first.pid} - {culprit["id"]}


def reasons(full: Installation, job: Json) -> list[tuple[str, str]]:
    return [(event["move"], event["reason"]) for event in full.events(job)]


def all_well(full: Installation, ledger: Ledger, jobs: list[Json], *, lost: set[str], faults: int = 1) -> None:
    """Everyone ends, those in `lost` after one loss that cost them no attempt, and the others as if nothing were."""
    full.eventually(lambda: all(len(ledger.starts(job_id)) == 2 for job_id in lost), AGAIN_WITHIN)
    ledger.open_gate()
    known = check(full, ledger, jobs, faults=faults)
    for row in known.rows_of_test():
        assert (row.state, row.lost) == ("succeeded", int(row.id in lost)), row


@pytest.mark.fault("handler-exits", "os._exit in a handler, two processes with three neighbours each")
@pytest.mark.fault("handler-segfaults", "a read from address 0 in a handler, two processes with three neighbours each")
@pytest.mark.parametrize(
    ("job_type", "cause"),
    [
        ("fault.exit", "its process exited with status 7"),
        ("fault.segfault", "its process was killed by SIGSEGV"),
    ],
)
def test_a_handler_that_ends_its_process_costs_its_neighbours_a_run_and_nothing_else(
    job_type: str, cause: str, full: Installation, ledger: Ledger, neighbours: list[Json]
):
    culprit = full.submit(job_type, ledger.args, max_attempts=1)
    full.succeeded(culprit)
    harmed = companions(ledger, culprit)
    assert 2 <= len(harmed) < THREADS
    all_well(full, ledger, [culprit, *neighbours], lost={culprit["id"], *harmed})
    for job in [culprit, *neighbours]:
        assert reasons(full, job) == ([("rescue", cause)] if job["id"] in {culprit["id"], *harmed} else [])


@pytest.mark.long
@pytest.mark.fault("handler-never-returns", "it swallows every exception, its time limit's too")
def test_a_handler_that_never_returns_is_ended_with_its_process(
    full: Installation, ledger: Ledger, neighbours: list[Json], tmp_path: Path
):
    never = ledger.args | {"gate": str(tmp_path / "never")}
    culprit = full.submit("fault.never", never, timeout_seconds=1, max_attempts=1)
    dead = full.in_state(culprit, "dead", YIELDS_WITHIN)
    assert dead["error"]["code"] == "timed-out"
    harmed = companions(ledger, culprit)
    all_well(full, ledger, neighbours, lost=harmed)
    assert [move for move, _ in reasons(full, culprit)] == ["bury"]
    for job in neighbours:
        told = [reason for _, reason in reasons(full, job)]
        assert len(told) == (job["id"] in harmed)
        assert all("did not yield to its time limit" in reason for reason in told)
    check(full, ledger, [culprit], faults=0)


@pytest.mark.fault("handler-exhausts-memory", "beyond what its process may have (RLIMIT_AS)")
def test_a_handler_that_gets_no_more_memory_fails_by_itself(full: Installation, ledger: Ledger, neighbours: list[Json]):
    for pid in full.child_pids():
        limit = psutil.Process(pid).memory_info().vms + 300 * MEGABYTE
        psutil.Process(pid).rlimit(psutil.RLIMIT_AS, (limit, limit))
    culprit = full.submit("fault.memory", ledger.args | {"megabytes": 1000})
    full.succeeded(culprit)
    assert [event["error"]["code"] for event in full.events(culprit)] == ["out-of-memory"]
    all_well(full, ledger, [culprit, *neighbours], lost=set(), faults=0)
    full.kill_children()  # their limits go with them


@pytest.mark.fault("handler-exhausts-memory", 'beyond memory_limit_mb, with isolation="process"')
@pytest.mark.fault("handler-segfaults", 'a read from address 0, with isolation="process"')
@pytest.mark.parametrize(
    ("job_type", "code"), [("fault.isolated_memory", "out-of-memory"), ("fault.isolated_segfault", "crashed")]
)
def test_an_isolated_handler_harms_nobody_but_itself(
    job_type: str, code: str, full: Installation, ledger: Ledger, neighbours: list[Json]
):
    culprit = full.submit(job_type, ledger.args)
    full.succeeded(culprit)
    assert [event["error"]["code"] for event in full.events(culprit)] == [code]
    all_well(full, ledger, [culprit, *neighbours], lost=set(), faults=0)


@pytest.mark.fault("handler-raises-baseexception", "raise BaseException in a handler")
def test_a_base_exception_is_a_failure_like_any_other(full: Installation, ledger: Ledger, neighbours: list[Json]):
    culprit = full.submit("fault.base", ledger.args)
    full.succeeded(culprit)
    ((move, error),) = [(event["move"], event["error"]) for event in full.events(culprit)]
    assert (move, error["type"], error["message"]) == ("retry", "BaseException", "as it was asked to")
    all_well(full, ledger, [culprit, *neighbours], lost=set(), faults=0)


@pytest.mark.long
@pytest.mark.fault("handler-holds-gil", "one regular expression, for longer than a heartbeat may be late")
def test_nobody_is_taken_for_dead_however_late_he_is_by_a_neighbour_s_doing(
    full: Installation, ledger: Ledger, neighbours: list[Json]
):
    children = set(full.child_pids())
    culprit = full.submit("fault.gil", ledger.args | {"seconds": HOLDS_SECONDS}, timeout_seconds=300)
    full.succeeded(culprit, 6 * HOLDS_SECONDS)
    began, ended = ledger.starts(culprit["id"])[0].at, ledger.ends(culprit["id"])[0].at
    assert ended - began > DEAD_AFTER.total_seconds()
    all_well(full, ledger, [culprit, *neighbours], lost=set(), faults=0)
    assert set(full.child_pids()) == children


@pytest.mark.fault("fork-after-engine", "os.fork in a handler; both processes use the database and return")
def test_a_process_that_a_handler_forked_ends_where_the_handler_does(
    full: Installation, ledger: Ledger, neighbours: list[Json]
):
    culprit = full.submit("fault.fork", ledger.gated_args, max_attempts=1)
    (forked,) = full.eventually(lambda: ledger.entries("forked", culprit["id"]))
    (home,) = ledger.starts(culprit["id"])
    assert forked.pid != home.pid
    full.eventually(lambda: _gone(forked.pid))
    all_well(full, ledger, [culprit, *neighbours], lost=set(), faults=0)


def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
