"""Handlers that do what no handler should: their jobs end all the same, as do others, and all of it is counted."""

from typing import Any

import pytest

from tests.acceptance.installation import Full
from tests.acceptance.ledger import Ledger
from tests.faults.conftest import Install
from tests.faults.figures import keep
from tests.faults.invariants import check

pytestmark = pytest.mark.timed

ONE_FAULT = {"times": 1}
GIL_SECONDS = 3
FAULTS = {
    "fault.exit": "handler-exits",
    "fault.segfault": "handler-segfaults",
    "fault.base": "handler-raises-baseexception",
    "fault.gil": "handler-holds-gil",
}


@pytest.mark.fault("handler-exits", "os._exit in the handler, once")
@pytest.mark.fault("handler-segfaults", "a read at address 0 in the handler, once")
@pytest.mark.fault("handler-raises-baseexception", "raise BaseException in the handler, once")
@pytest.mark.fault("handler-holds-gil", "one regular expression that backtracks for about three seconds")
@pytest.mark.parametrize(
    ("job_type", "args"),
    [
        ("fault.exit", ONE_FAULT),
        ("fault.segfault", ONE_FAULT),
        ("fault.base", ONE_FAULT),
        ("fault.gil", {"seconds": GIL_SECONDS}),
    ],
)
def test_a_handler_that_misbehaves_costs_nobody_a_job(
    job_type: str, args: dict[str, Any], install: Install, ledger: Ledger
):
    installation = install(Full.mode)
    waiting = [installation.submit("fault.sleep", ledger.args | {"seconds": 0.5}) for _ in range(4)]
    bad = installation.submit(job_type, ledger.args | args)
    known = check(installation, ledger, [bad, *waiting], faults=1)

    assert {known.rows[job["id"]].state for job in [bad, *waiting]} == {"succeeded"}
    repeated = job_type != "fault.gil"
    assert len(ledger.starts(bad["id"])) == 1 + repeated
    if repeated:
        first, second = ledger.starts(bad["id"])
        keep(FAULTS[job_type], "running again after", second.at - first.at, "s")
    died = job_type in {"fault.exit", "fault.segfault"}
    assert [event.move for event in known.history(bad["id"])] == (["rescue"] if died else ["retry"] * repeated)
    if not repeated:
        (start,), (end,) = ledger.starts(bad["id"]), ledger.ends(bad["id"])
        assert end.at - start.at > GIL_SECONDS / 2  # it did hold it
        keep(FAULTS[job_type], "held for", end.at - start.at, "s")


def test_a_handler_that_takes_memory_gives_it_back_and_is_done(install: Install, ledger: Ledger):
    installation = install(Full.mode)
    job = installation.submit("fault.memory", ledger.args | {"megabytes": 64})
    check(installation, ledger, [job], faults=0)
    assert installation.job(job["id"])["state"] == "succeeded"


@pytest.mark.fault("handler-never-returns", "a handler that swallows every interrupt, cancelled; it yields at its gate")
def test_a_handler_that_swallows_every_interrupt_ends_cancelled_or_done_once_it_lets_go(
    install: Install, ledger: Ledger
):
    installation = install(Full.mode)
    job = installation.submit("fault.never", ledger.gated_args)
    installation.eventually(lambda: ledger.starts(job["id"]))
    installation.client.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
    installation.eventually(lambda: "handler_interrupted" in installation.worker.words)
    ledger.open_gate()
    check(installation, ledger, [job], faults=0)
    assert installation.job(job["id"])["state"] in {"succeeded", "cancelled"}
