"""Dead letters over the API: found by every filter, read with every attempt, edited, replayed, discarded."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson
import pytest
from werkzeug.test import TestResponse

from jobs import dead_letters, submit
from jobs.scopes import ROLES, Principal
from models import lists, moves
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.documents import moment
from models.moves import Ending
from models.states import State
from tests.doors import JOBS, Caller, Doors, assert_problem
from tests.factories import ago, job_in, row_of, unique
from tests.mishaps import LosesAnswers

DEAD = "/v1/dead-letters"
GROUPS = f"{DEAD}/groups"
LOG = "/v1/audit-log"
BOOM = {"type": "Boom", "message": "no column 17", "code": "exception", "place": "acme.reports:monthly"}
BANG = {"type": "Bang", "message": "too late", "code": "exception", "place": "acme.reports:monthly"}


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


def plant(caller: Caller, state: State = State.DEAD, **columns: Any) -> str:
    told = {"tenant_id": caller.tenant_id, "type": "test.strict", "args": {"number": 1}, "error": BOOM, **columns}
    if state not in {State.DEAD, State.DISCARDED}:
        del told["error"]
    return str(caller.doors.database.run(lambda session: job_in(session, state, **told)).id)


def ids(answer: TestResponse) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json["data"]]


def all_ids(caller: Caller, path: str, limit: int = 2) -> list[str]:
    """Every page of a list."""
    found, cursor = [], ""
    while True:
        answer = caller.get(f"{path}{'&' if '?' in path else '?'}limit={limit}{cursor}")
        found += ids(answer)
        if answer.json["next_cursor"] is None:
            return found
        cursor = f"&cursor={answer.json['next_cursor']}"


def groups(caller: Caller, query: str = "") -> list[dict[str, Any]]:
    answer = caller.get(f"{GROUPS}{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json["data"]
    return found


def patch(caller: Caller, job_id: str, body: Any) -> TestResponse:
    sent = {"Content-Type": "application/json"}
    return caller.request("PATCH", f"{DEAD}/{job_id}", data=orjson.dumps(body), headers=sent)


def replay(caller: Caller, job_id: str) -> TestResponse:
    return caller.post(f"{DEAD}/{job_id}/replay")


def discard(caller: Caller, job_id: str) -> TestResponse:
    return caller.post(f"{DEAD}/{job_id}/discard")


def row(caller: Caller, job_id: str) -> dict[str, Any]:
    with caller.doors.database.reading() as session:
        return row_of(session, UUID(job_id))


def history(caller: Caller, job_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = caller.get(f"{JOBS}/{job_id}/events").json["data"]
    return events


# The list


def test_the_list_has_the_dead_and_nobody_else_newest_or_oldest_first(caller: Caller):
    for state in State:
        if state is not State.DEAD:
            plant(caller, state)
    dead = [plant(caller, finished_at=ago(minutes=age)) for age in (3, 1, 2)]
    newest = [dead[1], dead[2], dead[0]]
    assert ids(caller.get(DEAD)) == ids(caller.get(f"{DEAD}?order=newest")) == newest
    assert ids(caller.get(f"{DEAD}?order=oldest")) == newest[::-1]
    assert all_ids(caller, DEAD) == newest
    assert all_ids(caller, f"{DEAD}?order=oldest") == newest[::-1]


def test_letters_that_died_at_one_moment_are_each_on_one_page(caller: Caller):
    at = ago(minutes=1)
    planted = [plant(caller, finished_at=at) for _ in range(5)]
    assert all_ids(caller, DEAD) == planted[::-1]
    assert all_ids(caller, f"{DEAD}?order=oldest") == planted


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("type=test.echo", [1]),
        ("queue=media", [2]),
        ("error=Bang", [3]),
        ("type=test.strict&error=Boom", [4, 2, 0]),
        ("type=test.strict&queue=default", [4, 3, 0]),
        ("queue=media&error=Bang", []),
        ("type=no.such", []),
        ("error=boom", []),
    ],
)
@pytest.mark.parametrize("looked_at", [1, 5_000], ids=["a page looks at one", "a page looks at all"])
def test_each_filter_and_several_together(
    caller: Caller, query: str, found: list[int], looked_at: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lists, "LOOKED_AT", looked_at)
    different: list[dict[str, Any]] = [{}, {"type": "test.echo"}, {"queue": "media"}, {"error": BANG}, {}]
    planted = [plant(caller, finished_at=ago(minutes=9 - at), **columns) for at, columns in enumerate(different)]
    assert all_ids(caller, f"{DEAD}?{query}") == [planted[at] for at in found]
    assert all_ids(caller, f"{DEAD}?{query}&order=oldest") == [planted[at] for at in reversed(found)]


def test_a_group_finds_what_it_counts(caller: Caller):
    boom = [plant(caller, error=BOOM | {"message": f"no column {number}"}) for number in range(3)]
    plant(caller, error=BANG)
    plant(caller, type="test.echo")
    [group] = [group for group in groups(caller) if group["count"] > 1]
    assert set(all_ids(caller, f"{DEAD}?group={quote(group['group'])}")) == set(boom)
    assert ids(caller.get(f"{DEAD}?group={group['group']}&type=test.echo")) == []


def test_the_times_are_from_one_moment_up_to_another(caller: Caller):
    times = [ago(minutes=minutes) for minutes in (3, 2, 1)]
    planted = [plant(caller, finished_at=at) for at in times]
    after, before = (quote(moment(at)) for at in times[1:])
    assert ids(caller.get(f"{DEAD}?died_after={after}")) == planted[:0:-1]
    assert ids(caller.get(f"{DEAD}?died_before={before}")) == planted[1::-1]
    assert ids(caller.get(f"{DEAD}?died_after={after}&died_before={before}")) == [planted[1]]
    assert ids(caller.get(f"{DEAD}?died_after={after}&type=test.strict&queue=default")) == planted[:0:-1]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("died_after=yesterday", "died_after"),
        ("died_before=0001-01-01T00:00:00Z", "died_before"),
        ("died_before=12345", "died_before"),
        ("order=random", "order"),
        ("group=test.strict", "group"),
        ("group=test.strict:xyz", "group"),
        ("state=dead", "state"),
        ("type=", "type"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_by_name(caller: Caller, query: str, pointer: str):
    document = assert_problem(caller.get(f"{DEAD}?{query}"), 400, "invalid-request")
    assert [error["pointer"] for error in document["errors"]] == [pointer]


def test_a_cursor_holds_for_its_filters_and_order_only(caller: Caller):
    for _ in range(3):
        plant(caller)
    cursor = caller.get(f"{DEAD}?limit=1&order=oldest").json["next_cursor"]
    for path in (DEAD, f"{DEAD}?order=newest", f"{DEAD}?order=oldest&type=test.strict", GROUPS, f"{JOBS}"):
        joined = f"{path}{'&' if '?' in path else '?'}cursor={cursor}"
        assert_problem(caller.get(joined), 400, "invalid-cursor")


def test_fields_leave_members_out_and_those_of_attempts_too(caller: Caller):
    job_id = buried(caller)
    assert caller.get(f"{DEAD}?fields=id,place").json["data"] == [{"id": job_id, "place": BOOM["place"]}]
    assert caller.get(f"{DEAD}/{job_id}?fields=state").json == {"state": "dead"}
    attempts = caller.get(f"{DEAD}/{job_id}?fields=attempts.attempt,attempts.error.type").json
    assert attempts == {"attempts": [{"attempt": 2, "error": {"type": "Boom"}}]}
    assert_problem(caller.get(f"{DEAD}?fields=attempts"), 400, "invalid-request")


def test_reads_carry_a_strong_etag(caller: Caller):
    job_id = plant(caller)
    for path in (DEAD, GROUPS, f"{DEAD}/{job_id}"):
        tag = caller.get(path).headers["ETag"]
        assert caller.get(path, If_None_Match=tag).status_code == 304


def test_a_platform_key_sees_every_tenants_letters(doors: Doors, caller: Caller):
    at = ago(seconds=-3600)  # later than all that other tests have left here
    mine, theirs = plant(caller, finished_at=at), plant(doors.caller(), finished_at=at + timedelta(seconds=1))
    operator = doors.caller(tenant=None)
    assert ids(operator.get(f"{DEAD}?limit=2")) == [theirs, mine]
    assert ids(operator.get(f"{DEAD}?limit=2&type=test.strict&error=Boom")) == [theirs, mine]
    assert ids(caller.get(DEAD)) == [mine]
    assert replay(operator, mine).status_code == 202
    assert [entry["action"] for entry in caller.get(LOG).json["data"]] == ["replay_dead_letter"]
    assert discard(operator, theirs).status_code == 200


# Groups


def test_a_group_tells_how_many_since_when_and_of_what(caller: Caller):
    times = [ago(minutes=minutes) for minutes in (5, 1, 3)]
    messages = [BOOM | {"message": f"no column {number}"} for number in (5, 1, 3)]
    planted = [plant(caller, finished_at=at, error=error) for at, error in zip(times, messages, strict=True)]
    [group] = groups(caller)
    name = group.pop("group")
    assert name.startswith("test.strict:")
    assert caller.get(f"{DEAD}/{planted[0]}").json["group"] == name
    assert group == {
        "type": "test.strict",
        "error_type": "Boom",
        "message": "no column 1",
        "place": "acme.reports:monthly",
        "count": 3,
        "first_seen": moment(times[0]),
        "last_seen": moment(times[1]),
        "sample_id": planted[1],
    }


def test_a_group_is_one_over_queues(caller: Caller):
    for queue in ("default", "media", "default"):
        plant(caller, queue=queue)
    [group] = groups(caller)
    assert group["count"] == 3


def test_a_group_counts_down_and_goes_with_its_last_letter(caller: Caller):
    first, second, third = (plant(caller, finished_at=ago(minutes=age)) for age in (1, 2, 3))
    assert replay(caller, first).status_code == 202
    assert [(group["count"], group["sample_id"]) for group in groups(caller)] == [(2, second)]
    assert discard(caller, second).status_code == 200
    assert [(group["count"], group["sample_id"]) for group in groups(caller)] == [(1, third)]
    assert discard(caller, third).status_code == 200
    assert groups(caller) == []


def test_groups_are_listed_page_by_page_the_last_to_appear_first(caller: Caller):
    for number in range(5):
        plant(caller, error=BOOM | {"type": f"Error{number}"}, finished_at=ago(minutes=9 - number))
    plant(caller, error=BOOM | {"type": "Error2"}, queue="media", finished_at=ago())  # which does not move its group
    seen, cursor = [], ""
    for _ in range(3):
        answer = caller.get(f"{GROUPS}?limit=2{cursor}").json
        seen += [(group["error_type"], group["count"]) for group in answer["data"]]
        cursor = f"&cursor={answer['next_cursor']}"
    assert seen == [("Error4", 1), ("Error3", 1), ("Error2", 2), ("Error1", 1), ("Error0", 1)]
    assert answer["next_cursor"] is None


def test_groups_are_each_tenants_own(doors: Doors, caller: Caller):
    other = doors.caller()
    plant(caller)
    plant(other)
    [mine], [theirs] = groups(caller), groups(other)
    assert (mine["count"], theirs["count"]) == (1, 1)
    assert mine["sample_id"] != theirs["sample_id"]
    samples = {group["sample_id"] for group in groups(doors.caller(tenant=None), "?limit=200")}
    assert {mine["sample_id"], theirs["sample_id"]} <= samples


def test_a_letter_of_an_older_release_has_no_group_and_is_found_all_the_same(caller: Caller):
    job_id = plant(caller, fingerprint=None, error_type=None)
    assert groups(caller) == []
    assert [item["group"] for item in caller.get(DEAD).json["data"]] == [None]
    assert replay(caller, job_id).status_code == 202


# One letter


def buried(caller: Caller) -> str:
    """A letter whose one attempt died of BOOM, by the moves themselves."""
    error = orjson.dumps(BOOM | {"trace": "Traceback: in monthly"}).decode()

    def bury(session: Any) -> str:
        told = {"tenant_id": caller.tenant_id, "type": "test.strict", "args": {"number": 1}}
        ref = job_in(session, State.RUNNING, **told)
        moves.bury(session, [Ending(ref, error=error, reason="attempts exhausted")], "worker:w")
        return str(ref.id)

    return caller.doors.database.run(bury)


def test_a_letter_has_every_attempts_error_with_its_trace(caller: Caller):
    def die(session: Any) -> str:
        queue = unique("queue")
        ref = job_in(session, State.RUNNING, tenant_id=caller.tenant_id, queue=queue, attempt=1)
        for move, error in ((moves.retry, BANG), (moves.rescue, {"type": "WorkerLost"}), (moves.bury, BOOM)):
            told = orjson.dumps(error | {"trace": f"Traceback of {error['type']}"}).decode()
            [moved] = move(session, [Ending(ref, error=told, reason="because")], "worker:w")
            if moved.state is State.QUEUED:
                [claimed] = moves.claim(session, queue, 0, 1, timedelta(minutes=1))
                ref = moves.start(session, [claimed.ref], moved.id)[0].ref
        return str(ref.id)

    job_id = caller.doors.database.run(die)
    document = caller.get(f"{DEAD}/{job_id}").json
    told = [
        (each["move"], each["attempt"], each["error"]["type"], each["error"]["trace"]) for each in document["attempts"]
    ]
    assert told == [
        ("retry", 1, "Bang", "Traceback of Bang"),
        ("rescue", 2, "WorkerLost", "Traceback of WorkerLost"),
        ("bury", 2, "Boom", "Traceback of Boom"),
    ]
    assert document["attempts"][2]["error"]["place"] == document["place"] == BOOM["place"]
    assert document["error"] == {name: BOOM[name] for name in ("type", "message", "code")}


def test_a_job_that_is_not_dead_is_no_letter(caller: Caller):
    for state in State:
        if state is not State.DEAD:
            job_id = plant(caller, state)
            assert str(state) in assert_problem(caller.get(f"{DEAD}/{job_id}"), 404, "not-found")["detail"]
            for act in (replay, discard, lambda who, it: patch(who, it, {"args": {"number": 2}})):
                assert str(state) in assert_problem(act(caller, job_id), 409, "job-not-dead")["detail"]
            assert history(caller, job_id) == []
    assert caller.get(LOG).json["data"] == []


# Replay and discard


def test_a_replayed_letter_is_queued_anew_with_fresh_attempts(doors: Doors, caller: Caller):
    job_id = plant(caller, attempt=5, lost=2)
    doors.rung.clear()
    answer = replay(caller, job_id)
    assert (answer.status_code, answer.headers["Location"]) == (202, f"{JOBS}/{job_id}")
    assert (answer.json["state"], answer.json["attempt"], answer.json["lost"]) == ("queued", 0, 0)
    assert doors.rung.is_set()
    [event] = history(caller, job_id)
    assert (event["move"], event["actor"]) == ("redrive", f"key:{(caller.token or '').split('_')[1]}")
    assert_problem(caller.get(f"{DEAD}/{job_id}"), 404, "not-found")
    assert ids(caller.get(DEAD)) == []


def test_what_an_operator_did_is_in_the_audit_log_with_how_many_before_and_after(caller: Caller):
    replayed, discarded = plant(caller), plant(caller)
    group = groups(caller)[0]["group"]
    replay(caller, replayed)
    discard(caller, discarded)
    entries = caller.get(LOG).json["data"]
    assert [(entry["action"], entry["resource"], entry["resource_id"]) for entry in entries] == [
        ("discard_dead_letter", "dead-letters", discarded),
        ("replay_dead_letter", "dead-letters", replayed),
    ]
    assert [entry["detail"] for entry in entries] == [
        {"count": 1, "group": group, "before": {"state": "dead"}, "after": {"state": state}}
        for state in ("discarded", "queued")
    ]


def test_a_discarded_letter_cannot_be_replayed_and_is_still_a_job(caller: Caller):
    job_id = plant(caller)
    assert discard(caller, job_id).json["state"] == "discarded"
    assert_problem(replay(caller, job_id), 409, "job-not-dead")
    assert_problem(discard(caller, job_id), 409, "job-not-dead")
    assert caller.get(f"{JOBS}/{job_id}").json["state"] == "discarded"
    assert [event["move"] for event in history(caller, job_id)] == ["discard"]


@pytest.mark.parametrize("act", [replay, discard])
def test_of_many_who_do_it_at_once_one_does(caller: Caller, act: Any):
    job_id = plant(caller)
    barrier = threading.Barrier(6, timeout=30)

    def at_once(_: int) -> int:
        barrier.wait()
        return int(act(caller, job_id).status_code)

    with ThreadPoolExecutor(6) as threads:
        answers = sorted(threads.map(at_once, range(6)))
    assert answers == [200 if act is discard else 202] + [409] * 5
    assert len(history(caller, job_id)) == 1
    assert len(caller.get(LOG).json["data"]) == 1


def test_a_letter_whose_unique_key_is_held_stays_dead(caller: Caller):
    job_id = plant(caller, unique_key="customer-42")
    holder = plant(caller, State.QUEUED, unique_key="customer-42")
    assert assert_problem(replay(caller, job_id), 409, "not-unique")["holder"] == holder
    assert ids(caller.get(DEAD)) == [job_id]
    assert caller.post(f"{JOBS}/{holder}/cancel").status_code == 202
    assert replay(caller, job_id).status_code == 202


@pytest.mark.parametrize("act", [replay, discard])
def test_an_answer_that_was_lost_is_not_done_twice_nor_called_a_conflict(
    caller: Caller, act: Any, monkeypatch: pytest.MonkeyPatch
):
    job_id = plant(caller)
    losing = LosesAnswers(caller.doors.database)
    losing.times = 1
    monkeypatch.setattr(caller.doors.services, "database", losing)
    assert act(caller, job_id).status_code in {200, 202}
    assert losing.times == 0
    assert len(history(caller, job_id)) == 1
    assert len(caller.get(LOG).json["data"]) == 1


@pytest.mark.parametrize(
    ("act", "again"), [(replay, dead_letters.replay), (discard, dead_letters.discard)], ids=["replay", "discard"]
)
def test_a_second_try_does_not_pass_off_anothers_doing_as_its_own(doors: Doors, caller: Caller, act: Any, again: Any):
    """The first was not committed, and meanwhile somebody else acted."""
    job_id = plant(caller)
    assert act(doors.caller(tenant=None), job_id).status_code in {200, 202}
    who = Principal("somebody", caller.tenant_id, ROLES["operator"])
    with doors.database.reading() as session, pytest.raises(dead_letters.NotDead):
        again(session, who, UUID(job_id), again=True)


# Edit


def test_edited_args_are_checked_kept_and_told(caller: Caller):
    job_id = plant(caller, args={"number": 1, "names": ["a"]}, checkpoint={"row": 7})
    answer = patch(caller, job_id, {"args": {"number": 2, "names": ["a"]}})
    assert (answer.status_code, answer.json["state"], answer.json["args"]) == (
        200,
        "dead",
        {"number": 2, "names": ["a"]},
    )
    assert answer.json["attempts"] == []
    [event] = history(caller, job_id)
    assert (event["move"], event["state"], event["reason"]) == ("edit", "dead", "args changed at /number")
    [entry] = caller.get(LOG).json["data"]
    assert (entry["action"], entry["resource_id"]) == ("edit_dead_letter", job_id)
    assert entry["detail"]["changes"] == [{"pointer": "/number", "before": 1, "after": 2}]
    assert row(caller, job_id)["checkpoint"] is None
    assert replay(caller, job_id).json["args"] == {"number": 2, "names": ["a"]}


def test_every_fault_of_edited_args_is_told_by_its_place(caller: Caller):
    job_id = plant(caller)
    document = assert_problem(patch(caller, job_id, {"args": {"number": "x", "names": 1}}), 400, "invalid-request")
    assert {error["pointer"] for error in document["errors"]} == {"/args/number", "/args/names"}
    for body in ({}, {"args": []}, {"args": {"number": 2}, "queue": "media"}):
        assert_problem(patch(caller, job_id, body), 400, "invalid-request")
    assert caller.get(f"{DEAD}/{job_id}").json["args"] == {"number": 1}
    assert history(caller, job_id) == []


def test_args_that_are_too_large_are_refused(caller: Caller):
    job_id = plant(caller, type="test.echo")
    assert_problem(patch(caller, job_id, {"args": {"value": "x" * 300_000}}), 413, "args-too-large")


def test_args_of_a_type_that_is_gone_cannot_be_checked(caller: Caller):
    job_id = plant(caller, type="acme.gone")
    document = assert_problem(patch(caller, job_id, {"args": {"x": 1}}), 400, "invalid-request")
    assert [error["code"] for error in document["errors"]] == ["unknown-job-type"]


def test_an_edit_that_changes_nothing_leaves_no_history_and_keeps_the_checkpoint(caller: Caller):
    job_id = plant(caller, checkpoint={"row": 7})
    assert patch(caller, job_id, {"args": {"number": 1}}).status_code == 200
    assert history(caller, job_id) == []
    assert row(caller, job_id)["checkpoint"] == {"row": 7}


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": 1}, {"b": 1}, [{"pointer": "/a", "before": 1}, {"pointer": "/b", "after": 1}]),
        ({"a": None}, {}, [{"pointer": "/a", "before": None}]),
        ({"a": 1}, {"a": 1.0}, [{"pointer": "/a", "before": 1, "after": 1.0}]),
        ({"a": {"b/c": [1, 2]}}, {"a": {"b/c": [2]}}, [{"pointer": "/a/b~1c", "before": [1, 2], "after": [2]}]),
        ({"a": "x"}, {"a": "y" * 500}, [{"pointer": "/a", "before": "x", "after": '"' + "y" * 199 + "…"}]),
    ],
)
def test_the_audit_log_tells_what_changed(caller: Caller, before: Any, after: Any, changes: Any):
    job_id = plant(caller, type="test.echo", args={"value": before})
    assert patch(caller, job_id, {"args": {"value": after}}).status_code == 200
    told = caller.get(LOG).json["data"][0]["detail"]["changes"]
    assert told == [change | {"pointer": f"/value{change['pointer']}"} for change in changes]


def test_of_many_who_edit_at_once_each_is_told_of_what_he_changed_or_to_look_again(caller: Caller):
    job_id = plant(caller)
    barrier = threading.Barrier(6, timeout=30)

    def at_once(number: int) -> TestResponse:
        barrier.wait()
        return patch(caller, job_id, {"args": {"number": number}})

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(at_once, range(10, 16)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    changes = [entry["detail"]["changes"][0] for entry in caller.get(LOG).json["data"]]
    assert len(changes) == sum(answer.status_code == 200 for answer in answers) >= 1
    followed = {change["before"]: change["after"] for change in changes}
    number = 1
    for _ in changes:  # each changed what another had left
        number = followed.pop(number)
    assert caller.get(f"{DEAD}/{job_id}").json["args"]["number"] == number


def test_what_an_edit_tells_of_is_what_it_replaced(shared_postgresql: Database, monkeypatch: pytest.MonkeyPatch):
    """Another's edit is committed after the letter was read and before its arguments are; SQLite has one writer."""
    caller = Doors(shared_postgresql).caller()
    job_id, check = plant(caller), submit.check_args

    def meanwhile(*given: Any) -> None:
        monkeypatch.setattr(submit, "check_args", check)
        assert patch(caller, job_id, {"args": {"number": 5}}).status_code == 200
        check(*given)

    monkeypatch.setattr(submit, "check_args", meanwhile)
    assert patch(caller, job_id, {"args": {"number": 6}}).status_code == 200
    told = [entry["detail"]["changes"][0] for entry in caller.get(LOG).json["data"]]
    assert {(change["before"], change["after"]) for change in told} == {(1, 5), (5, 6)}


def test_an_edit_whose_answer_was_lost_is_told_once(caller: Caller, monkeypatch: pytest.MonkeyPatch):
    job_id = plant(caller)
    losing = LosesAnswers(caller.doors.database)
    losing.times = 1
    monkeypatch.setattr(caller.doors.services, "database", losing)
    assert patch(caller, job_id, {"args": {"number": 2}}).status_code == 200
    assert len(history(caller, job_id)) == 1
    [entry] = caller.get(LOG).json["data"]
    assert entry["detail"]["changes"] == [{"pointer": "/number", "before": 1, "after": 2}]


def test_the_groups_address_takes_none_of_a_letters_methods(caller: Caller):
    """To the router it is that of a letter of this name as well."""
    for answer in (caller.request("OPTIONS", GROUPS), caller.request("PATCH", GROUPS)):
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert_problem(caller.request("PATCH", GROUPS), 405, "method-not-allowed")
    assert caller.request("HEAD", GROUPS).status_code == 200
