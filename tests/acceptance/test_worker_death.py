"""A worker that dies in the middle of a job: the job runs again, soon, and its end is recorded once."""

import time

from tests.acceptance.installation import Installation
from tests.acceptance.ledger import Ledger

AGAIN_WITHIN = 30
KILLED = -9


def test_after_kill_9_of_its_worker_a_job_runs_again_and_finishes_once(breakable: Installation, ledger: Ledger):
    job = breakable.submit("ledger.work", ledger.gated_args, max_attempts=1)
    waiting = breakable.submit("ledger.work", ledger.args)
    breakable.eventually(lambda: ledger.starts(job["id"]))
    if breakable.mode == "embedded":
        assert breakable.kill_worker() == KILLED
        breakable.start_worker()
    else:
        breakable.kill_children()
    killed_at = time.monotonic()
    breakable.eventually(lambda: len(ledger.starts(job["id"])) == 2, AGAIN_WITHIN)
    ledger.open_gate()
    end = breakable.succeeded(job, AGAIN_WITHIN)
    first, second = ledger.starts(job["id"])
    (only,) = ledger.ends(job["id"])
    assert second.at - killed_at < AGAIN_WITHIN
    assert first.pid != second.pid == only.pid
    # A lost worker is not the job's fault: the attempt is given back, or this job, which had only one, would be dead.
    assert (end["lost"], end["attempt"], first.attempt, second.attempt) == (1, 1, 1, 1)
    (rescue,) = breakable.events(job)
    assert (rescue["move"], rescue["state"]) == ("rescue", "queued")
    assert rescue["reason"]
    breakable.succeeded(waiting)
    assert len(ledger.starts(waiting["id"])) == len(ledger.ends(waiting["id"])) == 1
