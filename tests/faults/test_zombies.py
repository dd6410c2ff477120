"""A worker that stands still past its lease, between its handler's end and the record of it, and then goes on:
nothing of that run is recorded, and a counter says so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance.installation import Full, Installation, Json, metrics_port
from tests.acceptance.ledger import Ledger
from tests.acceptance.process import Process
from tests.faults.conftest import Install
from tests.faults.crashing import await_freeze, family, frozen, kill_family, let_time_pass, revive, start_armed
from tests.faults.evidence import events, gather, rows
from tests.faults.invariants import check

POINT = "worker.after_handler"
NOTICED_SECONDS = 30


@pytest.fixture
def full(install: Install) -> Iterator[Installation]:
    installation = install(Full.mode)
    yield installation
    revive(installation)


@contextmanager
def zombie(installation: Installation, ledger: Ledger, job_type: str, **args: Any) -> Iterator[Json]:
    """A job whose worker has done it, and stands still while the block lasts, with all its processes."""
    kill_family(installation.worker)
    reached = start_armed(installation.worker, f"{POINT}=stop")
    job = installation.submit(job_type, ledger.args | args, max_attempts=1)
    await_freeze(installation, reached, POINT)
    with frozen(family(installation.worker)):
        assert len(ledger.ends(job["id"])) == 1
        yield job


@contextmanager
def another_worker(installation: Installation) -> Iterator[Process]:
    """A second worker, while the block lasts."""
    folder = installation.folder / "second"
    folder.mkdir(exist_ok=True)
    second = Process("worker", settings=installation.settings | metrics_port(), folder=folder)
    second.start()
    try:
        yield second
    finally:
        second.ask_to_end()
        second.end()


def stale(installation: Installation, ledger: Ledger) -> float:
    return gather(installation, ledger, []).counted("jobmill_stale_total", move="finish")


def recorded(installation: Installation, job: Json) -> tuple[Any, ...]:
    """All that is recorded of a job."""
    (row,) = (row for row in rows(installation) if row.id == job["id"])
    return row, [event for event in events(installation) if event.job_id == job["id"]]


@pytest.mark.fault(
    "zombie", "SIGSTOP after the handler for longer than a heartbeat may be late, SIGCONT before the commit"
)
def test_nothing_of_a_run_that_thaws_after_another_has_done_the_job_is_recorded(full: Installation, ledger: Ledger):
    with zombie(full, ledger, "fault.quick") as job, another_worker(full):
        full.succeeded(job, NOTICED_SECONDS)  # by the clock: nobody helps the dispatcher to find out
        before = recorded(full, job)
    full.eventually(lambda: stale(full, ledger) == 1)
    assert recorded(full, job) == before
    late, timely = (entry.lease for entry in ledger.ends(job["id"]))
    assert late < timely
    assert before[0].result == {"attempt": 1, "lease": timely}
    check(full, ledger, [job], faults=1)


@pytest.mark.fault("zombie", "the same, across a cancellation in between")
def test_nothing_of_a_run_that_thaws_after_its_job_was_cancelled_is_recorded(full: Installation, ledger: Ledger):
    with zombie(full, ledger, "fault.quick") as job:
        let_time_pass(full, family(full.worker))
        full.in_state(job, "queued")
        full.client.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
        before = recorded(full, job)
    full.eventually(lambda: stale(full, ledger) == 1)
    assert recorded(full, job) == before
    assert (before[0].state, before[0].result) == ("cancelled", None)
    check(full, ledger, [job], faults=1)


@pytest.mark.fault("zombie", "the same, across death and redrive in between")
def test_nothing_of_a_run_that_thaws_after_its_job_was_redriven_is_recorded(full: Installation, ledger: Ledger):
    with zombie(full, ledger, "fault.fail", after=1) as job:
        with another_worker(full):
            let_time_pass(full, family(full.worker))
            dead = full.in_state(job, "dead")
        replay(full, dead)
        assert recorded(full, job)[0].state in {"queued", "dispatched"}  # the dispatcher was told at once
    full.eventually(lambda: stale(full, ledger) == 1)
    result = full.succeeded(job)["result"]  # the zombie's own worker does it anew
    late, timely = (entry.lease for entry in ledger.ends(job["id"]))
    assert late + 2 <= timely
    assert result == {"attempt": 1, "lease": timely}
    check(full, ledger, [job], faults=1)


def replay(full: Installation, job: Json) -> None:
    """As an operator does."""
    full.client.post(f"/v1/dead-letters/{job['id']}/replay").raise_for_status()
