"""The processes of a worker: one dies, its parent dies, all of them stand still. How soon do the jobs run again?"""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from tests.acceptance.installation import Full, Installation
from tests.acceptance.ledger import Ledger
from tests.faults import figures
from tests.faults.at_rest import complete
from tests.faults.beside import beside
from tests.faults.conftest import Install
from tests.faults.crashing import family, frozen, is_gone, revive
from tests.faults.invariants import check
from tests.faults.load import Load

pytestmark = pytest.mark.timed

PROCESSES = 4
CHILD_AGAIN_WITHIN = 2.0
MACHINE_AGAIN_WITHIN = 30.0
LIVE_WITHIN = 40


@pytest.fixture(scope="module")
def _four(install: Install) -> Installation:
    installation = install(Full.mode, JOBMILL_PROCESSES=str(PROCESSES), JOBMILL_THREADS="4")
    return complete(installation, PROCESSES)


@pytest.fixture
def full(_four: Installation) -> Iterator[Installation]:
    _four.eventually(lambda: len(_four.child_pids()) >= 2, LIVE_WITHIN)
    yield _four
    revive(_four)


@pytest.mark.fault("child-dies", "SIGKILL to the process that runs a job, 3 times")
def test_jobs_of_a_killed_child_run_again_within_two_seconds(full: Installation, ledger: Ledger, tmp_path: Path):
    _kill_children(full, ledger, tmp_path, 3)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.fault("child-dies", "SIGKILL to the process that runs a job, 20 times")
def test_the_slowest_of_twenty_runs_again_within_two_seconds(full: Installation, ledger: Ledger, tmp_path: Path):
    took = _kill_children(full, ledger, tmp_path, 20)
    figures.keep("child-dies", "running again, the slowest of 20, after", max(took), "s")
    figures.keep("child-dies", "running again, half of 20, within", sorted(took)[10], "s")


def _kill_children(full: Installation, ledger: Ledger, folder: Path, times: int) -> list[float]:
    took, jobs = [], []
    for number in range(times):
        full.eventually(lambda: len(full.child_pids()) >= 2, LIVE_WITHIN)
        gate = folder / f"gate{number}"
        job = full.submit("fault.gated", ledger.args | {"gate": str(gate)}, max_attempts=1)
        (first,) = full.eventually(lambda: ledger.starts(job["id"]))  # noqa: B023 - called at once
        os.kill(first.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        full.eventually(lambda: len(ledger.starts(job["id"])) == 2)  # noqa: B023
        assert is_gone(first.pid)
        took.append(ledger.starts(job["id"])[1].at - killed_at)
        gate.touch()
        full.succeeded(job)
        assert [event["reason"] for event in full.events(job)] == ["its process was killed by SIGKILL"]
        jobs.append(job)
    assert max(took) < CHILD_AGAIN_WITHIN, took
    check(full, ledger, jobs, faults=1)
    return took


@pytest.mark.long
@pytest.mark.fault("child-dies", "SIGKILL to the only process of a worker, 5 times: no other can take its job")
def test_the_job_of_an_only_process_is_queued_within_two_seconds_and_runs_in_the_next(
    install: Install, ledger: Ledger, tmp_path: Path
):
    full = install(Full.mode, JOBMILL_PROCESSES="1")
    queued, again, jobs = [], [], []
    for number in range(5):
        gate = tmp_path / f"gate{number}"
        jobs.append(job := full.submit("fault.gated", ledger.args | {"gate": str(gate)}, max_attempts=1))
        (first,) = full.eventually(lambda: ledger.starts(job["id"]))
        os.kill(first.pid, signal.SIGKILL)
        killed_at, by_the_clock = time.monotonic(), datetime.now(UTC)
        full.eventually(lambda: len(ledger.starts(job["id"])) == 2, MACHINE_AGAIN_WITHIN)
        again.append(ledger.starts(job["id"])[1].at - killed_at)
        gate.touch()
        full.succeeded(job)
        (rescue,) = full.events(job)
        queued.append((datetime.fromisoformat(rescue["at"]) - by_the_clock).total_seconds())
    figures.keep("child-dies", "queued again, an only process, the slowest of 5, after", max(queued), "s")
    figures.keep("child-dies", "running again in its successor, the slowest of 5, after", max(again), "s")
    check(full, ledger, jobs, faults=1)
    assert max(queued) < CHILD_AGAIN_WITHIN, queued


@pytest.mark.long
@pytest.mark.fault("child-dies", "SIGKILL to one child of four under load")
def test_one_child_of_several_dies_under_load(full: Installation, ledger: Ledger):
    with Load(full, "fault.sleep", ledger.args | {"seconds": 0.3}, rate=25, threads=4, most=100) as load:
        full.eventually(lambda: len(ledger.starts()) >= 25)
        victim = ledger.starts()[-1].pid
        os.kill(victim, signal.SIGKILL)
        load.wait()
    assert is_gone(victim)
    known = check(full, ledger, load.accepted, faults=1)
    assert {row.state for row in known.rows_of_test()} == {"succeeded"}
    harmed = [row for row in known.rows_of_test() if row.lost]
    assert 1 <= len(harmed) <= 4, "no more than it had threads"


@pytest.mark.long
@pytest.mark.fault("parent-dies", "SIGKILL to the parent of four busy processes, another worker beside it")
def test_children_of_a_dead_parent_finish_what_they_have_and_are_gone(full: Installation, ledger: Ledger):
    parent, orphans = full.worker.pid, [psutil.Process(pid) for pid in full.child_pids()]
    jobs = [full.submit("fault.gated", ledger.gated_args, max_attempts=1) for _ in range(6)]
    full.eventually(lambda: len(ledger.starts()) == len(jobs))
    assert {entry.pid for entry in ledger.starts()} <= {orphan.pid for orphan in orphans}
    with beside(full, "worker", JOBMILL_PROCESSES="1"):
        os.kill(parent, signal.SIGKILL)
        assert full.worker.wait() == -signal.SIGKILL
        idle = [orphan for orphan in orphans if orphan.pid not in {entry.pid for entry in ledger.starts()}]
        full.eventually(lambda: not any(orphan.is_running() for orphan in idle), 20)
        late = full.submit("fault.quick", ledger.args)
        full.succeeded(late, 30)
        ledger.open_gate()
        full.eventually(lambda: not any(orphan.is_running() for orphan in orphans), 30)
        revive(full)
        known = check(full, ledger, [*jobs, late], faults=0)
    assert ledger.starts(late["id"])[0].pid not in {orphan.pid for orphan in orphans}
    assert {(row.state, row.lost) for row in known.rows_of_test()} == {("succeeded", 0)}
    rows = full.sql(f"SELECT pid FROM workers WHERE parent_pid = {parent} AND stopped_at IS NULL")  # noqa: S608
    assert rows == []


@pytest.mark.long
@pytest.mark.fault("zombie", "SIGSTOP to a worker's parent and all its children together, by the clock")
def test_jobs_of_a_machine_that_stands_still_run_again_within_thirty_seconds(full: Installation, ledger: Ledger):
    job = full.submit("fault.gated", ledger.gated_args, max_attempts=1)
    full.eventually(lambda: ledger.starts(job["id"]))
    with beside(full, "worker", JOBMILL_PROCESSES="1"):
        with frozen(family(full.worker)):
            frozen_at = time.monotonic()
            full.eventually(lambda: len(ledger.starts(job["id"])) == 2, MACHINE_AGAIN_WITHIN)
            took = ledger.starts(job["id"])[1].at - frozen_at
            ledger.open_gate()
            full.succeeded(job)
        assert took < MACHINE_AGAIN_WITHIN
        figures.keep("zombie", "running again after", took, "s")
        check(full, ledger, [job], faults=1)
