"""POST /v1/jobs as api.md promises it: what it answers, what it refuses, and that a refusal stores nothing."""

import io
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import Engine

from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.states import State
from tests.doors import JOBS, Caller, Doors, assert_problem
from tests.factories import row_of
from tests.mishaps import LosesAnswers

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
KIBI, MEBI = 1024, 1024 * 1024
A_MOMENT = timedelta(milliseconds=5)  # SQLite may read its clock twice in one INSERT


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


@pytest.fixture(scope="module")
def sender(doors: Doors) -> Caller:
    """One whose every request is refused, so that it may be the same for many tests."""
    return doors.caller()


@pytest.fixture
def nothing_stored(doors: Doors) -> Iterator[None]:
    before = doors.count_jobs()
    yield
    assert doors.count_jobs() == before


def gap(document: dict[str, Any]) -> timedelta:
    due, created = (datetime.fromisoformat(document[name]) for name in ("due_at", "created_at"))
    return due - created


# Accepted


def test_a_job_is_answered_as_the_contract_says(doors: Doors, caller: Caller):
    doors.rung.clear()
    answer = caller.post(JOBS, {"type": "test.echo", "args": {"value": [1, 1.0, "é", None]}})
    document = answer.json
    assert (answer.status_code, answer.content_type) == (202, "application/json")
    assert UUID(document["id"]).version == 7
    assert answer.headers["Location"] == f"/v1/jobs/{document['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Jobmill-Version"]
    assert MOMENT.fullmatch(document["created_at"])
    assert gap(document) < A_MOMENT
    assert document == {
        "id": document["id"],
        "type": "test.echo",
        "queue": "default",
        "state": "queued",
        "priority": 0,
        "args": {"value": [1, 1.0, "é", None]},
        "result": None,
        "error": None,
        "progress": None,
        "attempt": 0,
        "max_attempts": 5,
        "lost": 0,
        "timeout_seconds": 300,
        "created_at": document["created_at"],
        "due_at": document["due_at"],
        "dispatched_at": None,
        "started_at": None,
        "finished_at": None,
        "cancel_requested_at": None,
        "tags": {},
        "unique_key": None,
        "idempotency_key": None,
        "worker_id": None,
        "schedule_id": None,
    }
    assert caller.get(answer.headers["Location"]).json == document
    assert doors.rung.is_set()


def test_every_member_that_is_given_is_kept(doors: Doors, caller: Caller):
    asked = {
        "type": "test.strict",
        "args": {"number": 7},
        "queue": "other",
        "priority": -100,
        "due_at": "2031-02-03T04:05:06.7+01:00",
        "max_attempts": 4,
        "timeout_seconds": 120,
        "unique_key": "customer-42",
        "tags": {"customer": "42", "é": ""},
    }
    document = caller.post(JOBS, asked, Idempotency_Key="k-1", X_Request_Id="r-1").json
    assert {name: document[name] for name in asked if name != "due_at"} == {
        name: value for name, value in asked.items() if name != "due_at"
    }
    assert document["due_at"] == "2031-02-03T03:05:06.700000Z"
    assert document["idempotency_key"] == "k-1"
    with doors.database.reading() as session:
        row = row_of(session, UUID(document["id"]))
    assert (row["request_id"], row["tenant_id"]) == ("r-1", caller.tenant_id)


def test_what_is_not_given_comes_from_the_type(caller: Caller):
    document = caller.submit(type="test.strict", args={"number": 1})
    assert (document["queue"], document["max_attempts"], document["timeout_seconds"]) == ("media", 3, 60)


@pytest.mark.parametrize("delay", [0, 60, 1.5])
def test_a_delay_counts_from_now(caller: Caller, delay: float):
    document = caller.submit(delay_seconds=delay)
    assert timedelta(0) <= gap(document) - timedelta(seconds=delay) < A_MOMENT


@pytest.mark.parametrize(
    "members",
    [
        {"priority": 100},
        {"priority": -100},
        {"tags": {str(number): "x" * 255 for number in range(16)}},
        {"tags": {"k" * 64: ""}},
        {"unique_key": "é" * 255},
        {"queue": "a" * 63},
        {"max_attempts": 25},
        {"timeout_seconds": 86400},
        {"delay_seconds": 366 * 24 * 3600},
        {"due_at": "1970-01-01T00:00:00+14:00"},
        {"due_at": "9998-12-31T23:59:59.999999-23:59"},
        {"due_at": "2027-01-01t00:00:00z"},
        {"due_at": None, "delay_seconds": None, "queue": None, "unique_key": None, "max_attempts": None},
        {"args": {"value": "x" * (256 * KIBI - len('{"value":""}'))}},
        {"args": {"value": 2**63 - 1}},
        {"args": {"value": -(2**63)}},
        {"args": {"more": "than the type asks for"}},
    ],
    ids=lambda members: str(members)[:60],
)
def test_the_limits_themselves_are_accepted(caller: Caller, members: dict[str, Any]):
    caller.submit(**members)


def test_the_deepest_and_the_largest_body_are_accepted(caller: Caller):
    deep = b'{"type": "test.echo", "args": {"value": ' + b"[" * 62 + b"]" * 62 + b"}}"
    assert caller.post(JOBS, deep).status_code == 202
    large = b'{"type": "test.echo"}'
    assert caller.post(JOBS, large + b" " * (MEBI - len(large))).status_code == 202


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_the_content_type_may_have_parameters(caller: Caller, content_type: str):
    assert caller.post(JOBS, {"type": "test.echo"}, Content_Type=content_type).status_code == 202


# Idempotency


def test_the_same_key_and_body_give_the_same_job(doors: Doors, caller: Caller):
    first = caller.post(JOBS, b'{"type": "test.echo", "priority": 1}', Idempotency_Key="same")
    before = doors.count_jobs()
    doors.rung.clear()
    again = caller.post(JOBS, b'{ "priority":1,"type":"test.\\u0065cho"}', Idempotency_Key="same")
    assert (first.status_code, again.status_code) == (202, 202)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json == first.json
    assert doors.count_jobs() == before
    assert not doors.rung.is_set()


def test_a_replay_answers_with_the_job_as_it_is_now(caller: Caller):
    first = caller.post(JOBS, {"type": "test.echo"}, Idempotency_Key="now").json
    caller.post(f"{JOBS}/{first['id']}/cancel")
    again = caller.post(JOBS, {"type": "test.echo"}, Idempotency_Key="now")
    assert (again.json["id"], again.json["state"]) == (first["id"], State.CANCELLED)
    assert "Retry-After" not in again.headers


def test_the_same_key_with_another_body_is_refused(doors: Doors, caller: Caller):
    caller.post(JOBS, {"type": "test.echo"}, Idempotency_Key="other")
    before = doors.count_jobs()
    assert_problem(
        caller.post(JOBS, {"type": "test.echo", "priority": 1}, Idempotency_Key="other"), 422, "idempotency-key-reused"
    )
    assert doors.count_jobs() == before


def test_each_tenant_has_keys_of_its_own(doors: Doors, caller: Caller):
    mine = caller.post(JOBS, {"type": "test.echo"}, Idempotency_Key="shared").json
    theirs = doors.caller().post(JOBS, {"type": "test.echo", "priority": 1}, Idempotency_Key="shared")
    assert theirs.status_code == 202
    assert theirs.json["id"] != mine["id"]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é", "a\tb"])
def test_an_unusable_key_is_refused(caller: Caller, nothing_stored: None, key: str):
    problem = assert_problem(caller.post(JOBS, {"type": "test.echo"}, Idempotency_Key=key), 400, "invalid-request")
    assert [(flaw["in"], flaw["pointer"]) for flaw in problem["errors"]] == [("header", "Idempotency-Key")]


@pytest.mark.parametrize("key", ["!", "~" * 255, "0190-a/b+c="])
def test_any_visible_ascii_makes_a_key(caller: Caller, key: str):
    assert caller.post(JOBS, {"type": "test.echo"}, Idempotency_Key=key).json["idempotency_key"] == key


def test_an_installation_may_require_a_key(doors: Doors):
    demanding = Doors(doors.database, require_idempotency_key=True)
    caller = demanding.caller()
    before = demanding.count_jobs()
    assert_problem(caller.post(JOBS, {"type": "test.echo"}), 400, "idempotency-key-required")
    assert demanding.count_jobs() == before
    assert caller.post(JOBS, {"type": "test.echo"}, Idempotency_Key="k").status_code == 202


def test_a_unique_key_that_is_held_is_refused_with_its_holder(doors: Doors, caller: Caller):
    holder = caller.submit(unique_key="one")
    before = doors.count_jobs()
    problem = assert_problem(caller.post(JOBS, {"type": "test.echo", "unique_key": "one"}), 409, "not-unique")
    assert problem["holder"] == holder["id"]
    assert doors.count_jobs() == before
    caller.submit(type="test.strict", args={"number": 1}, unique_key="one")
    doors.caller().submit(unique_key="one")
    caller.post(f"{JOBS}/{holder['id']}/cancel")
    caller.submit(unique_key="one")


# Refused: each body, and the flaw that is named


def body(**members: Any) -> bytes:
    return orjson.dumps({"type": "test.strict", "args": {"number": 1}, **members})


def value(text: bytes) -> bytes:
    return b'{"type": "test.echo", "args": {"value": ' + text + b"}}"


FLAWS = {
    "no type": (b"{}", "/type", "missing"),
    "type null": (body(type=None), "/type", "string-type"),
    "type a number": (body(type=1), "/type", "string-type"),
    "type a list": (body(type=["test.echo"]), "/type", "string-type"),
    "type empty": (body(type=""), "/type", "string-too-short"),
    "type too long": (body(type="x" * 101), "/type", "string-too-long"),
    "type unknown": (body(type="no.such"), "/type", "unknown-job-type"),
    "args null": (body(args=None), "/args", "dict-type"),
    "args a list": (body(args=[1]), "/args", "dict-type"),
    "args a text": (body(args="number"), "/args", "dict-type"),
    "args without a member": (body(args={}), "/args/number", "missing"),
    "args with a text for a number": (body(args={"number": "1"}), "/args/number", "int-type"),
    "args with true for a number": (body(args={"number": True}), "/args/number", "int-type"),
    "args wrong deeper": (body(args={"number": 1, "names": ["a", 2]}), "/args/names/1", "string-type"),
    "queue a number": (body(queue=1), "/queue", "string-type"),
    "queue empty": (body(queue=""), "/queue", "string-pattern-mismatch"),
    "queue in capitals": (body(queue="Media"), "/queue", "string-pattern-mismatch"),
    "queue with a line break": (body(queue="media\n"), "/queue", "string-pattern-mismatch"),
    "queue too long": (body(queue="q" * 64), "/queue", "string-pattern-mismatch"),
    "priority a text": (body(priority="1"), "/priority", "int-type"),
    "priority a fraction": (body(priority=1.5), "/priority", "int-type"),
    "priority beyond what a double holds": (body(priority=1e300), "/priority", "int-type"),
    "priority true": (body(priority=True), "/priority", "int-type"),
    "priority null": (body(priority=None), "/priority", "int-type"),
    "priority 101": (body(priority=101), "/priority", "less-than-equal"),
    "priority -101": (body(priority=-101), "/priority", "greater-than-equal"),
    "due_at a number": (body(due_at=1_900_000_000), "/due_at", "value-error"),
    "due_at a number in a text": (body(due_at="1900000000"), "/due_at", "value-error"),
    "due_at a fraction in a text": (body(due_at="1900000000.5"), "/due_at", "value-error"),
    "due_at true": (body(due_at=True), "/due_at", "value-error"),
    "due_at a list": (body(due_at=["2027-01-01T00:00:00Z"]), "/due_at", "value-error"),
    "due_at without a zone": (body(due_at="2027-01-01T00:00:00"), "/due_at", None),
    "due_at a date": (body(due_at="2027-01-01"), "/due_at", None),
    "due_at words": (body(due_at="tomorrow"), "/due_at", None),
    "due_at empty": (body(due_at=""), "/due_at", None),
    "due_at no such day": (body(due_at="2027-02-30T00:00:00Z"), "/due_at", None),
    "due_at before all": (body(due_at="0001-01-01T00:00:00+14:00"), "/due_at", "value-error"),
    "due_at after all": (body(due_at="9999-12-31T23:59:59-14:00"), "/due_at", "value-error"),
    "delay a text": (body(delay_seconds="1"), "/delay_seconds", "float-type"),
    "delay true": (body(delay_seconds=True), "/delay_seconds", "float-type"),
    "delay negative": (body(delay_seconds=-0.1), "/delay_seconds", "greater-than-equal"),
    "delay for ever": (body(delay_seconds=1e300), "/delay_seconds", "less-than-equal"),
    "both waits": (body(delay_seconds=1, due_at="2027-01-01T00:00:00Z"), "", "value-error"),
    "max_attempts 0": (body(max_attempts=0), "/max_attempts", "greater-than-equal"),
    "max_attempts a text": (body(max_attempts="3"), "/max_attempts", "int-type"),
    "max_attempts a fraction": (body(max_attempts=1.5), "/max_attempts", "int-type"),
    "max_attempts true": (body(max_attempts=True), "/max_attempts", "int-type"),
    "max_attempts over the type's": (body(max_attempts=5), "/max_attempts", "too-many-attempts"),
    "max_attempts huge": (body(max_attempts=2**63 - 1), "/max_attempts", "too-many-attempts"),
    "timeout 0": (body(timeout_seconds=0), "/timeout_seconds", "greater-than-equal"),
    "timeout a text": (body(timeout_seconds="60"), "/timeout_seconds", "int-type"),
    "timeout true": (body(timeout_seconds=True), "/timeout_seconds", "int-type"),
    "timeout over the type's": (body(timeout_seconds=121), "/timeout_seconds", "timeout-too-long"),
    "timeout huge": (body(timeout_seconds=2**63 - 1), "/timeout_seconds", "timeout-too-long"),
    "unique_key empty": (body(unique_key=""), "/unique_key", "string-too-short"),
    "unique_key too long": (body(unique_key="k" * 256), "/unique_key", "string-too-long"),
    "unique_key a number": (body(unique_key=42), "/unique_key", "string-type"),
    "tags null": (body(tags=None), "/tags", "dict-type"),
    "tags a list": (body(tags=[["a", "b"]]), "/tags", "dict-type"),
    "tags with a number": (body(tags={"customer": 42}), "/tags/customer", "string-type"),
    "tags with null": (body(tags={"a/b~c": None}), "/tags/a~1b~0c", "string-type"),
    "tags with a long value": (body(tags={"a": "x" * 256}), "/tags/a", "string-too-long"),
    "tags without a name": (body(tags={"": "x"}), "/tags//[key]", "string-too-short"),
    "tags with a long name": (body(tags={"n" * 65: "x"}), f"/tags/{'n' * 65}/[key]", "string-too-long"),
    "17 tags": (body(tags={str(number): "x" for number in range(17)}), "/tags", "too-long"),
    "an unknown member": (body(prioritiy=1), "/prioritiy", "extra-forbidden"),
    "a member that only the answer has": (body(state="succeeded"), "/state", "extra-forbidden"),
    "a body that is null": (b"null", "", None),
    "a body that is a list": (b"[]", "", None),
    "a body that is a text": (b'"test.echo"', "", None),
    "a body that is a number": (b"1", "", None),
}


@pytest.mark.parametrize(("sent", "pointer", "code"), FLAWS.values(), ids=FLAWS.keys())
def test_a_flaw_is_named_by_its_place(
    sender: Caller, nothing_stored: None, sent: bytes, pointer: str, code: str | None
):
    flaws = assert_problem(sender.post(JOBS, sent), 400, "invalid-request")["errors"]
    assert [(flaw["in"], flaw["pointer"]) for flaw in flaws] == [("body", pointer)]
    assert flaws[0]["detail"]
    assert code in {None, flaws[0]["code"]}


MALFORMED = {
    "cut": (b'{"type": "test.echo"', "malformed"),
    "words": (b"type=test.echo", "malformed"),
    "single quotes": (b"{'type': 'test.echo'}", "malformed"),
    "a comma too many": (b'{"type": "test.echo",}', "malformed"),
    "two documents": (b'{"type": "test.echo"}{"type": "test.echo"}', "malformed"),
    "a comment": (b'{"type": "test.echo"} // please', "malformed"),
    "NaN": (value(b"NaN"), "number-not-finite"),
    "Infinity": (value(b"Infinity"), "number-not-finite"),
    "-Infinity": (value(b"-Infinity"), "number-not-finite"),
    "1e400": (value(b"1e400"), "number-not-finite"),
    "-1e400": (value(b"-1e400"), "number-not-finite"),
    "2^63": (value(b"9223372036854775808"), "integer-out-of-range"),
    "-2^63 - 1": (value(b"-9223372036854775809"), "integer-out-of-range"),
    "a thousand digits": (value(b"9" * 1000), "integer-out-of-range"),
    "a member twice": (b'{"type": "test.echo", "type": "test.strict"}', "duplicate-member"),
    "a member twice within": (value(b'{"a": 1, "a": 1}'), "duplicate-member"),
    "a member twice, once escaped": (value(b'{"a": 1, "\\u0061": 1}'), "duplicate-member"),
    "NUL escaped": (value(b'"a\\u0000b"'), "nul-character"),
    "NUL in a name": (value(b'{"\\u0000": 1}'), "nul-character"),
    "NUL raw": (value(b'"a\x00b"'), "nul-character"),
    "NUL behind": (b'{"type": "test.echo"}\x00', "nul-character"),
    "high surrogate": (value(b'"\\ud800"'), "lone-surrogate"),
    "low surrogate": (value(b'"\\udc00 \\ud800"'), "lone-surrogate"),
    "surrogate as UTF-8": (value(b'"\xed\xa0\x80"'), "not-utf-8"),
    "not UTF-8": (value(b'"\xff"'), "not-utf-8"),
    "a byte order mark": (b'\xef\xbb\xbf{"type": "test.echo"}', "not-utf-8"),
    "UTF-16": ('{"type": "test.echo"}'.encode("utf-16-be"), "nul-character"),
    "depth 65": (value(b"[" * 63 + b"]" * 63), "too-deep"),
    "depth 100,000": (b"[" * 100_000, "too-deep"),
}


@pytest.mark.parametrize(("sent", "json_error"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_strict_json_is_refused(sender: Caller, nothing_stored: None, sent: bytes, json_error: str):
    assert assert_problem(sender.post(JOBS, sent), 400, "malformed-json")["json_error"] == json_error


UNREADABLE = {
    "too large": ({"data": b" " * (MEBI + 1)}, 413, "body-too-large"),
    "args too large": ({"data": value(b'"%s"' % (b"x" * 256 * KIBI))}, 413, "args-too-large"),
    "no content type": ({"data": body(), "content_type": None}, 415, "unsupported-media-type"),
    "a text": ({"data": body(), "content_type": "text/plain"}, 415, "unsupported-media-type"),
    "a form": (
        {"data": b"type=test.echo", "content_type": "application/x-www-form-urlencoded"},
        415,
        "unsupported-media-type",
    ),
    "a kind of JSON": ({"data": body(), "content_type": "application/merge-patch+json"}, 415, "unsupported-media-type"),
    "no length": (
        {"data": body(), "environ_overrides": {"CONTENT_LENGTH": ""}},
        411,
        "length-required",
    ),
    "chunked": (
        {
            "environ_overrides": {
                "CONTENT_LENGTH": "",
                "HTTP_TRANSFER_ENCODING": "chunked",
                "wsgi.input_terminated": True,
            },
            "data": body(),
        },
        411,
        "length-required",
    ),
    "cut short": ({"data": body(), "environ_overrides": {"CONTENT_LENGTH": "500"}}, 400, "incomplete-body"),
    "empty": ({"data": b"", "environ_overrides": {"CONTENT_LENGTH": "0"}}, 400, "malformed-json"),
    "cut to nothing": ({"data": b"", "environ_overrides": {"CONTENT_LENGTH": "500"}}, 400, "incomplete-body"),
}


@pytest.mark.parametrize(("options", "status", "code"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_body_that_cannot_be_taken_is_refused(
    sender: Caller, nothing_stored: None, options: dict[str, Any], status: int, code: str
):
    assert_problem(sender.request("POST", JOBS, **{"content_type": "application/json", **options}), status, code)


def test_all_flaws_are_told_at_once(sender: Caller, nothing_stored: None):
    sent = body(priority=101, tags={"a": 1}, due_at=1, extra=1, type=None)
    flaws = assert_problem(sender.post(f"{JOBS}?wait=1&wait=2&dry=1", sent), 400, "invalid-request")["errors"]
    assert {(flaw["in"], flaw["pointer"]) for flaw in flaws} == {
        ("query", "wait"),
        ("query", "dry"),
        ("body", "/type"),
        ("body", "/priority"),
        ("body", "/tags/a"),
        ("body", "/due_at"),
        ("body", "/extra"),
    }


def test_all_that_the_type_finds_wrong_is_told_at_once(sender: Caller, nothing_stored: None):
    sent = body(args={"number": "x", "names": 1}, max_attempts=5, timeout_seconds=121)
    flaws = assert_problem(sender.post(JOBS, sent), 400, "invalid-request")["errors"]
    assert {flaw["pointer"] for flaw in flaws} == {"/args/number", "/args/names", "/max_attempts", "/timeout_seconds"}


def test_a_secret_in_a_wrong_place_is_not_repeated(sender: Caller, nothing_stored: None):
    sent = body(args={"number": "s3cret"}, priority="s3cret", tags={"a": ["s3cret"]})
    assert "s3cret" not in sender.post(JOBS, sent).text


# What a slow client and a lost answer must not do


class Slow(io.RawIOBase):
    """A body whose reader is watched: what does the application hold while it waits for the client?"""

    def __init__(self, sent: bytes, while_reading: Callable[[], None]) -> None:
        self.left = io.BytesIO(sent)
        self.while_reading = while_reading

    def read(self, size: int = -1) -> bytes:
        self.while_reading()
        return self.left.read(min(size, 7))


def test_no_connection_to_the_database_is_held_while_a_client_sends_its_body(doors: Doors, caller: Caller):
    held: list[int] = []
    slow = Slow(body(), lambda: held.append(connections_in_use(doors.database)))
    answer = caller.request(
        "POST",
        JOBS,
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": str(len(body())), "wsgi.input": slow},
    )
    assert answer.status_code == 202
    assert set(held) == {0}


def connections_in_use(database: Database) -> int:
    engines = {id(engine.pool): engine for engine in vars(database).values() if isinstance(engine, Engine)}
    return sum(engine.pool.checkedout() for engine in engines.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("headers", [{}, {"Idempotency_Key": "lost"}], ids=["without a key", "with a key"])
def test_a_commit_whose_answer_was_lost_makes_no_second_job(doors: Doors, headers: dict[str, str]):
    forgetful = LosesAnswers(doors.database)
    caller = Doors(forgetful).caller()
    before = doors.count_jobs()
    forgetful.times = 1
    answer = caller.post(JOBS, {"type": "test.echo"}, **headers)
    assert answer.status_code == 202
    assert "Idempotency-Replayed" not in answer.headers
    assert doors.count_jobs() == before + 1
    assert caller.get(f"{JOBS}/{answer.json['id']}").status_code == 200


def test_a_database_that_stays_away_is_a_503_that_says_when_to_try_again(doors: Doors):
    forgetful = LosesAnswers(doors.database)
    caller = Doors(forgetful).caller()
    forgetful.times = 10_000
    answer = caller.post(JOBS, {"type": "test.echo"})
    assert_problem(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "2"


PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"traceparent": PARENT, "tracestate": "vendor=1,other=2"}, (PARENT, "vendor=1,other=2")),
        ({"traceparent": PARENT}, (PARENT, None)),
        ({"traceparent": PARENT, "tracestate": "x" * 513}, (PARENT, None)),
        ({"tracestate": "vendor=1"}, (None, None)),
        ({"traceparent": f"00-{'0' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}, (None, None)),
        ({"traceparent": f"00-{'a' * 32}-{'0' * 16}-01"}, (None, None)),
        ({"traceparent": f"ff-{'a' * 32}-{'b' * 16}-01"}, (None, None)),
        ({"traceparent": "nonsense"}, (None, None)),
    ],
)
def test_the_trace_of_a_submission_is_kept_with_its_job(
    doors: Doors, caller: Caller, headers: dict[str, str], kept: tuple[str | None, str | None]
):
    job_id = caller.post(JOBS, {"type": "test.echo"}, **headers).json["id"]
    (item,) = caller.post(f"{JOBS}/batch", {"jobs": [{"type": "test.echo"}]}, **headers).json["data"]
    for one in (job_id, item["job"]["id"]):
        row = doors.database.run(lambda session, one=one: row_of(session, UUID(one)))
        assert (row["traceparent"], row["tracestate"]) == kept
