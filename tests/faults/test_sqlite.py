"""`jobmill up` killed again and again in the middle of its commits: the file is whole, and nothing is lost."""

import os
import random
import signal
import time

import pytest

from tests.acceptance.installation import Embedded, Installation
from tests.acceptance.ledger import Ledger
from tests.faults import figures
from tests.faults.conftest import Install
from tests.faults.crashing import await_death, family, revive, start_armed
from tests.faults.evidence import rows
from tests.faults.health import HealthWatch
from tests.faults.invariants import check
from tests.faults.load import Load

FAULT = "sqlite-killed"
POINT, PASSAGE = "worker.in_commit", 10


@pytest.mark.timeout(240)
@pytest.mark.fault(
    "sqlite-killed",
    "kill -9 of `jobmill up` under a load that keeps it committing: at random, and between writes and their COMMIT",
)
@pytest.mark.parametrize("kills", [4, pytest.param(25, marks=pytest.mark.long)])
def test_a_file_whose_writer_is_killed_in_its_commits_stays_whole(kills: int, install: Install, ledger: Ledger):
    installation = install(Embedded.mode)
    with (
        HealthWatch(installation.address) as watch,
        Load(installation, "fault.quick", ledger.args, rate=200, threads=6) as load,
        Load(installation, "fault.pay", ledger.args | {"times": 0}, rate=30, threads=3) as payments,
    ):
        for _ in range(kills):
            accepted = len(load.accepted)
            installation.eventually(lambda before=accepted: len(load.accepted) > before + 20, 20)
            time.sleep(random.uniform(0, 0.2))  # noqa: S311 - not a hope: any moment will do
            for pid in family(installation.worker):
                os.kill(pid, signal.SIGKILL)
            assert installation.worker.wait() == -signal.SIGKILL
            assert_whole(installation)
            # The next one dies between a payment's writes and the COMMIT that it has begun, whatever else it is at.
            reached = start_armed(installation.worker, f"{POINT}:{PASSAGE}=kill")
            await_death(installation, reached, POINT)
            assert_whole(installation)
            assert payments_cut_off(installation, ledger)
            revive(installation)
        load.stop()
        payments.stop()
    check(installation, ledger, [*load.accepted, *payments.accepted], faults=2 * kills, watch=watch)
    figures.keep(FAULT, "kills in one run", 2 * kills, "times")
    figures.keep(FAULT, "jobs accepted, all done once", len(load.accepted) + len(payments.accepted), "jobs")


def assert_whole(installation: Installation) -> None:
    assert installation.sql("PRAGMA integrity_check") == [("ok",)]
    assert installation.sql("PRAGMA foreign_key_check") == []


def payments_cut_off(installation: Installation, ledger: Ledger) -> set[str]:
    """The payments whose handler came to its end and of whose transaction nothing is there."""
    paid = {job_id for (job_id,) in installation.sql("SELECT job_id FROM fault_payments")}
    begun = {row.id: row.lease for row in rows(installation) if row.type == "fault.pay" and row.state == "running"}
    return {one.job_id for one in ledger.ends() if begun.get(one.job_id) == one.lease and one.job_id not in paid}
