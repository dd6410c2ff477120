"""POST /v1/jobs/batch: each job accepted or refused by itself, in order, on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event

from api import body
from models.database import Database
from tests.doors import JOBS, Caller, Doors, assert_problem

BATCH = f"{JOBS}/batch"


@pytest.fixture
def doors(database: Database) -> Doors:
    return Doors(database)


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


def echo(value: Any = None, **members: Any) -> dict[str, Any]:
    return {"type": "test.echo", "args": {"value": value}, **members}


def batch(caller: Caller, *jobs: Any, atomic: bool = False) -> list[dict[str, Any]]:
    answer = caller.post(f"{BATCH}?atomic=true" if atomic else BATCH, {"jobs": jobs})
    assert answer.status_code == 202, answer.text
    items: list[dict[str, Any]] = answer.json["data"]
    return items


def codes(items: list[dict[str, Any]]) -> list[Any]:
    return [item["status"] if "job" in item else (item["status"], item["problem"]["code"]) for item in items]


def test_jobs_are_recorded_in_order(doors: Doors, caller: Caller) -> None:
    items = batch(caller, *(echo(number, priority=number) for number in range(5)))

    assert [item["job"]["args"]["value"] for item in items] == list(range(5))
    assert [caller.get(f"{JOBS}/{item['job']['id']}").json for item in items] == [item["job"] for item in items]
    listed = caller.get(JOBS).json["data"]
    assert [job["id"] for job in listed] == [item["job"]["id"] for item in reversed(items)]
    assert doors.rung.is_set()


def test_one_that_is_wrong_does_not_stop_the_others(doors: Doors, caller: Caller) -> None:
    items = batch(caller, echo(1), {"type": "no.such"}, "no object", echo(2, priority=101, who=1), echo(3))

    invalid = (400, "invalid-request")
    assert codes(items) == [202, invalid, invalid, invalid, 202]
    assert [item["problem"]["errors"][0]["pointer"] for item in items[1:4]] == [
        "/jobs/1/type",
        "/jobs/2",
        "/jobs/3/priority",
    ]
    assert {error["pointer"] for error in items[3]["problem"]["errors"]} == {"/jobs/3/priority", "/jobs/3/who"}
    assert doors.count_jobs() == 2


def test_everything_that_is_wrong_with_a_job_is_told_at_once(caller: Caller) -> None:
    (item,) = batch(caller, {"type": "test.strict", "args": {"number": "x"}, "priority": 1000, "max_attempts": 9})

    assert {error["pointer"] for error in item["problem"]["errors"]} == {
        "/jobs/0/priority",
        "/jobs/0/args/number",
        "/jobs/0/max_attempts",
    }


def test_args_that_are_too_large_are_refused_by_themselves(caller: Caller) -> None:
    assert codes(batch(caller, echo("x" * 300_000), echo(1))) == [(413, "args-too-large"), 202]


def test_a_batch_that_is_sent_again_makes_nothing_new(doors: Doors, caller: Caller) -> None:
    jobs = [echo(number, idempotency_key=f"k{number}") for number in range(10)]
    first = batch(caller, *jobs)
    again = batch(caller, *jobs, echo("new"))

    assert [item["job"]["id"] for item in again[:10]] == [item["job"]["id"] for item in first]
    assert [item["replayed"] for item in again] == [True] * 10 + [False]
    assert not any(item["replayed"] for item in first)
    assert doors.count_jobs() == 11


def test_a_key_means_the_same_job_alone_and_in_a_batch(doors: Doors, caller: Caller) -> None:
    alone = caller.post(JOBS, echo(1), Idempotency_Key="k1").json
    items = batch(caller, echo(1, idempotency_key="k1"), echo(2, idempotency_key="k1"))

    assert codes(items) == [202, (422, "idempotency-key-reused")]
    assert items[0]["job"]["id"] == alone["id"]
    assert doors.count_jobs() == 1


def test_a_key_of_another_tenant_is_free(doors: Doors, caller: Caller) -> None:
    batch(doors.caller(), echo(1, idempotency_key="k1", unique_key="u1"))

    assert codes(batch(caller, echo(2, idempotency_key="k1", unique_key="u1"))) == [202]


def test_of_jobs_with_the_same_idempotency_key_the_first_counts(doors: Doors, caller: Caller) -> None:
    same, other = echo(1, idempotency_key="k1"), echo(2, idempotency_key="k1")
    items = batch(caller, same, other, same, echo(3))

    assert codes(items) == [202, (422, "idempotency-key-reused"), 202, 202]
    assert items[2]["job"]["id"] == items[0]["job"]["id"]
    assert [item.get("replayed") for item in items] == [False, None, True, False]
    assert doors.count_jobs() == 2


def test_of_jobs_with_the_same_unique_key_the_first_counts(doors: Doors, caller: Caller) -> None:
    items = batch(caller, *(echo(number, unique_key="u1") for number in range(50)), echo(50, unique_key="u2"))

    assert codes(items) == [202] + [(409, "not-unique")] * 49 + [202]
    assert {item["problem"]["holder"] for item in items[1:50]} == {items[0]["job"]["id"]}
    assert doors.count_jobs() == 2


def test_a_unique_key_that_is_held_already_names_its_holder(caller: Caller) -> None:
    holder = caller.submit(unique_key="u1")
    items = batch(caller, echo(1, unique_key="u1"), {**echo(2, unique_key="u1"), "type": "test.echo"}, echo(3))

    assert codes(items) == [(409, "not-unique"), (409, "not-unique"), 202]
    assert items[0]["problem"]["holder"] == holder["id"]


def test_a_first_that_is_answered_from_before_leaves_its_unique_key_to_the_next(doors: Doors, caller: Caller) -> None:
    (first,) = batch(caller, echo(1, idempotency_key="k1", unique_key="u1"))
    caller.post(f"{JOBS}/{first['job']['id']}/cancel")
    items = batch(caller, echo(1, idempotency_key="k1", unique_key="u1"), *(echo(n, unique_key="u1") for n in (2, 3)))

    assert codes(items) == [202, 202, (409, "not-unique")]
    assert items[0]["job"]["state"] == "cancelled"
    assert items[2]["problem"]["holder"] == items[1]["job"]["id"]


def test_an_atomic_batch_is_all_or_none(doors: Doors, caller: Caller) -> None:
    answer = caller.post(
        f"{BATCH}?atomic=true",
        {"jobs": [echo(1), {"type": "no.such"}, echo(2, unique_key="u1"), echo(3, unique_key="u1")]},
    )

    refused = assert_problem(answer, 409, "batch-refused")["refused"]
    assert [(one["index"], one["problem"]["code"]) for one in refused] == [(1, "invalid-request"), (3, "not-unique")]
    assert doors.count_jobs() == 0
    assert not doors.rung.is_set()
    assert codes(batch(caller, echo(1), echo(2, unique_key="u1"), atomic=True)) == [202, 202]
    assert doors.count_jobs() == 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"jobs": []}, "/jobs"), ({"jobs": [None] * 1001}, "/jobs"), ({}, "/jobs"), ({"jobs": {}}, "/jobs"), ([], "")],
)
def test_a_batch_that_is_none_is_refused_as_a_whole(caller: Caller, body: Any, pointer: str) -> None:
    problem = assert_problem(caller.post(BATCH, body), 400, "invalid-request")
    assert problem["errors"][0]["pointer"] == pointer


def test_a_batch_may_have_16_mib_and_a_job_alone_one(caller: Caller) -> None:
    large = "x" * 200_000
    assert codes(batch(caller, *(echo(large) for _ in range(80)))) == [202] * 80
    assert_problem(caller.post(BATCH, {"jobs": [echo(large) for _ in range(90)]}), 413, "body-too-large")
    assert_problem(caller.post(JOBS, echo("x" * 1_100_000)), 413, "body-too-large")


def test_a_platform_key_submits_nothing(doors: Doors) -> None:
    assert_problem(doors.caller(tenant=None).post(BATCH, {"jobs": [echo(1)]}), 403, "forbidden")


def test_keys_can_be_made_a_duty(database: Database) -> None:
    items = batch(
        Doors(database, require_idempotency_key=True).caller(), echo(1), echo(2, idempotency_key="k1"), echo(3)
    )
    missing = (400, "idempotency-key-required")
    assert codes(items) == [missing, 202, missing]


def test_a_thousand_jobs_are_one_insert(doors: Doors, caller: Caller) -> None:
    inserts: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO jobs"):
            inserts.append(statement)

    engine = doors.database.engine
    event.listen(engine, "before_cursor_execute", keep)
    try:
        items = batch(caller, *(echo(number, idempotency_key=f"k{number}") for number in range(1000)))
    finally:
        event.remove(engine, "before_cursor_execute", keep)
    assert codes(items) == [202] * 1000
    assert len(inserts) == 1


def test_batches_at_once_that_share_unique_keys_make_each_job_once(doors: Doors, caller: Caller) -> None:
    start = threading.Barrier(4)

    def send(sender: int) -> list[dict[str, Any]]:
        names = [uuid4().hex for _ in range(1000)]
        jobs = [echo(number, unique_key=f"u{number}", idempotency_key=name) for number, name in enumerate(names)]
        start.wait()
        return batch(caller, *(jobs if sender % 2 else reversed(jobs)))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(4)))

    assert doors.count_jobs() == 1000
    assert sorted(item["status"] for items in answers for item in items) == [202] * 1000 + [409] * 3000


def test_batches_at_once_with_the_same_keys_in_other_orders_make_each_job_once(doors: Doors, caller: Caller) -> None:
    jobs = [echo(number, idempotency_key=f"k{number}") for number in range(100)]
    start = threading.Barrier(4)

    def send(number: int) -> list[dict[str, Any]]:
        start.wait()
        return batch(caller, *(jobs if number % 2 else reversed(jobs)))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(4)))

    assert all(codes(items) == [202] * 100 for items in answers)
    assert doors.count_jobs() == 100
    assert sum(not item["replayed"] for items in answers for item in items) == 100


def test_large_bodies_beyond_those_at_work_are_refused_and_leave_their_place(
    doors: Doors, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "PLACE_WITHIN_SECONDS", 0.1)
    large = [echo("x" * 200_000, idempotency_key=f"k{number}") for number in range(6)]
    with ExitStack() as others:
        for _ in range(body.LARGE_AT_ONCE):
            body._large.acquire()
            others.callback(body._large.release)
        refused = caller.post(BATCH, {"jobs": large})
        assert_problem(refused, 503, "too-many-large-bodies")
        assert codes(batch(caller, echo("small"))) == [202]
    assert doors.count_jobs() == 1
    for _ in range(body.LARGE_AT_ONCE + 1):
        assert codes(batch(caller, *large)) == [202] * 6


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_batch_is_only_sent(caller: Caller, method: str) -> None:
    answer = caller.request(method, BATCH)
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
