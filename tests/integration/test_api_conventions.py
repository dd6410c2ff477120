"""What holds for every operation by its declaration alone: fieldsets, entity tags, all flaws at once."""

from typing import Any

import pytest
from sqlalchemy import Engine, event

from models.dialect import POSTGRESQL, SQLITE
from models.states import State
from tests.doors import JOBS, Caller, Doors, assert_problem
from tests.factories import job_in


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


def plant(doors: Doors, caller: Caller, state: State, **columns: Any) -> str:
    return str(doors.database.run(lambda session: job_in(session, state, tenant_id=caller.tenant_id, **columns)).id)


# Sparse fieldsets


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("id", {"id"}),
        ("id,state", {"id", "state"}),
        ("state,id,state", {"id", "state"}),
        ("progress", {"progress": {"percent": 12.5, "message": "half"}}),
        ("progress.percent", {"progress": {"percent": 12.5}}),
        ("progress.percent,progress.message", {"progress": {"percent": 12.5, "message": "half"}}),
        ("progress.percent,progress", {"progress": {"percent": 12.5, "message": "half"}}),
        ("args,result,error", {"args", "result", "error"}),
        ("error.code", {"error": None}),
    ],
)
def test_only_the_fields_that_are_asked_for_are_answered(
    doors: Doors, caller: Caller, fields: str, expected: set[str] | dict[str, Any]
):
    job_id = plant(doors, caller, State.RUNNING, progress_percent=12.5, progress_message="half")
    full = caller.get(f"{JOBS}/{job_id}").json
    wanted = expected if isinstance(expected, dict) else {name: full[name] for name in expected}
    assert caller.get(f"{JOBS}/{job_id}?fields={fields}").json == wanted
    assert caller.get(f"{JOBS}?fields={fields}").json == {"data": [wanted], "next_cursor": None}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ("", "''"),
        ("id,", "''"),
        ("nope", "'nope'"),
        ("id,nope,none", "'nope', 'none'"),
        ("progress.nope", "'progress.nope'"),
        ("progress.percent.x", "'progress.percent.x'"),
        ("args.value", "'args.value'"),
        (".id", "'.id'"),
        ("id.", "'id.'"),
        ("ID", "'ID'"),
        (" id", "' id'"),
        ("tenant_id", "'tenant_id'"),
        ("lease", "'lease'"),
    ],
)
def test_an_unknown_field_is_named(caller: Caller, fields: str, named: str):
    for path in (JOBS, f"{JOBS}/{caller.submit()['id']}"):
        (flaw,) = assert_problem(caller.get(f"{path}?fields={fields}"), 400, "invalid-request")["errors"]
        assert (flaw["in"], flaw["pointer"], flaw["code"]) == ("query", "fields", "unknown-field")
        assert f"There is no field {named}." in flaw["detail"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/job-types", "type,limits.max_attempts"),
        ("/v1/job-types/test.echo", "type"),
        ("/v1/workers", "id,state"),
        (f"{JOBS}/{{}}/events", "move,error.message"),
    ],
)
def test_every_read_takes_fields(doors: Doors, caller: Caller, path: str, fields: str):
    path = path.format(plant(doors, caller, State.RUNNING))
    answer = caller.get(f"{path}?fields={fields}")
    assert answer.status_code == 200
    for item in answer.json.get("data", [answer.json]):
        assert item.keys() == {name.split(".")[0] for name in fields.split(",")}
    assert_problem(caller.get(f"{path}?fields=nope"), 400, "invalid-request")
    assert_problem(caller.get(f"{path}?fields=id&fields=type"), 400, "invalid-request")
    assert_problem(caller.get(f"{path}?fields={'id,' * 700}"), 400, "invalid-request")


@pytest.mark.parametrize(("fields", "read"), [("", True), ("?fields=args,id", True), ("?fields=id,state", False)])
def test_documents_that_nobody_asked_for_are_not_read(doors: Doors, caller: Caller, fields: str, read: bool):
    job_id = caller.submit(args={"value": "large"})["id"]
    seen: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "FROM jobs" in statement:
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        for path in (f"{JOBS}/{job_id}", JOBS):
            assert caller.get(path + fields).status_code == 200
    finally:
        event.remove(Engine, "before_cursor_execute", keep)
    assert [("jobs.args" in statement) for statement in seen] == [read, read]


def test_a_page_of_several_states_takes_fields_too(doors: Doors, caller: Caller):
    for state in (State.SUCCEEDED, State.DEAD):
        plant(doors, caller, state)
    listed = caller.get(f"{JOBS}?state=succeeded&state=dead&fields=state").json["data"]
    assert sorted(item["state"] for item in listed) == ["dead", "succeeded"]


# Conditional reads

READS = [JOBS, f"{JOBS}/{{}}", f"{JOBS}/{{}}/events", "/v1/job-types", "/v1/job-types/test.echo"]


@pytest.mark.parametrize("path", READS)
def test_who_has_the_present_answer_is_told_so_and_nothing_else(caller: Caller, path: str):
    path = path.format(caller.submit()["id"])
    first = caller.get(path)
    tag = first.headers["ETag"]
    assert tag.startswith('"'), "a strong tag"
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = caller.get(path, If_None_Match=known)
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Cache-Control"] == "no-store"
        assert again.headers.get("Retry-After") == first.headers.get("Retry-After")


@pytest.mark.parametrize("known", ["", '"other"', "other", 'W/"other"', '"', ",,,", "\x7f"])
def test_who_has_something_else_gets_the_answer(caller: Caller, known: str):
    job = caller.submit()
    answer = caller.get(f"{JOBS}/{job['id']}", If_None_Match=known)
    assert (answer.status_code, answer.json) == (200, job)


def test_a_tag_changes_with_what_it_names(doors: Doors, caller: Caller):
    job_id = caller.submit()["id"]
    path = f"{JOBS}/{job_id}"
    tags = {caller.get(path).headers["ETag"], caller.get(f"{path}?fields=id,state").headers["ETag"]}
    before = caller.get(path).headers["ETag"]
    caller.post(f"{path}/cancel")
    changed = caller.get(path, If_None_Match=before)
    assert (changed.status_code, changed.json["state"]) == (200, "cancelled")
    assert len(tags | {changed.headers["ETag"]}) == 3


def test_head_answers_as_get_does_without_the_body(caller: Caller):
    path = f"{JOBS}/{caller.submit()['id']}"
    answer = caller.get(path)
    head = caller.request("HEAD", path)
    assert (head.status_code, head.data) == (200, b"")
    assert (head.headers["ETag"], head.headers["Content-Length"]) == (answer.headers["ETag"], str(len(answer.data)))


def test_what_changes_something_has_no_tag(caller: Caller):
    answer = caller.post(JOBS, {"type": "test.echo"}, If_None_Match="*")
    assert answer.status_code == 202
    assert "ETag" not in answer.headers


def test_a_problem_has_no_tag(caller: Caller):
    answer = caller.get(f"{JOBS}/nothing", If_None_Match="*")
    assert_problem(answer, 404, "not-found")
    assert "ETag" not in answer.headers


def test_the_description_of_the_api_is_read_without_a_key_and_conditionally(doors: Doors):
    nobody = Caller(doors, None)
    answer = nobody.get("/openapi.json")
    assert answer.json["openapi"] == "3.1.0"
    assert "SubmitBody.test.echo" in answer.json["components"]["schemas"]
    assert nobody.get("/openapi.json", If_None_Match=answer.headers["ETag"]).status_code == 304


# All flaws at once


@pytest.mark.parametrize(
    ("members", "pointers"),
    [
        ({"who": 1, "args": {"number": "x"}}, {"/who", "/args/number"}),
        ({"who": 1, "args": {}}, {"/who", "/args/number"}),
        ({"who": 1}, {"/who", "/args/number"}),
        ({"args": 1, "priority": 1000}, {"/args", "/priority"}),
        (
            {"priority": "1", "args": {"number": 1, "names": [1]}, "max_attempts": 9},
            {"/priority", "/args/names/0", "/max_attempts"},
        ),
        ({"timeout_seconds": 9999, "queue": "Q", "args": {"number": 1}}, {"/timeout_seconds", "/queue"}),
        ({"type": "no.such", "who": 1}, {"/type", "/who"}),
        ({"type": 1, "who": 1}, {"/type", "/who"}),
        ({"due_at": "2027-01-01T00:00:00Z", "delay_seconds": 1, "who": 1, "args": {"number": 1}}, {"/who", ""}),
        ({"due_at": "2027-01-01T00:00:00Z", "delay_seconds": 1}, {"", "/args/number"}),
    ],
)
def test_everything_wrong_with_a_submission_is_told_at_once(
    caller: Caller, members: dict[str, Any], pointers: set[str]
):
    answer = caller.post(JOBS, {"type": "test.strict"} | members)
    flaws = assert_problem(answer, 400, "invalid-request")["errors"]
    assert {flaw["pointer"] for flaw in flaws} == pointers
    assert len(flaws) == len(pointers)


def test_wrong_parts_of_all_kinds_are_told_together(caller: Caller):
    answer = caller.post(f"{JOBS}?a=1&b=2", {"type": "test.strict", "who": 1}, Idempotency_Key="é")
    flaws = assert_problem(answer, 400, "invalid-request")["errors"]
    assert {(flaw["in"], flaw["pointer"]) for flaw in flaws} == {
        ("query", "a"),
        ("query", "b"),
        ("header", "Idempotency-Key"),
        ("body", "/who"),
        ("body", "/args/number"),
    }


def test_a_whole_number_may_be_written_with_a_point(caller: Caller):
    job = caller.submit(type="test.strict", args={"number": 5.0}, priority=1.0, max_attempts=2.0, timeout_seconds=7.0)
    assert [job[name] for name in ("priority", "max_attempts", "timeout_seconds")] == [1, 2, 7]
    assert type(job["args"]["number"]) is float, "arguments stay as they were written"
