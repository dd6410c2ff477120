"""The tools together: a worker killed under a steady load of clients, and the API too."""

import pytest

from tests.acceptance.installation import Embedded, Full
from tests.acceptance.ledger import Ledger
from tests.faults.conftest import Install
from tests.faults.crashing import kill_family, let_time_pass, revive
from tests.faults.health import HealthWatch
from tests.faults.invariants import check
from tests.faults.load import Load

pytestmark = pytest.mark.timed

CANARY = "canary-3b1f0c"


@pytest.mark.parametrize(("mode", "victim"), [(Embedded.mode, "up"), (Full.mode, "worker"), (Full.mode, "api")])
def test_nothing_is_lost_and_nothing_counts_twice_when_it_is_killed_under_load(
    mode: str, victim: str, install: Install, ledger: Ledger
):
    installation = install(mode)
    args = ledger.args | {"seconds": 0.1, "canary": CANARY}
    with (
        HealthWatch(installation.address) as watch,
        Load(installation, "fault.sleep", args, rate=20, threads=4, most=60) as load,
    ):
        installation.eventually(lambda: len(ledger.starts()) >= 10, 20)
        let_time_pass(installation, kill_family(installation.processes[victim]))
        revive(installation)
        load.wait()

    assert load.report() == {"submitted": 60, "accepted": 60, "refused": 0}
    known = check(installation, ledger, load.accepted, faults=1, watch=watch, canaries=[CANARY])
    assert {known.rows[job["id"]].state for job in load.accepted} == {"succeeded"}
