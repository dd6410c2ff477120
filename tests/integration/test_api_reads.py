"""What a client reads: a job, lists page by page, history, job types, workers."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import moves, worker
from models.dialect import POSTGRESQL, SQLITE
from models.ids import new_id
from models.job import Ref, job_tags
from models.moves import Ending
from models.states import State
from tests.doors import JOBS, Caller, Doors, assert_problem
from tests.factories import job_in, jobs_in, unique

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


def plant(doors: Doors, caller: Caller, state: State, **columns: Any) -> str:
    return str(doors.database.run(lambda session: job_in(session, state, tenant_id=caller.tenant_id, **columns)).id)


def ids_of(document: dict[str, Any]) -> list[str]:
    return [item["id"] for item in document["data"]]


# One job


def test_a_job_is_read_in_each_state(doors: Doors, caller: Caller):
    for state in State:
        job_id = plant(doors, caller, state)
        answer = caller.get(f"{JOBS}/{job_id}")
        final = state in {State.SUCCEEDED, State.DEAD, State.CANCELLED, State.DISCARDED}
        assert (answer.status_code, answer.json["state"]) == (200, state)
        assert ("Retry-After" in answer.headers) is not final
        assert all(
            value is None or MOMENT.fullmatch(value) for name, value in answer.json.items() if name.endswith("_at")
        )


def test_a_jobs_error_and_progress_are_told_and_its_trace_is_not(doors: Doors, caller: Caller):
    job_id = plant(
        doors,
        caller,
        State.DEAD,
        error={"type": "E", "message": "m", "code": "c", "trace": "Traceback: secrets"},
        progress_percent=12.5,
        progress_message=None,
    )
    answer = caller.get(f"{JOBS}/{job_id}")
    assert answer.json["error"] == {"type": "E", "message": "m", "code": "c"}
    assert answer.json["progress"] == {"percent": 12.5, "message": None}
    assert "Traceback" not in answer.text


AN_ID = UUID("01a212f4-7dbc-7132-9793-fcf77937c176")


@pytest.mark.parametrize(
    "job_id", ["1", "jobs", "None", "0" * 36, str(AN_ID)[:-1], AN_ID.hex, f"{{{AN_ID}}}", "%00", "x" * 5000]
)
def test_what_is_no_id_names_no_job(caller: Caller, job_id: str):
    assert_problem(caller.get(f"{JOBS}/{job_id}"), 404, "not-found")
    assert_problem(caller.get(f"{JOBS}/{job_id}/events"), 404, "not-found")
    assert_problem(caller.post(f"{JOBS}/{job_id}/cancel"), 404, "not-found")


# Cancelling


def test_a_waiting_job_is_cancelled_at_once(doors: Doors, caller: Caller):
    for state in (State.QUEUED, State.DISPATCHED):
        job_id = plant(doors, caller, state)
        answer = caller.post(f"{JOBS}/{job_id}/cancel")
        assert (answer.status_code, answer.json["state"]) == (202, State.CANCELLED)
        assert answer.headers["Location"] == f"/v1/jobs/{job_id}"
        assert "Retry-After" not in answer.headers


def test_a_running_job_is_asked_to_stop_as_often_as_one_likes(doors: Doors, caller: Caller):
    job_id = plant(doors, caller, State.RUNNING)
    first, again = (caller.post(f"{JOBS}/{job_id}/cancel") for _ in range(2))
    for answer in (first, again):
        assert (answer.status_code, answer.json["state"]) == (202, State.RUNNING)
        assert "Retry-After" in answer.headers
    assert first.json["cancel_requested_at"] == again.json["cancel_requested_at"] is not None
    assert len(caller.get(f"{JOBS}/{job_id}/events").json["data"]) == 1


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD, State.CANCELLED, State.DISCARDED])
def test_a_final_job_cannot_be_cancelled(doors: Doors, caller: Caller, state: State):
    job_id = plant(doors, caller, state)
    before = caller.get(f"{JOBS}/{job_id}").json
    assert state in assert_problem(caller.post(f"{JOBS}/{job_id}/cancel"), 409, "job-is-final")["detail"]
    assert caller.get(f"{JOBS}/{job_id}").json == before
    assert caller.get(f"{JOBS}/{job_id}/events").json["data"] == []


def test_a_waiting_job_is_made_due(doors: Doors, caller: Caller):
    later = datetime.now(UTC) + timedelta(hours=1)
    job_id = plant(doors, caller, State.QUEUED, due_at=later)

    answer = caller.post(f"{JOBS}/{job_id}/run-now")

    assert (answer.status_code, answer.json["state"]) == (202, State.QUEUED)
    assert datetime.fromisoformat(answer.json["due_at"]) <= datetime.now(UTC) + timedelta(seconds=1)
    assert answer.headers["Location"] == f"/v1/jobs/{job_id}"
    assert doors.rung.is_set()
    (told,) = caller.get(f"{JOBS}/{job_id}/events").json["data"]
    assert (told["move"], told["actor"][:4]) == ("run_now", "key:")


def test_a_job_that_is_due_already_keeps_its_place(doors: Doors, caller: Caller):
    job_id = plant(doors, caller, State.QUEUED)
    before = caller.get(f"{JOBS}/{job_id}").json

    answer = caller.post(f"{JOBS}/{job_id}/run-now")

    assert (answer.status_code, answer.json) == (202, before)
    assert caller.get(f"{JOBS}/{job_id}/events").json["data"] == []


@pytest.mark.parametrize("state", [state for state in State if state is not State.QUEUED])
def test_a_job_that_does_not_wait_cannot_be_made_due(doors: Doors, caller: Caller, state: State):
    job_id = plant(doors, caller, state)
    before = caller.get(f"{JOBS}/{job_id}").json
    assert state in assert_problem(caller.post(f"{JOBS}/{job_id}/run-now"), 409, "job-not-waiting")["detail"]
    assert caller.get(f"{JOBS}/{job_id}").json == before


def test_another_tenants_job_cannot_be_made_due(doors: Doors, caller: Caller):
    job_id = plant(doors, caller, State.QUEUED, due_at=datetime.now(UTC) + timedelta(hours=1))
    assert_problem(doors.caller().post(f"{JOBS}/{job_id}/run-now"), 404, "not-found")
    assert caller.get(f"{JOBS}/{job_id}/events").json["data"] == []


# Lists


def test_jobs_are_found_by_a_tag_newest_first_page_by_page(doors: Doors, caller: Caller):
    doors.caller().submit(tags={"customer": "42"})
    tagged = [caller.submit(tags={"customer": "42", "kind": f"k{number}"})["id"] for number in range(5)]
    caller.submit(tags={"customer": "7"})
    caller.submit()

    first = caller.get(f"{JOBS}?tag.customer=42&limit=3")
    second = caller.get(f"{JOBS}?tag.customer=42&limit=3&cursor={first.json['next_cursor']}")

    assert ids_of(first.json) + ids_of(second.json) == tagged[::-1]
    assert ids_of(caller.get(f"{JOBS}?tag.kind=k3&state=queued").json) == [tagged[3]]
    assert ids_of(caller.get(f"{JOBS}?tag.kind=k3&state=dead").json) == []
    assert ids_of(caller.get(f"{JOBS}?tag.nothing=42").json) == []
    assert_problem(caller.get(f"{JOBS}?tag.customer=7&cursor={first.json['next_cursor']}"), 400, "invalid-cursor")


def test_an_operator_of_all_finds_the_tags_of_every_tenant(doors: Doors, caller: Caller):
    submitted = [someone.submit(tags={"seen.by": "all"})["id"] for someone in (caller, doors.caller())]
    assert ids_of(doors.caller(tenant=None).get(f"{JOBS}?tag.seen.by=all").json) == submitted[::-1]


def test_jobs_are_found_by_their_unique_key_finished_or_not(doors: Doors, caller: Caller):
    done = plant(doors, caller, State.SUCCEEDED, unique_key="u1")
    caller.submit(unique_key="u2")
    waits = caller.submit(unique_key="u1")["id"]
    assert ids_of(caller.get(f"{JOBS}?unique_key=u1").json) == [waits, done]
    assert ids_of(caller.get(f"{JOBS}?unique_key=u1&state=succeeded").json) == [done]
    assert ids_of(doors.caller().get(f"{JOBS}?unique_key=u1").json) == []


@pytest.mark.parametrize(
    "query",
    ["tag.a=1&tag.b=2", "tag=1", "tag.=1", "tag.a=1&tag.a=2", "queue.a=1", "tag.a=%00", "tag.%00=1", "tags.a=1"],
)
def test_a_tag_is_asked_for_by_name_and_one_at_a_time(caller: Caller, query: str):
    assert_problem(caller.get(f"{JOBS}?{query}"), 400, "invalid-request")


def test_a_pruned_jobs_tags_are_gone(doors: Doors, caller: Caller):
    job_id = plant(doors, caller, State.SUCCEEDED, tags={"customer": "42"})
    kept = select(job_tags.c.name).where(job_tags.c.job_id == UUID(job_id))
    assert doors.database.run(lambda session: session.scalars(kept).all()) == ["customer"]
    doors.database.run(lambda session: moves.prune(session, State.SUCCEEDED, timedelta(0), 10_000))
    assert doors.database.run(lambda session: session.scalars(kept).all()) == []


def test_a_page_is_fifty_of_the_newest(doors: Doors, caller: Caller):
    doors.database.run(lambda session: jobs_in(session, State.SUCCEEDED, 51, tenant_id=caller.tenant_id))
    newest = caller.submit()
    page = caller.get(JOBS).json
    assert len(page["data"]) == 50
    assert page["data"][0] == newest
    assert ids_of(page) == sorted(ids_of(page), reverse=True)


@pytest.mark.parametrize("query", ["", "&state=queued&state=succeeded", "&type=test.echo&type=demo.echo"])
def test_paging_meets_each_job_once_while_others_come(doors: Doors, caller: Caller, query: str):
    there = {
        str(ref.id) for ref in doors.database.run(lambda s: jobs_in(s, State.SUCCEEDED, 45, tenant_id=caller.tenant_id))
    }
    seen: list[str] = []
    path = f"{JOBS}?limit=7{query}"
    while path:
        answer = caller.get(path)
        seen += ids_of(answer.json)
        caller.submit()
        cursor = answer.json["next_cursor"]
        if cursor is None:
            assert "Link" not in answer.headers
            break
        link = re.fullmatch(r'<(/v1/jobs\?.*)>; rel="next"', answer.headers["Link"])
        assert link is not None
        assert f"cursor={cursor}" in link[1]
        path = link[1]
    assert len(seen) == len(set(seen))
    assert set(seen) == there


def test_a_last_page_that_is_full_has_no_next(doors: Doors, caller: Caller):
    doors.database.run(lambda session: jobs_in(session, State.SUCCEEDED, 4, tenant_id=caller.tenant_id))
    first = caller.get(f"{JOBS}?limit=2").json
    last = caller.get(f"{JOBS}?limit=2&cursor={first['next_cursor']}").json
    assert (len(last["data"]), last["next_cursor"]) == (2, None)


def test_a_page_that_was_deleted_meanwhile_does_not_break_the_next(doors: Doors, caller: Caller):
    refs = doors.database.run(lambda session: jobs_in(session, State.CANCELLED, 4, tenant_id=caller.tenant_id))
    first = caller.get(f"{JOBS}?limit=2").json
    doors.database.run(lambda session: moves.prune(session, State.CANCELLED, timedelta(0), 10_000))
    late = caller.submit()
    rest = caller.get(f"{JOBS}?limit=2&cursor={first['next_cursor']}").json
    assert rest == {"data": [], "next_cursor": None}
    assert ids_of(first) == [str(ref.id) for ref in refs[:1:-1]]
    assert ids_of(caller.get(JOBS).json) == [late["id"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=queued", {"queued"}),
        ("state=dead", {"dead"}),
        ("state=queued&state=dead", {"queued", "dead"}),
        ("state=running", set()),
        ("type=test.strict", {"strict"}),
        ("type=test.strict&type=demo.other", {"strict", "dead"}),
        ("type=no.such", set()),
        ("queue=media", {"dead"}),
        ("queue=media&state=queued", set()),
        ("state=queued&type=test.strict", {"strict"}),
    ],
)
def test_filters_narrow_a_list(doors: Doors, caller: Caller, query: str, expected: set[str]):
    named = {
        "queued": plant(doors, caller, State.QUEUED, type="test.echo"),
        "dead": plant(doors, caller, State.DEAD, type="demo.other", queue="media"),
        "strict": plant(doors, caller, State.QUEUED, type="test.strict"),
    }
    wanted = {named[name] for name in expected}
    if query == "state=queued" or query.startswith("state=queued&state"):
        wanted.add(named["strict"])
    assert set(ids_of(caller.get(f"{JOBS}?{query}").json)) == wanted


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1.5", "limit"),
        ("limit=1e3", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=%00", "limit"),
        ("cursor=a&cursor=b", "cursor"),
        ("cursor=" + "A" * 401, "cursor"),
        ("state=none", "state"),
        ("state=QUEUED", "state"),
        ("state=", "state"),
        ("state=queued&state=none", "state"),
        ("state=queued,dead", "state"),
        ("type=%00", "type"),
        ("type=a&type=b%00", "type"),
        ("queue=%00", "queue"),
        ("queue=", "queue"),
        ("queue=a&queue=b", "queue"),
        ("offset=10", "offset"),
        ("States=queued", "States"),
        ("=x", ""),
    ],
)
def test_a_wrong_parameter_is_named(caller: Caller, query: str, name: str):
    flaws = assert_problem(caller.get(f"{JOBS}?{query}"), 400, "invalid-request")["errors"]
    assert [(flaw["in"], flaw["pointer"]) for flaw in flaws] == [("query", name)]


@pytest.mark.parametrize("limit", [1, 200])
def test_the_limits_of_a_limit_are_accepted(caller: Caller, limit: int):
    assert caller.get(f"{JOBS}?limit={limit}").status_code == 200


def test_cursors_are_good_for_their_list_and_tenant_only(doors: Doors, caller: Caller):
    other = doors.caller()
    job_id = plant(doors, caller, State.RUNNING)
    for one in (caller, other):
        one.submit()
        one.submit()
    mine, theirs = (one.get(f"{JOBS}?limit=1").json["next_cursor"] for one in (caller, other))
    forged = mine[:-2] + ("AA" if mine[-2:] != "AA" else "BB")
    for cursor in (theirs, forged, "x", job_id):
        assert_problem(caller.get(f"{JOBS}?cursor={cursor}"), 400, "invalid-cursor")
    assert_problem(caller.get(f"{JOBS}/{job_id}/events?cursor={mine}"), 400, "invalid-cursor")
    assert_problem(doors.caller(tenant=None).get(f"{JOBS}?cursor={mine}"), 400, "invalid-cursor")
    assert caller.get(f"{JOBS}?cursor={mine}").status_code == 200


# History


def failed_twice(session: Session, tenant_id: UUID | None) -> Ref:
    queue = unique("queue")
    ref = job_in(session, State.RUNNING, tenant_id=tenant_id, queue=queue)
    error = '{"type": "E", "message": "first", "code": "exception", "trace": "Traceback"}'
    moves.retry(session, [Ending(ref, error=error, delay_seconds=0)], "worker:w")
    (claimed,) = moves.claim(session, queue, 0, 1, timedelta(seconds=60))
    moves.start(session, [claimed.ref], new_id())
    moves.bury(session, [Ending(claimed.ref, error=error.replace("first", "second"), reason="exhausted")], "worker:w")
    return ref


def test_a_jobs_history_is_told_newest_first(doors: Doors, caller: Caller):
    ref = doors.database.run(lambda session: failed_twice(session, caller.tenant_id))
    events = caller.get(f"{JOBS}/{ref.id}/events").json
    assert events["next_cursor"] is None
    assert [(event["move"], event["state"], event["error"]["message"]) for event in events["data"]] == [
        ("bury", "dead", "second"),
        ("retry", "queued", "first"),
    ]
    newest = events["data"][0]
    assert newest == {
        "id": newest["id"],
        "at": newest["at"],
        "move": "bury",
        "state": "dead",
        "attempt": 3,
        "lease": ref.lease + 1,
        "actor": "worker:w",
        "reason": "exhausted",
        "error": {"type": "E", "message": "second", "code": "exception"},
    }
    assert MOMENT.fullmatch(newest["at"])


def test_a_history_has_pages_too(doors: Doors, caller: Caller):
    ref = doors.database.run(lambda session: failed_twice(session, caller.tenant_id))
    first = caller.get(f"{JOBS}/{ref.id}/events?limit=1").json
    second = caller.get(f"{JOBS}/{ref.id}/events?limit=1&cursor={first['next_cursor']}").json
    assert [page["data"][0]["move"] for page in (first, second)] == ["bury", "retry"]
    assert second["next_cursor"] is None
    other = doors.database.run(lambda session: failed_twice(session, caller.tenant_id))
    foreign = caller.get(f"{JOBS}/{other.id}/events?limit=1&cursor={first['next_cursor']}")
    assert_problem(foreign, 400, "invalid-cursor")


# The catalogue


def test_a_job_type_tells_all_that_is_needed_to_submit_one(caller: Caller):
    document = caller.get("/v1/job-types/test.strict").json
    assert document == {
        "type": "test.strict",
        "description": "",
        "queue": "media",
        "args_schema": document["args_schema"],
        "result_schema": {"type": "integer"},
        "retry": {"policy": "exponential", "first_seconds": 1, "factor": 2, "longest_seconds": 3600, "jitter": 0.25},
        "max_attempts": 3,
        "timeout_seconds": 60,
        "limits": {"max_attempts": 4, "timeout_seconds": 120},
        "isolation": "thread",
        "memory_limit_mb": None,
        "cpu_limit_seconds": None,
    }
    assert document["args_schema"]["required"] == ["number"]
    assert document["args_schema"]["properties"]["number"]["type"] == "integer"


def test_the_catalogue_lists_every_type_by_name(caller: Caller):
    listed = caller.get("/v1/job-types").json
    assert [known["type"] for known in listed["data"]] == ["test.echo", "test.strict"]
    assert listed["data"][1] == caller.get("/v1/job-types/test.strict").json
    assert listed["next_cursor"] is None


@pytest.mark.parametrize("name", ["no.such", "test.echo ", "%00", "x" * 5000])
def test_an_unknown_type_is_not_there(caller: Caller, name: str):
    assert_problem(caller.get(f"/v1/job-types/{name}"), 404, "not-found")


def test_workers_are_listed_with_what_they_do(doors: Doors, caller: Caller):
    worker_id = new_id()

    def plant_worker(session: Session) -> None:
        worker.register(session, worker_id, host="h1", pid=7, queues=("a", "b"), threads=3, version="1.2", parent_pid=6)
        job_in(session, State.RUNNING, worker_id=worker_id)

    doors.database.run(plant_worker)
    listed = {known["id"]: known for known in caller.get("/v1/workers").json["data"]}
    document = listed[str(worker_id)]
    assert MOMENT.fullmatch(document.pop("started_at"))
    assert MOMENT.fullmatch(document.pop("heartbeat_at"))
    assert document == {
        "id": str(worker_id),
        "state": "live",
        "host": "h1",
        "pid": 7,
        "parent_pid": 6,
        "queues": ["a", "b"],
        "threads": 3,
        "busy": 1,
        "version": "1.2",
    }


def test_the_catalogue_has_pages_too(caller: Caller):
    first = caller.get("/v1/job-types?limit=1")
    second = caller.get(f"/v1/job-types?limit=1&cursor={first.json['next_cursor']}")
    assert [page.json["data"][0]["type"] for page in (first, second)] == ["test.echo", "test.strict"]
    assert first.headers["Link"].startswith("</v1/job-types?limit=1&cursor=")
    assert second.json["next_cursor"] is None
    assert_problem(caller.get(f"/v1/workers?cursor={first.json['next_cursor']}"), 400, "invalid-cursor")


def test_workers_have_pages_too(doors: Doors, caller: Caller):
    def plant_workers(session: Session) -> None:
        for pid in range(5):
            worker.register(session, new_id(), host="h", pid=pid, queues=("a",), threads=1, version="1")

    doors.database.run(plant_workers)
    seen: list[str] = []
    path = "/v1/workers?limit=2"
    while path:
        answer = caller.get(path)
        seen += ids_of(answer.json)
        path = f"/v1/workers?limit=2&cursor={cursor}" if (cursor := answer.json["next_cursor"]) else ""
    assert seen == ids_of(caller.get("/v1/workers?limit=200").json)
    assert len(seen) >= 5


@pytest.mark.parametrize("path", ["/v1/job-types/test.echo", f"{JOBS}/{UUID(int=0)}"])
def test_what_is_no_list_takes_no_limit(caller: Caller, path: str):
    flaws = assert_problem(caller.get(f"{path}?limit=1"), 400, "invalid-request")["errors"]
    assert [(flaw["in"], flaw["pointer"]) for flaw in flaws] == [("query", "limit")]


def test_a_cursor_is_good_for_the_filters_it_was_given_out_for(caller: Caller):
    for _ in range(3):
        caller.submit()
    asked = f"{JOBS}?limit=1&type=test.echo&state=queued&type=test.strict"
    cursor = caller.get(asked).json["next_cursor"]
    for same in (
        asked,
        f"{JOBS}?type=test.strict&state=queued&type=test.echo",
        f"{asked}&fields=id",
        f"{JOBS}?limit=200&state=queued&type=test.echo&type=test.strict",
    ):
        assert caller.get(f"{same}&cursor={cursor}").status_code == 200
    for other in (
        f"{JOBS}?limit=1",
        f"{JOBS}?limit=1&type=test.echo&state=queued",
        f"{JOBS}?limit=1&type=test.echo&state=dead&type=test.strict",
        f"{asked}&queue=default",
    ):
        assert_problem(caller.get(f"{other}&cursor={cursor}"), 400, "invalid-cursor")
