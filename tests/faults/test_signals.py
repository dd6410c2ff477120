"""SIGTERM: with enough grace, with too little, twice, and while a process is still starting."""

import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.installation import Full, Installation, Json, metrics_port
from tests.acceptance.ledger import Ledger
from tests.acceptance.process import Process, free_port, jobmill
from tests.faults import figures
from tests.faults.beside import beside
from tests.faults.conftest import Install, fault_settings
from tests.faults.crashing import revive
from tests.faults.invariants import check
from tests.faults.load import Load

pytestmark = pytest.mark.timed

JOBS = 6
GRACE_SECONDS = 0.5
AGAIN_WITHIN = 2.0
LIVE_WITHIN = 20
MARK = "FAULT_TEST_MARK"
EARLY = 0.5
"""Until then none of the processes has got further than its imports, which take seconds where four do them at once."""


@pytest.fixture
def full(install: Install) -> Iterator[Installation]:
    installation = install(Full.mode)
    yield installation
    revive(installation)


def children(full: Installation, worker: Process) -> list[int]:
    """The processes of a worker that take jobs."""
    found = full.client.get("/v1/workers").json()["data"]
    return [one["pid"] for one in found if one["parent_pid"] == worker.pid and one["state"] == "live"]


def running_in(full: Installation, ledger: Ledger, second: Process, count: int = JOBS) -> tuple[list[Json], set[str]]:
    """Jobs with one attempt each, all running, and which of them run in the second worker."""
    full.eventually(lambda: children(full, second), LIVE_WITHIN)
    pids = children(full, second)
    jobs = [full.submit("fault.gated", ledger.gated_args, max_attempts=1) for _ in range(count)]
    full.eventually(lambda: len(ledger.starts()) == count)
    there = {entry.job_id for entry in ledger.starts() if entry.pid in pids}
    assert there, "none runs where the signal goes"
    return jobs, there


def again_after(full: Installation, ledger: Ledger, jobs: set[str], moment: float) -> float:
    """Seconds from then until the last of these jobs ran for the second time."""
    full.eventually(lambda: all(len(ledger.starts(job_id)) == 2 for job_id in jobs))
    return max(ledger.starts(job_id)[1].at for job_id in jobs) - moment


@pytest.mark.fault("sigterm-enough-grace", "SIGTERM to one of two workers under load")
def test_with_enough_grace_every_job_runs_once(full: Installation, ledger: Ledger):
    with beside(full, "worker") as second:
        full.eventually(lambda: children(full, second), LIVE_WITHIN)
        (pid,) = children(full, second)
        with Load(full, "fault.sleep", ledger.args | {"seconds": 0.3}, rate=20, threads=4) as load:
            full.eventually(lambda: [entry for entry in ledger.starts() if entry.pid == pid])
            second.ask_to_end()
            assert second.wait() == 0
            ended_at = time.monotonic()
            full.eventually(lambda: [entry for entry in ledger.starts() if entry.at > ended_at])
            load.stop()
    known = check(full, ledger, load.accepted, faults=0)
    assert set(Counter(entry.job_id for entry in ledger.starts()).values()) == {1}
    assert {row.state for row in known.rows_of_test()} == {"succeeded"}
    assert not psutil.pid_exists(pid)


@pytest.mark.fault("sigterm-little-grace", "SIGTERM to one of two workers whose jobs take longer than its grace")
def test_what_is_interrupted_runs_again_at_once_elsewhere_and_has_lost_no_attempt(full: Installation, ledger: Ledger):
    with beside(full, "worker", JOBMILL_GRACE_SECONDS=str(GRACE_SECONDS)) as second:
        jobs, interrupted = running_in(full, ledger, second)
        second.ask_to_end()
        asked_at = time.monotonic()
        again = again_after(full, ledger, interrupted, asked_at + GRACE_SECONDS)
        assert second.wait() == 0
    assert again < AGAIN_WITHIN
    figures.keep("sigterm-little-grace", "running again after its grace", again, "s")
    _end_well(full, ledger, jobs, interrupted, "interrupt")


@pytest.mark.fault("sigterm-twice", "SIGTERM to one of two workers, and again while it drains")
def test_a_second_signal_ends_a_worker_at_once_and_its_jobs_run_again_elsewhere(full: Installation, ledger: Ledger):
    with beside(full, "worker") as second:
        jobs, interrupted = running_in(full, ledger, second)
        second.ask_to_end()
        full.eventually(lambda: '"worker_draining"' in second.words)
        second.send(signal.SIGTERM)
        again_at = time.monotonic()
        assert second.wait(AGAIN_WITHIN) == 128 + signal.SIGTERM
        again = again_after(full, ledger, interrupted, again_at)
    assert again < AGAIN_WITHIN
    figures.keep("sigterm-twice", "running again after the second", again, "s")
    _end_well(full, ledger, jobs, interrupted, "interrupt")


@pytest.mark.fault("sigterm-twice", "SIGTERM to one of two dispatchers, and again at once, under load")
def test_a_second_signal_ends_a_dispatcher_at_once_and_another_goes_on(full: Installation, ledger: Ledger):
    leader = full.processes["dispatcher"]
    with beside(full, "dispatcher") as standby:
        full.eventually(lambda: '"publisher_connected"' in standby.words, LIVE_WITHIN)
        with Load(full, "fault.quick", ledger.args, rate=20, threads=4) as load:
            full.eventually(lambda: len(ledger.ends()) >= JOBS)
            leader.ask_to_end()
            leader.send(signal.SIGTERM)
            assert leader.wait(AGAIN_WITHIN) in {0, 128 + signal.SIGTERM}  # it may have ended by the first
            ended_at = time.monotonic()
            full.eventually(lambda: sum(entry.at > ended_at for entry in ledger.ends()) >= JOBS, LIVE_WITHIN)
            load.stop()
        leader.start()
        known = check(full, ledger, load.accepted, faults=0)
    assert {row.state for row in known.rows_of_test()} == {"succeeded"}


def _end_well(full: Installation, ledger: Ledger, jobs: list[Json], interrupted: set[str], move: str) -> None:
    ledger.open_gate()
    known = check(full, ledger, jobs, faults=1)
    assert {(row.state, row.attempt) for row in known.rows_of_test()} == {("succeeded", 1)}
    for job in jobs:
        told = [event.move for event in known.history(job["id"])]
        assert told == ([move] if job["id"] in interrupted else [])


# At boot


@pytest.fixture
def mark() -> Iterator[str]:
    """What a test's processes have in their environment, and all that they start."""
    made = secrets.token_hex(8)
    yield made
    for process in marked(made):
        process.kill()


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that carry the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def processes_to_boot(full: Installation, folder: Path, mark: str) -> list[Process]:
    """One of each kind, to run beside the installation's own."""
    own = {
        name: metrics_port() | {"PORT": str(free_port()), MARK: mark} for name in ("api", "dispatcher", "worker", "up")
    }
    alone = {"up": fault_settings() | {"JOBMILL_DATA_DIR": str(folder / "data")}}
    return [Process(name, settings=alone.get(name, full.settings) | more, folder=folder) for name, more in own.items()]


@pytest.mark.fault("sigterm-at-boot", "SIGTERM to api, dispatcher, worker and up at two moments of their start")
@pytest.mark.parametrize("after", [0.4, 1.3])
def test_a_signal_at_boot_leaves_nothing_behind(
    after: float, full: Installation, ledger: Ledger, tmp_path: Path, mark: str
):
    _end_at_boot(full, ledger, tmp_path, mark, after)


@pytest.mark.long
@pytest.mark.fault("sigterm-at-boot", "the same at every fifth of a second of the first four")
@pytest.mark.parametrize("after", [fifths / 5 for fifths in range(1, 21)])
def test_a_signal_at_any_moment_of_boot_leaves_nothing_behind(
    after: float, full: Installation, ledger: Ledger, tmp_path: Path, mark: str
):
    _end_at_boot(full, ledger, tmp_path, mark, after)


def _end_at_boot(full: Installation, ledger: Ledger, folder: Path, mark: str, after: float) -> None:
    booting = processes_to_boot(full, folder, mark)
    for process in booting:
        process.start()
    time.sleep(after)
    assert after > EARLY or not any(process.words for process in booting)
    for process in booting:
        process.ask_to_end()
    ended = {process.name: process.wait() for process in booting}
    # -15: before it could listen to signals, and so before it had done anything.
    assert set(ended.values()) <= {0, -signal.SIGTERM}, [process.words for process in booting]
    full.eventually(lambda: not marked(mark), 2)
    living = [pid for (pid,) in full.sql("SELECT pid FROM workers WHERE stopped_at IS NULL")]
    assert all(psutil.pid_exists(pid) for pid in living), living
    *_, up = booting
    # Whatever it left of its database can be begun with.
    upgraded = jobmill("db", "upgrade", settings=up.settings, folder=folder)
    assert upgraded.returncode == 0, upgraded.stderr
    check(full, ledger, [full.submit("fault.quick", ledger.args)], faults=0)
