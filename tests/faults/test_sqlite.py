"""`jobmill up` killed again and again in the middle of its commits: the file is whole, and nothing is lost."""

import os
import random
import signal
import time

import pytest

from tests.acceptance.installation import Embedded
from tests.acceptance.ledger import Ledger
from tests.faults import figures
from tests.faults.conftest import Install
from tests.faults.crashing import family, revive
from tests.faults.health import HealthWatch
from tests.faults.invariants import check
from tests.faults.load import Load

FAULT = "sqlite-killed"


@pytest.mark.timeout(240)
@pytest.mark.fault("sqlite-killed", "kill -9 of `jobmill up` under a load that keeps it committing, again and again")
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
            assert writes_not_yet_in_the_file(installation)
            for pid in family(installation.worker):
                os.kill(pid, signal.SIGKILL)
            assert installation.worker.wait() == -signal.SIGKILL
            assert installation.sql("PRAGMA integrity_check") == [("ok",)]
            assert installation.sql("PRAGMA foreign_key_check") == []
            revive(installation)
        load.stop()
        payments.stop()
    check(installation, ledger, [*load.accepted, *payments.accepted], faults=kills, watch=watch)
    figures.keep(FAULT, "kills in one run", kills, "times")
    figures.keep(FAULT, "jobs accepted, all done once", len(load.accepted) + len(payments.accepted), "jobs")


def writes_not_yet_in_the_file(installation: Embedded) -> int:
    """The bytes of the log of writes that SQLite goes back to after a crash."""
    return (installation.folder / "data" / "jobmill.db-wal").stat().st_size
