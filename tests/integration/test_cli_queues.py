"""`jobmill queues` and the client against a real server: an operator stops a queue, limits it, and lets it go."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from cli.main import main
from jobmill_client import Client, Forbidden, InvalidRequest, NotFound
from jobmill_client.queues import Limits
from models import identity
from models.audit import audit_log
from models.database import Database
from models.states import State
from tests.commanding import Run, commanding, served
from tests.doors import Caller, Doors
from tests.factories import jobs_in


@pytest.fixture
def platform(sqlite_database: Database) -> Caller:
    sqlite_database.run(lambda session: jobs_in(session, State.QUEUED, 3, queue="night shift"))
    return Doors(sqlite_database).caller(tenant=None)


@pytest.fixture
def url(platform: Caller) -> Iterator[str]:
    with served(platform) as address:
        yield address


@pytest.fixture
def run(platform: Caller, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    return commanding(monkeypatch, url, platform.token)


def test_a_queue_is_paused_limited_listed_and_resumed(run: Run):
    assert run("queues", "pause", "night shift").stderr == "night shift is paused; no limits.\n"
    limited = run("queues", "limit", "night shift", "--max-running", "3", "--max-per-second", "0.5")
    assert limited.stderr == "night shift is paused; 3 running at most, 0.5 a second at most.\n"
    header, row = run("queues", "list").stdout.splitlines()
    assert header.split()[:3] == ["NAME", "PAUSED", "QUEUED"]
    assert row.split()[:4] == ["night", "shift", "paused", "3"]
    assert run("queues", "limit", "night shift", "--max-running", "none").stderr.endswith("0.5 a second at most.\n")
    assert run("queues", "resume", "night shift").stderr == "night shift is not paused; 0.5 a second at most.\n"


def test_json_is_the_document_alone(run: Run):
    assert json.loads(run("queues", "pause", "night shift", "--json").stdout)["paused"] is True
    assert json.loads(run("queues", "list", "--json").stdout)["data"][0]["counts"]["queued"] == 3


@pytest.mark.parametrize(
    "words",
    [("--max-running", "0"), ("--max-running", "1.5"), ("--max-running", "many"), ("--max-per-second", "nan"), ()],
)
def test_limits_that_are_none_are_wrong_usage(run: Run, words: tuple[str, ...]):
    assert run("queues", "limit", "night shift", *words).exit_code == 2


def test_a_tenant_s_key_is_told_what_it_takes(run: Run, platform: Caller):
    own = platform.doors.caller("default")
    refused = run("queues", "pause", "night shift", key=own.token or "")
    assert refused.exit_code == 1
    assert "platform key" in refused.stderr
    assert run("queues", "list", key=own.token or "").stdout.count("night shift") == 1


def test_a_queue_that_is_not_there_is_said_to_be(run: Run):
    assert "There is no queue 'typo'" in run("queues", "pause", "typo").stderr


def test_the_client_does_the_same(url: str, platform: Caller):
    with Client(url, platform.token) as client:
        assert client.pause_queue("night shift").paused
        assert client.limit_queue("night shift", max_running=3).max_running == 3
        assert client.limit_queue("night shift", max_running=None, max_per_second=0.5).max_running is None
        assert not client.resume_queue("night shift").paused
        (found,) = client.queues()
        assert found.counts.queued == client.queue("night shift").counts.queued == 3
        wrong: Limits = {"max_running": 0}
        with pytest.raises(InvalidRequest):
            client.limit_queue("night shift", **wrong)
        with pytest.raises(NotFound):
            client.queue("typo")
    with Client(url, platform.doors.caller("default").token) as tenant, pytest.raises(Forbidden):
        tenant.pause_queue("night shift")


def test_a_tenant_is_weighed_and_that_is_told(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    directory = {"JOBMILL_DATA_DIR": str((sqlite_database.path or tmp_path).parent)}

    def tenants(*args: str) -> Any:
        return CliRunner().invoke(main, ["tenants", *args], env=directory)

    tenants("create", "acme")
    assert json.loads(tenants("weigh", "acme", "5", "--json").stdout)["weight"] == 5
    assert tenants("weigh", "acme", "0").exit_code == 2
    assert "no tenant 'nobody'" in tenants("weigh", "nobody", "5").stderr
    assert json.loads(tenants("list", "--json").stdout)["data"][0]["weight"] == 5
    with sqlite_database.reading() as session:
        tenant = identity.find_tenant(session, "acme")
        told = select(audit_log.c.detail, audit_log.c.tenant_id).where(audit_log.c.action == "weigh_tenant")
        (entry,) = session.execute(told).all()
    assert tenant is not None
    assert entry.tenant_id == tenant.id
    assert entry.detail == {"name": "acme", "before": {"weight": 1}, "after": {"weight": 5}}
