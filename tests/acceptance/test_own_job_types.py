"""A user's own job types, from a module named in JOBMILL_JOBS."""

from tests.acceptance.installation import Installation
from tests.acceptance.ledger import Ledger

PAYMENTS = "CREATE TABLE IF NOT EXISTS payments (job_id text PRIMARY KEY, attempt integer, amount integer)"


def payments(installation: Installation, job_id: str) -> list[tuple[int, int]]:
    return installation.sql(f"SELECT attempt, amount FROM payments WHERE job_id = '{job_id}'")  # noqa: S608 - a UUID


def test_a_users_own_job_type_is_listed_with_its_schema(installation: Installation):
    answer = installation.client.get("/v1/job-types/ledger.import")
    assert answer.status_code == 200
    told = answer.json()
    assert told["description"] == "Goes on after the last page that an earlier attempt finished."
    assert told["args_schema"]["required"] == ["pages", "fail_after"]
    types = [listed["type"] for listed in installation.client.get("/v1/job-types").json()["data"]]
    assert {"ledger.work", "ledger.import", "csv.profile"} <= set(types)


def test_arguments_that_do_not_fit_the_users_model_are_refused(installation: Installation):
    body = {"type": "ledger.import", "args": {"pages": "5", "fail_after": 1}}
    answer = installation.client.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
    assert [flaw["pointer"] for flaw in answer.json()["errors"]] == ["/args/pages"]


def test_progress_can_be_followed_while_the_job_runs(installation: Installation, ledger: Ledger):
    job = installation.submit("ledger.work", ledger.gated_args)
    seen = installation.until(job, lambda now: now["progress"] is not None)
    assert seen["state"] == "running"
    assert seen["progress"] == {"percent": 42.0, "message": "at the gate"}
    ledger.open_gate()
    assert installation.succeeded(job)["result"] == {"attempt": 1}


def test_a_checkpoint_survives_the_attempt_that_failed(installation: Installation):
    job = installation.submit("ledger.import", {"pages": 5, "fail_after": 3})
    end = installation.succeeded(job)
    assert (end["attempt"], end["result"]) == (2, {"pages": [3, 4]})
    (failure,) = installation.events(job)
    assert (failure["move"], failure["error"]["message"]) == ("retry", "page 3 did not come")


def test_what_a_handler_writes_commits_with_its_success_or_not_at_all(installation: Installation):
    installation.sql(PAYMENTS)
    paid = installation.submit("ledger.pay", {"amount": 7, "failures": 1})
    failed = installation.submit("ledger.pay", {"amount": 8, "failures": 9}, max_attempts=2)
    assert installation.succeeded(paid)["attempt"] == 2
    assert payments(installation, paid["id"]) == [(2, 7)]  # the first attempt's row would have been in the way
    assert installation.ended(failed)["state"] == "dead"
    assert payments(installation, failed["id"]) == []


def test_a_handler_in_a_process_of_its_own_crashes_for_itself(installation: Installation, ledger: Ledger):
    told = installation.client.get("/v1/job-types/ledger.crash").json()
    assert (told["isolation"], told["memory_limit_mb"], told["cpu_limit_seconds"]) == ("process", 256, 60)
    beside = installation.submit("ledger.work", ledger.gated_args)
    job = installation.submit("ledger.crash", ledger.gated_args)
    seen = installation.until(job, lambda now: now["progress"] is not None)
    assert (seen["attempt"], seen["progress"]["message"]) == (2, "at the gate")
    ledger.open_gate()
    end = installation.succeeded(job)
    assert (end["result"], end["lost"]) == ({"attempt": 2}, 0)
    (failure,) = installation.events(job)
    assert (failure["move"], failure["error"]["code"]) == ("retry", "crashed")
    assert installation.succeeded(beside)["attempt"] == 1  # on a thread of the same worker, which lives
