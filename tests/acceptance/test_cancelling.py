"""Cancelling a job: at once while it waits, soon while it runs, never once it is final."""

import time

from tests.acceptance.installation import Installation
from tests.acceptance.ledger import Ledger

FEW_SECONDS = 5


def test_a_job_that_waits_for_its_time_is_cancelled_at_once_and_never_runs(installation: Installation):
    job = installation.submit("demo.echo", {"value": 1}, delay_seconds=3600)
    answer = installation.client.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    end = installation.job(job["id"])
    assert (end["state"], end["started_at"], end["attempt"]) == ("cancelled", None, 0)
    assert [event["move"] for event in installation.events(job)] == ["cancel"]


def test_a_running_job_is_cancelled_within_a_few_seconds(installation: Installation):
    job = installation.submit("demo.sleep", {"seconds": 600})
    installation.in_state(job, "running")
    asked_at = time.monotonic()
    answer = installation.client.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    assert answer.json()["cancel_requested_at"] is not None
    end = installation.ended(job)
    assert time.monotonic() - asked_at < FEW_SECONDS
    assert (end["state"], end["result"]) == ("cancelled", None)
    assert [event["move"] for event in installation.events(job)] == ["cancel", "stop"]


def test_a_handler_that_catches_every_exception_is_cancelled_all_the_same(installation: Installation, ledger: Ledger):
    job = installation.submit("ledger.stubborn", ledger.gated_args)
    installation.in_state(job, "running")
    installation.client.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
    assert installation.ended(job, FEW_SECONDS)["state"] == "cancelled"
    assert ledger.ends(job["id"]) == []


def test_a_final_job_cannot_be_cancelled(installation: Installation):
    succeeded = installation.succeeded(installation.submit("demo.echo", {"value": 1}))
    dead = installation.ended(installation.submit("demo.fail", {}, max_attempts=1))
    cancelled = installation.submit("demo.echo", {"value": 1}, delay_seconds=3600)
    installation.client.post(f"/v1/jobs/{cancelled['id']}/cancel").raise_for_status()
    for job in (succeeded, dead, cancelled):
        before = installation.job(job["id"])
        answer = installation.client.post(f"/v1/jobs/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (409, "job-is-final")
        assert installation.job(job["id"]) == before
