"""A handler that takes its process down whenever it runs: its job is buried, and none of those that ran beside it."""

import pytest

from tests.acceptance.installation import Full, Installation
from tests.acceptance.ledger import Ledger
from tests.faults import figures
from tests.faults.at_rest import complete
from tests.faults.conftest import Install
from tests.faults.invariants import check
from tests.faults.load import submit_all_patiently
from workers.duties.rescue import OTHERS_RAN

THREADS = 4
MANY = 200
TOLD_AGAIN = 10
SHORT = "SELECT 1 FROM workers WHERE (seconds_by_type -> 'fault.exit' ->> 0)::float < 0.02"
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


@pytest.mark.fault("handler-exits", "os._exit in a handler amid a message of many, on four threads")
def test_a_process_that_dies_amid_a_message_is_a_loss_of_what_ran_alone(full: Installation, ledger: Ledger):
    full.wait_until_ready()
    # Its dispatcher knows then how short they are, and lets many travel together: ten runs outweigh a slow first one.
    for _ in range(TOLD_AGAIN):
        full.succeeded(full.submit("fault.exit", ledger.args | {"times": 0}))
    full.eventually(lambda: full.sql(SHORT))
    bodies = [{"type": "fault.exit", "args": ledger.args | {"times": 0}, "max_attempts": 1} for _ in range(MANY)]
    bodies[MANY // 2 + MANY // 8]["args"] = ledger.args | {"times": 1}
    jobs = submit_all_patiently(full, bodies)
    for job in jobs:
        full.succeeded(job)

    known = check(full, ledger, jobs, faults=1)
    lost = [job["id"] for job in jobs if known.rows[job["id"]].lost]
    assert jobs[MANY // 2 + MANY // 8]["id"] in lost
    assert len(lost) <= THREADS
    given_back = [job["id"] for job in jobs if [event.move for event in known.history(job["id"])] == ["interrupt"]]
    assert given_back, "none was started with it"
    assert not set(given_back) & set(lost)
    assert {event["reason"] for job_id in given_back for event in full.events({"id": job_id})} == {OTHERS_RAN}
    figures.keep("handler-exits", "given back without a loss, of a message's jobs", len(given_back), "jobs")


def ended_in(ledger: Ledger, pid: int) -> set[str]:
    """The jobs whose handler ended in that process."""
    return {entry.job_id for entry in ledger.ends() if entry.pid == pid}
