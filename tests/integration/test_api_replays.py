"""A batch that is sent again is answered in full, in pieces that fit the memory, on both databases."""

import tracemalloc
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import delete, update
from werkzeug.test import TestResponse

from api import replays
from models.database import Database
from models.ids import new_id
from models.job import jobs
from models.states import State
from tests.doors import JOBS, Caller, Doors

BATCH = f"{JOBS}/batch"
MIB = 1024 * 1024
LARGE = 40


@pytest.fixture
def doors(database: Database) -> Doors:
    return Doors(database)


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


def asked(count: int, first: int = 0) -> dict[str, Any]:
    keys = range(first, first + count)
    return {"jobs": [{"type": "test.echo", "args": {"value": n}, "idempotency_key": f"k{n}"} for n in keys]}


def succeed_all(database: Database, result: Any) -> None:
    ended = {"state": State.SUCCEEDED, "lease": 1, "attempt": 1, "worker_id": new_id(), "result": result}
    times = dict.fromkeys(("dispatched_at", "started_at", "finished_at"), jobs.c.created_at)
    database.run(lambda session: session.execute(update(jobs).values(**ended, **times)))


def answered(caller: Caller, body: Any) -> TestResponse:
    headers = {"Authorization": f"Bearer {caller.token}", "Content-Type": "application/json"}
    answer = caller.doors.app.test_client().post(BATCH, data=orjson.dumps(body), headers=headers)
    assert (answer.status_code, answer.content_type) == (202, "application/json")
    return answer


def pieces_of(caller: Caller, body: Any) -> Iterator[bytes]:
    """The answer as a server takes it: a piece at a time."""
    yield from answered(caller, body).response


def test_an_answer_with_large_results_is_never_held_as_a_whole(doors: Doors, caller: Caller) -> None:
    body = asked(LARGE)
    caller.post(BATCH, body)
    succeed_all(doors.database, "x" * (MIB - 100))

    tracemalloc.start()
    try:
        length = sum(len(piece) for piece in pieces_of(caller, body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert length > LARGE * (MIB - 100)
    assert peak < LARGE * MIB / 2, f"{peak / MIB:.0f} MiB"


def test_a_replayed_job_is_answered_as_it_is_now(doors: Doors, caller: Caller) -> None:
    caller.post(BATCH, asked(3))
    succeed_all(doors.database, {"number": 1e22, "text": "\u00e9", "none": None})
    fresh = {"type": "test.echo", "args": {"value": "new"}}
    wrong = {"type": "no.such"}
    body = {"jobs": [fresh, *asked(3)["jobs"], wrong, asked(1)["jobs"][0]]}

    items = orjson.loads(b"".join(pieces_of(caller, body)))["data"]

    assert [item["status"] for item in items] == [202] * 4 + [400, 202]
    assert [item.get("replayed") for item in items] == [False, True, True, True, None, True]
    told = [item["job"] for item in items if "job" in item]
    assert told == [caller.get(f"{JOBS}/{job['id']}").json for job in told]
    assert told[1]["result"] == {"number": 1e22, "text": "\u00e9", "none": None}


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job is a piece of its own. The test client takes the first as soon as the request is served."""
    monkeypatch.setattr(replays, "PIECE_LENGTH", 0)


def test_a_job_that_ends_meanwhile_is_told_as_it_is_then(doors: Doors, caller: Caller, one_by_one: None) -> None:
    caller.post(BATCH, asked(2))

    answer = answered(caller, asked(2))
    succeed_all(doors.database, "done")
    before, after = orjson.loads(b"".join(answer.response))["data"]

    assert (before["job"]["state"], before["job"]["result"]) == ("queued", None)
    assert after["job"] == caller.get(f"{JOBS}/{after['job']['id']}").json
    assert (after["job"]["state"], after["job"]["result"]) == ("succeeded", "done")


def test_a_job_that_is_pruned_meanwhile_is_told_as_gone(doors: Doors, caller: Caller, one_by_one: None) -> None:
    first, second = caller.post(BATCH, asked(2)).json["data"]
    pruned = delete(jobs).where(jobs.c.id == UUID(second["job"]["id"]))

    answer = answered(caller, asked(2))
    doors.database.run(lambda session: session.execute(pruned))
    before, after = orjson.loads(b"".join(answer.response))["data"]

    assert before == {**first, "replayed": True}
    assert after.keys() == {"status", "problem"}
    assert (after["status"], after["problem"]["code"], after["problem"]["instance"]) == (404, "not-found", BATCH)
    assert after["problem"]["request_id"] == answer.headers["X-Request-Id"]


def test_a_result_of_null_and_an_error_are_told(doors: Doors, caller: Caller) -> None:
    (first,) = caller.post(BATCH, asked(1)).json["data"]
    error = {"type": "ValueError", "message": "no", "code": "failed", "trace": "for operators"}
    doors.database.run(lambda session: session.execute(update(jobs).values(error=error)))

    (item,) = caller.post(BATCH, asked(1)).json["data"]

    assert item["job"] == {**first["job"], "error": {"type": "ValueError", "message": "no", "code": "failed"}}


@pytest.mark.parametrize(
    ("lengths", "portions"),
    [
        ([], [[]]),
        ([0, 0, 0], [[0, 1, 2]]),
        ([1, replays.PIECE_LENGTH, 0, 0], [[0], [1, 2, 3]]),
        ([9 * replays.PIECE_LENGTH] * 2, [[0], [1]]),
    ],
)
def test_a_portion_is_as_much_as_may_be_read_at_once(lengths: list[int], portions: list[list[int]]) -> None:
    assert [list(portion) for portion in replays._portions(lengths)] == portions
