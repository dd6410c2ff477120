"""GET /v1/jobs/{id}/explain and the command: who may ask, and what the answer looks like."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import delete
from sqlalchemy.orm import Session

from api import jobs as job_doors
from cli.main import main
from jobmill_client import Client
from models import queue, worker
from models.database import Database
from models.ids import new_id
from models.job import Job, jobs
from models.standing import Standing, standing_of
from models.states import State
from tests.commanding import served
from tests.doors import JOBS, Caller, Doors, assert_problem
from tests.factories import ago, job_in


@pytest.fixture
def doors(database: Database) -> Doors:
    return Doors(database)


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


def plant(caller: Caller, state: State, **columns: Any) -> str:
    told = {"tenant_id": caller.tenant_id, "type": "test.echo", "queue": "media", **columns}
    return str(caller.doors.database.run(lambda session: job_in(session, state, **told)).id)


def explained(caller: Caller, job_id: str) -> Any:
    answer = caller.get(f"{JOBS}/{job_id}/explain")
    assert answer.status_code == 200, answer.text
    return answer.json


def test_of_a_paused_queue_it_tells_since_when_and_by_whom_only_the_platform(caller: Caller):
    job_id = plant(caller, State.QUEUED)
    with caller.doors.database.transaction() as session:
        queue.pause(session, "media", "key:ops1")
    told = explained(caller, job_id)
    assert (told["job_id"], told["state"], told["reason"]) == (job_id, "queued", "queue_paused")
    assert told["message"] == "Its queue media is paused."
    assert told["detail"] == {"queue": "media", "by": None}
    platforms = explained(caller.doors.caller(tenant=None), job_id)
    assert platforms["message"] == "Its queue media is paused, by key:ops1."
    assert platforms["detail"] == {"queue": "media", "by": "key:ops1"}
    assert told["since"] <= told["at"]
    assert [other["reason"] for other in told["also"]] == ["no_dispatcher", "no_worker"]


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_reason(caller: Caller, state: State):
    told = explained(caller, plant(caller, state))
    assert told["state"] == state
    assert told["message"]


def test_only_what_is_asked_for_is_told(caller: Caller):
    answer = caller.get(f"{JOBS}/{plant(caller, State.SUCCEEDED)}/explain?fields=reason,also")
    assert answer.json == {"reason": "succeeded", "also": []}


def test_a_job_that_is_pruned_between_two_reads_is_not_there(caller: Caller, monkeypatch: pytest.MonkeyPatch):
    def pruned_first(session: Session, job: Job) -> Standing | None:
        session.execute(delete(jobs).where(jobs.c.id == job.id))
        return standing_of(session, job)

    monkeypatch.setattr(job_doors, "standing_of", pruned_first)
    assert_problem(caller.get(f"{JOBS}/{plant(caller, State.SUCCEEDED)}/explain"), 404, "not-found")


def test_another_tenants_job_is_not_explained(doors: Doors, caller: Caller):
    job_id = plant(caller, State.QUEUED)
    assert_problem(doors.caller().get(f"{JOBS}/{job_id}/explain"), 404, "not-found")
    assert_problem(caller.get(f"{JOBS}/{new_id()}/explain"), 404, "not-found")
    assert doors.caller(tenant=None).get(f"{JOBS}/{job_id}/explain").status_code == 200


def test_that_rabbitmq_is_away_is_told_of_what_it_should_deliver(database: Database):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    caller = Doors(database, rabbitmq_url=f"amqp://127.0.0.1:{port}/").caller()
    reasons = {state: explained(caller, plant(caller, state))["reason"] for state in State}
    away = {state for state, reason in reasons.items() if reason == "broker_away"}
    assert away == {State.QUEUED, State.DISPATCHED}


@pytest.fixture
def answering(sqlite_database: Database) -> Iterator[tuple[Caller, str]]:
    caller = Doors(sqlite_database).caller()
    with served(caller) as url:
        yield caller, url


def test_the_command_and_the_client_tell_the_same(
    answering: tuple[Caller, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    caller, address = answering
    token = caller.token or ""
    job_id = plant(caller, State.QUEUED, due_at=ago(hours=-1))
    with caller.doors.database.transaction() as session:
        worker.register(session, new_id(), host="h", pid=1, queues=["media"], threads=1, version="1")
        queue.pause(session, "media", "key:ops1")
    environment = {"JOBMILL_URL": address, "JOBMILL_API_KEY": token}

    shown = CliRunner().invoke(main, ["jobs", "explain", job_id], env=environment)
    assert shown.exit_code == 0, shown.output
    lines = [line.split(None, 1) for line in shown.stdout.splitlines()]
    assert ["state", "queued"] in lines
    assert ["reason", "waits_for_time"] in lines
    assert ["also", "queue_paused"] in lines
    assert ["message", "Its queue media is paused."] in lines
    document = json.loads(CliRunner().invoke(main, ["jobs", "explain", job_id, "--json"], env=environment).stdout)
    with Client(address, key=token) as client:
        told = client.job(job_id).explain()
    assert (told.reason, [other.reason for other in told.also]) == (
        document["reason"],
        [other["reason"] for other in document["also"]],
    )
    assert told.until is not None
