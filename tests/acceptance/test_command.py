"""The `jobmill` command for people, against running installations."""

import json
from pathlib import Path
from subprocess import CompletedProcess

from tests.acceptance.installation import Installation
from tests.acceptance.process import jobmill

IRIS = Path(__file__).parents[2] / "examples" / "iris.csv"


def run(installation: Installation, *arguments: str | Path) -> CompletedProcess[str]:
    settings = {"JOBMILL_URL": installation.address, "JOBMILL_API_KEY": installation.key}
    return jobmill(*arguments, settings=settings, folder=installation.folder)


def test_a_file_is_submitted_and_its_result_printed(installation: Installation):
    done = run(installation, "jobs", "submit", "csv.profile", "--arg-file", IRIS, "--tag", "a=b", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["state"], job["result"]["rows"], job["tags"]) == ("succeeded", 150, {"a": "b"})
    assert installation.job(job["id"]) == job


def test_a_job_that_fails_ends_the_command_with_1_and_its_history_can_be_read(installation: Installation):
    asked = ("--arg", "failures=100", "--max-attempts", "2", "--wait", "--json")
    failed = run(installation, "jobs", "submit", "demo.flaky", *asked)
    assert failed.returncode == 1
    assert "Attempt 2 of 100" in failed.stderr
    assert "Traceback" not in failed.stderr
    events = run(installation, "jobs", "events", json.loads(failed.stdout)["id"], "--json")
    assert [event["move"] for event in json.loads(events.stdout)["data"]] == ["bury", "retry"]


def test_a_key_can_be_made_and_revoked_while_the_installation_runs(installation: Installation):
    def keys(*arguments: str) -> str:
        done = jobmill("keys", *arguments, settings=installation.settings, folder=installation.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def read_with(token: str) -> int:
        return installation.client.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code

    made = json.loads(keys("create", "--tenant", "default", "--name", "reader", "--role", "viewer", "--json"))
    assert read_with(made["token"]) == 200
    keys("revoke", made["id"])
    installation.eventually(lambda: read_with(made["token"]) == 401)
