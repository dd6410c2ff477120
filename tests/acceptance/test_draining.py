"""A worker that is asked to stop: what runs may finish within the grace period, the rest is given back unharmed."""

import signal

import pytest

from tests.acceptance.installation import Installation
from tests.acceptance.ledger import Ledger


@pytest.mark.fault("sigterm-enough-grace", "SIGTERM to a busy worker with a backlog, both modes")
def test_a_running_job_finishes_and_the_backlog_goes_to_the_next_worker(breakable: Installation, ledger: Ledger):
    running = breakable.submit("ledger.work", ledger.gated_args)
    breakable.eventually(lambda: ledger.starts(running["id"]))
    backlog = [breakable.submit("ledger.work", ledger.args) for _ in range(3)]
    already_drained = breakable.worker.words.count("worker_draining")
    breakable.worker.send(signal.SIGTERM)
    breakable.eventually(lambda: breakable.worker.words.count("worker_draining") > already_drained)
    ledger.open_gate()
    assert breakable.worker.wait() == 0
    assert [entry.job_id for entry in ledger.starts()] == [entry.job_id for entry in ledger.ends()] == [running["id"]]
    breakable.start_worker()
    assert breakable.succeeded(running)["attempt"] == 1
    for job in backlog:
        breakable.succeeded(job)
        assert len(ledger.starts(job["id"])) == len(ledger.ends(job["id"])) == 1
    assert len(ledger.starts(running["id"])) == 1


@pytest.mark.fault("sigterm-little-grace", "SIGTERM with a grace of no seconds, both modes")
def test_without_grace_a_running_job_goes_back_to_the_queue_at_no_cost(breakable: Installation, ledger: Ledger):
    breakable.kill_worker(signal.SIGTERM)
    breakable.worker.settings["JOBMILL_GRACE_SECONDS"] = "0"
    breakable.start_worker()
    job = breakable.submit("ledger.work", ledger.gated_args, max_attempts=1)
    breakable.eventually(lambda: ledger.starts(job["id"]))
    assert breakable.kill_worker(signal.SIGTERM) == 0
    assert ledger.ends(job["id"]) == []
    if breakable.mode == "full":  # embedded, nobody is left to ask
        given_back = breakable.job(job["id"])
        # A dispatcher that saw the worker a moment ago may have put it on the broker again, for the next one.
        assert given_back["state"] in {"queued", "dispatched"}
        assert (given_back["attempt"], given_back["worker_id"]) == (0, None)
    breakable.start_worker()
    ledger.open_gate()
    end = breakable.succeeded(job)
    assert (end["attempt"], end["lost"]) == (1, 0)
    assert [event["move"] for event in breakable.events(job)] == ["interrupt"]
    assert [entry.attempt for entry in ledger.starts(job["id"])] == [1, 1]
    assert len(ledger.ends(job["id"])) == 1
