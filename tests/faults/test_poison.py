"""A handler that takes its process down whenever it runs: its job is buried, and none of those that ran beside it."""

import pytest

from tests.acceptance.installation import Full, Installation
from tests.acceptance.ledger import Ledger
from tests.faults.at_rest import complete
from tests.faults.conftest import Install
from tests.faults.invariants import check

THREADS = 4
STRIKES_BESIDE = 2
LOST_TOGETHER_WITHIN = 40
BURIED_WITHIN = 120
"""After two tries in vain, each of which is followed by half a minute at most."""


@pytest.fixture(scope="module")
def full(install: Install) -> Installation:
    return complete(install(Full.mode, JOBMILL_PROCESSES="1", JOBMILL_THREADS=str(THREADS)), 1)


@pytest.mark.timeout(300)
@pytest.mark.fault("handler-exits", "os._exit in a handler at each of its runs, beside three others on four threads")
def test_a_poisonous_job_is_buried_and_no_neighbour_with_it(full: Installation, ledger: Ledger):
    full.wait_until_ready()
    neighbours = [full.submit("fault.gated", ledger.gated_args, max_attempts=1) for _ in range(THREADS - 1)]
    full.eventually(lambda: len(ledger.starts()) == len(neighbours))
    poison = full.submit("fault.poison", ledger.args | {"beside": len(neighbours)}, max_attempts=1)
    jobs = [poison, *neighbours]

    full.eventually(lambda: all(full.job(job["id"])["lost"] >= STRIKES_BESIDE for job in jobs), LOST_TOGETHER_WITHIN)
    ledger.open_gate()
    full.eventually(lambda: full.job(poison["id"])["state"] == "dead", BURIED_WITHIN)
    for job in neighbours:
        full.succeeded(job, BURIED_WITHIN)
    # The process that the last strike took may still be coming back.
    full.wait_until_ready()

    known = check(full, ledger, jobs, faults=STRIKES_BESIDE + 1)
    assert {known.rows[job["id"]].lost for job in neighbours} == {STRIKES_BESIDE}
    dead = full.job(poison["id"])
    assert (dead["lost"], dead["error"]["code"]) == (STRIKES_BESIDE + 1, "lost")
    assert "exited with status 7" in dead["error"]["message"]
    letter = full.client.get(f"/v1/dead-letters/{poison['id']}").json()
    assert letter["error"]["code"] == "lost"
    ends = [(attempt["move"], attempt["state"], attempt["reason"]) for attempt in letter["attempts"]]
    assert ends == [
        ("rescue", state, "its process exited with status 7") for state in ["queued"] * STRIKES_BESIDE + ["dead"]
    ]
    last = ledger.starts(poison["id"])[-1].pid
    assert {entry.job_id for entry in ledger.starts() if entry.pid == last} <= {poison["id"], *ended_in(ledger, last)}


def ended_in(ledger: Ledger, pid: int) -> set[str]:
    """The jobs whose handler ended in that process."""
    return {entry.job_id for entry in ledger.ends() if entry.pid == pid}
