"""`jobmill redrive` against a real server: previewed, started, watched, steered."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import UUID

import pytest

from models.database import Database
from models.job import Ref
from models.states import State
from tests.commanding import Run, commanding, served
from tests.doors import Caller, Doors
from tests.factories import jobs_in
from tests.integration.test_redrives import BOOM, end, started, step
from tests.integration.test_redrives import run as run_job


@pytest.fixture
def caller(sqlite_database: Database) -> Caller:
    return Doors(sqlite_database).caller()


@pytest.fixture
def run(caller: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    with served(caller) as url:
        yield partial(commanding(monkeypatch, url, caller.token), "redrive")


def plant(caller: Caller, how_many: int, **columns: Any) -> None:
    told = {"tenant_id": caller.tenant_id, "type": "test.echo", "queue": f"q{caller.tenant_id}", "error": BOOM}
    caller.doors.database.run(lambda session: jobs_in(session, State.DEAD, how_many, **told | columns))


def begun(run: Run, *args: str) -> str:
    result = run("start", *args, "--yes", "--json")
    assert result.exit_code == 0, result.output
    return str(json.loads(result.stdout)["id"])


def test_a_dry_run_tells_what_matches(run: Run, caller: Caller):
    plant(caller, 3)
    result = run("start", "--dry-run", "--error", "Boom")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split() == ["matched", "3"]
    assert "acme.reports:monthly" in result.stdout
    assert json.loads(run("start", "--dry-run", "--error", "Bang", "--json").stdout)["matched"] == 0
    assert json.loads(run("list", "--json").stdout)["data"] == []


def test_it_says_how_many_it_touches_and_asks(run: Run, caller: Caller):
    plant(caller, 2)
    plant(caller, 1, error=BOOM | {"type": "Bang"})
    alone = run("start")
    assert alone.exit_code == 1
    assert "This replays 3 dead letters of 2 groups at 50 a second. Nobody is here to be asked" in alone.stderr
    refused = run("start", "--discard", "--error", "Bang", "--rate", "7", answer="n\n")
    assert "This discards for good 1 dead letter of one group at 7 a second. Go on?" in refused.stderr
    assert "Nothing was done." in refused.stderr
    assert json.loads(run("list", "--json").stdout)["data"] == []
    assert run("start", answer="y\n").exit_code == 0
    assert len(json.loads(run("list", "--json").stdout)["data"]) == 1


def test_what_is_asked_for_is_what_is_sent(run: Run, caller: Caller):
    plant(caller, 1)
    plain = json.loads(run("start", "--yes", "--json").stdout)
    assert (plain["action"], plain["rate_per_second"], plain["abort_when_failure_ratio"]) == ("replay", 50, 0.5)
    assert (plain["priority"], plain["filter"]) == (-100, {})
    words = ["--type", "test.echo", "--died-before", "2100-01-01T00:00:00Z", "--ramp", "9", "--abort-ratio", "0"]
    other = json.loads(run("start", *words, "--keep-priority", "--yes", "--json").stdout)
    assert (other["ramp_seconds"], other["abort_when_failure_ratio"], other["priority"]) == (9, None, None)
    both = run("start", "--priority", "5", "--keep-priority", "--yes")
    assert (both.exit_code, "not both" in both.stderr) == (2, True)
    assert other["filter"] == {"type": "test.echo", "died_before": "2100-01-01T00:00:00Z"}


def test_it_is_paused_resumed_and_after_a_question_cancelled(run: Run, caller: Caller):
    plant(caller, 5)
    redrive_id = begun(run)
    for command, state in (("pause", "paused"), ("resume", "running")):
        result = run(command, redrive_id)
        assert result.exit_code == 0
        assert f"{redrive_id} is {state}: 0 of 5 had their turn." in result.stderr
    asked = run("cancel", redrive_id)
    assert "This ends the redrive with 5 letters whose turn has not come." in asked.stderr
    assert run("cancel", redrive_id, "--yes").exit_code == 0
    again = run("pause", redrive_id)
    assert again.exit_code == 1
    assert "redrive-ended" in again.stderr
    assert run("list").stdout.splitlines()[1].split()[:3] == [redrive_id, "replay", "cancelled"]


def test_watching_tells_each_change_and_ends_with_it(run: Run, caller: Caller):
    plant(caller, 4)
    redrive_id = begun(run)
    database = caller.doors.database
    ref = run_job(database, redrive_id)

    def work() -> None:
        end(database, refs_of(caller))
        step(database, ref)

    later = Timer(0.5, work)
    later.start()
    result = run("watch", redrive_id)
    later.join()
    assert result.exit_code == 0
    assert "running: 4 of 4 had their turn, 4 unanswered" in result.stderr
    assert "succeeded: 4 of 4 had their turn, 4 succeeded again" in result.stderr


def test_watching_one_that_is_aborted_ends_with_exit_code_1_and_the_reason(run: Run, caller: Caller):
    plant(caller, 4)
    redrive_id = begun(run)
    database = caller.doors.database
    ref = started(database, redrive_id)
    step(database, ref)
    end(database, refs_of(caller), die=True)
    step(database, ref)
    result = run("watch", redrive_id)
    assert result.exit_code == 1
    assert "The redrive was aborted. Of the last 4 letters that were answered, 4 died again." in result.stderr


def test_watching_ends_when_the_wait_does(run: Run, caller: Caller):
    plant(caller, 1)
    result = run("watch", begun(run), "--timeout-wait", "0")
    assert result.exit_code == 4
    assert "The redrive is still running." in result.stderr


def refs_of(caller: Caller) -> list[Any]:

    return [Ref(UUID(item["id"]), 0) for item in caller.get("/v1/jobs?type=test.echo").json["data"]]
