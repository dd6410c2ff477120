"""Queues over HTTP: what is in them, pausing, resuming, limiting, and who may."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import delete, select

from jobs.scopes import ROLES
from models import queue, worker
from models.audit import audit_log
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.ids import new_id
from models.job import job_events, jobs
from models.states import State
from models.worker import workers
from tests.doors import Caller, Doors, assert_problem
from tests.factories import ago, jobs_in, row_of
from tests.workbench import lent_database

QUEUES = "/v1/queues"
NOTHING = {
    "paused": False,
    "paused_at": None,
    "paused_by": None,
    "max_running": None,
    "max_per_second": None,
    "counts": {"queued": 0, "dispatched": 0, "running": 0, "dead": 0},
    "oldest_waiting_seconds": None,
    "in_per_second": 0.0,
    "out_per_second": 0.0,
    "workers": 0,
}


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def lent(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


@pytest.fixture
def doors(lent: Database) -> Doors:
    """Over a database without jobs, workers and queues: the list is of all there are."""
    with lent.transaction() as session:
        for table in (job_events, jobs, workers, queue.queues):
            session.execute(delete(table))
    return Doors(lent)


@pytest.fixture
def platform(doors: Doors) -> Caller:
    return doors.caller(tenant=None)


def add(doors: Doors, state: State, how_many: int, caller: Caller, **columns: Any) -> list[Any]:
    told = {"tenant_id": caller.tenant_id, **columns}
    return doors.database.run(lambda session: jobs_in(session, state, how_many, **told))


def change(caller: Caller, name: str, **limits: Any) -> Any:
    return caller.request("PATCH", f"{QUEUES}/{name}", json=limits)


def told_of(doors: Doors, name: str) -> list[Any]:
    entries = select(audit_log).where(audit_log.c.resource == "queues", audit_log.c.resource_id == name)
    with doors.database.reading() as session:
        return list(session.execute(entries.order_by(audit_log.c.id)).mappings())


def test_queues_are_listed_by_name_with_all_that_an_operator_asks_for(doors: Doors, platform: Caller):
    blue = doors.caller()
    add(doors, State.QUEUED, 3, blue, queue="media", due_at=ago(minutes=1), created_at=ago(seconds=10))
    add(doors, State.RUNNING, 2, blue, queue="media")
    add(doors, State.DEAD, 4, blue, queue="mail")
    doors.database.run(
        lambda session: worker.register(session, new_id(), host="h", pid=1, queues=("media",), threads=4, version="0")
    )

    mail, media = platform.get(QUEUES).json["data"]
    assert mail == NOTHING | {"name": "mail", "counts": NOTHING["counts"] | {"dead": 4}}
    assert (media["name"], media["workers"]) == ("media", 1)
    assert media["counts"] == {"queued": 3, "dispatched": 0, "running": 2, "dead": 0}
    assert media["in_per_second"] == pytest.approx(3 / 60, rel=0.01)
    assert media["oldest_waiting_seconds"] == pytest.approx(60, abs=20)
    assert platform.get(f"{QUEUES}/mail").json == mail


def test_pages_follow_each_other(doors: Doors, platform: Caller):
    caller = doors.caller()
    for number in range(5):
        add(doors, State.QUEUED, 1, caller, queue=f"q{number}")

    names, path = [], f"{QUEUES}?limit=2&fields=name"
    for _ in range(3):
        page = platform.get(path).json
        names += [one["name"] for one in page["data"]]
        path = f"{QUEUES}?limit=2&fields=name&cursor={page['next_cursor']}"
    assert names == [f"q{number}" for number in range(5)]
    assert page["next_cursor"] is None


def test_a_tenant_sees_its_own_jobs_and_no_queue_that_only_others_use(doors: Doors, platform: Caller):
    blue, red = doors.caller(), doors.caller()
    add(doors, State.QUEUED, 3, blue, queue="media")
    add(doors, State.QUEUED, 7, red, queue="media")
    add(doors, State.QUEUED, 1, red, queue="secret")
    platform.post(f"{QUEUES}/media/pause")

    (seen,) = blue.get(QUEUES).json["data"]
    assert (seen["name"], seen["counts"]["queued"], seen["paused"], seen["paused_by"]) == ("media", 3, True, None)
    assert_problem(blue.get(f"{QUEUES}/secret"), 404, "not-found")
    assert red.get(f"{QUEUES}/media").json["counts"]["queued"] == 7
    assert platform.get(f"{QUEUES}/media").json["counts"]["queued"] == 10


def test_a_pause_takes_back_what_has_not_begun_and_is_told(doors: Doors, platform: Caller):
    blue = doors.caller()
    (waiting,) = add(doors, State.DISPATCHED, 1, blue)
    (running,) = add(doors, State.RUNNING, 1, blue)

    doors.rung.clear()
    answer = platform.post(f"{QUEUES}/default/pause")
    assert answer.status_code == 200
    assert (answer.json["paused"], answer.json["paused_by"]) == (True, f"key:{platform.token.split('_')[1]}")
    assert answer.json["counts"] == {"queued": 1, "dispatched": 0, "running": 1, "dead": 0}
    assert doors.rung.is_set()
    with doors.database.reading() as session:
        assert row_of(session, waiting)["state"] == State.QUEUED
        assert row_of(session, running)["state"] == State.RUNNING
    (entry,) = told_of(doors, "default")
    assert (entry["action"], entry["tenant_id"], entry["actor"]) == ("pause_queue", None, answer.json["paused_by"])
    limits = {"max_running": None, "max_per_second": None}
    assert entry["detail"] == {
        "count": 1,
        "released": 1,
        "before": {"paused_at": None, **limits},
        "after": {"paused_at": answer.json["paused_at"], **limits},
    }


def test_a_queue_is_paused_once_and_resumed(doors: Doors, platform: Caller):
    add(doors, State.QUEUED, 1, doors.caller())
    first = platform.post(f"{QUEUES}/default/pause").json
    again = doors.caller(tenant=None).post(f"{QUEUES}/default/pause").json
    assert [again[name] for name in ("paused_at", "paused_by")] == [first[name] for name in ("paused_at", "paused_by")]
    doors.rung.clear()
    resumed = platform.post(f"{QUEUES}/default/resume")
    assert (resumed.status_code, resumed.json["paused"], resumed.json["paused_at"]) == (200, False, None)
    assert doors.rung.is_set()
    assert platform.post(f"{QUEUES}/default/resume").status_code == 200


def test_limits_are_set_kept_and_taken_away(doors: Doors, platform: Caller):
    add(doors, State.QUEUED, 1, doors.caller())
    assert change(platform, "default", max_running=3).json["max_running"] == 3
    both = change(platform, "default", max_per_second=0.5).json
    assert (both["max_running"], both["max_per_second"]) == (3, 0.5)
    assert change(platform, "default").json["max_running"] == 3
    gone = change(platform, "default", max_running=None).json
    assert (gone["max_running"], gone["max_per_second"]) == (None, 0.5)
    before, after = (told_of(doors, "default")[-1]["detail"][when] for when in ("before", "after"))
    assert (before["max_running"], after["max_running"]) == (3, None)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_running": 0},
        {"max_running": 1.5},
        {"max_running": True},
        {"max_running": "3"},
        {"max_per_second": 0},
        {"max_per_second": -1},
        {"max_per_second": 1e-9},
        {"max_per_second": True},
        {"max_per_second": 1e9},
        {"max": 3},
    ],
)
def test_limits_that_are_none_are_refused(doors: Doors, platform: Caller, limits: Any):
    add(doors, State.QUEUED, 1, doors.caller())
    assert_problem(change(platform, "default", **limits), 400, "invalid-request")
    with doors.database.reading() as session:
        assert queue.find_queue(session, "default") is None


@pytest.mark.parametrize("act", ["pause", "resume", "limit"])
def test_who_changes_a_queue_acts_for_the_platform(doors: Doors, platform: Caller, act: str):
    blue = doors.caller(scopes=ROLES["operator"])
    add(doors, State.QUEUED, 1, blue)

    def knock(caller: Caller, name: str) -> Any:
        return change(caller, name, max_running=1) if act == "limit" else caller.post(f"{QUEUES}/{name}/{act}")

    refused = assert_problem(knock(blue, "default"), 403, "forbidden")
    assert "platform key" in refused["detail"]
    assert_problem(knock(doors.caller(tenant=None, scopes=ROLES["viewer"]), "default"), 403, "forbidden")
    assert_problem(knock(platform, "no-such-queue"), 404, "not-found")
    assert_problem(knock(doors.caller(scopes=ROLES["operator"]), "default"), 404, "not-found")
    assert platform.get(f"{QUEUES}/default").json["paused"] is False
    assert told_of(doors, "no-such-queue") == []
