"""The client: what its calls send, and what they make of the answers."""

import copy
import json
import math
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from pydantic import BaseModel, Field, ValidationError

from jobmill_client import (
    AnswerTooLarge,
    Client,
    Conflict,
    InvalidRequest,
    Job,
    NotFound,
    RequestTooLarge,
    Submission,
    connection,
    submissions,
)
from jobmill_client.waiting import FINAL
from models import states
from tests.scripted import ADDRESS, ID, KEY, Scripted, job, problem, says


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_backoff", lambda _: 0)


def client(*answers: Any) -> tuple[Client, Scripted]:
    server = Scripted(*answers)
    return Client(ADDRESS, KEY, transport=server), server


class Profile(BaseModel):
    text: str = Field(alias="theText")
    at: datetime | None = None


def test_a_submission_says_all_that_was_asked_for():
    opened, server = client(says(job(), 202))
    submitted = opened.submit(
        "csv.profile",
        {"text": "a,b"},
        queue="media",
        priority=-5,
        due_at=datetime(2027, 1, 31, 12, tzinfo=UTC),
        max_attempts=3,
        timeout_seconds=60,
        unique_key="u",
        tags={"k": "v"},
        idempotency_key="mine",
    )
    assert (submitted.id, submitted.state, submitted.final) == (ID, "queued", False)
    assert server.document() == {
        "type": "csv.profile",
        "args": {"text": "a,b"},
        "queue": "media",
        "priority": -5,
        "due_at": "2027-01-31T12:00:00Z",
        "max_attempts": 3,
        "timeout_seconds": 60,
        "unique_key": "u",
        "tags": {"k": "v"},
    }
    assert server.asked[0].headers["Idempotency-Key"] == "mine"
    assert str(server.asked[0].url) == f"{ADDRESS}/v1/jobs"


def test_what_is_left_out_is_left_to_the_server_and_each_submission_has_a_key_of_its_own():
    opened, server = client(says(job(), 202))
    opened.submit("demo.echo")
    opened.submit("demo.echo", delay_seconds=0.0, queue=None, idempotency_key=None)
    assert [server.document(0), server.document(1)] == [
        {"type": "demo.echo", "args": {}},
        {"type": "demo.echo", "args": {}, "delay_seconds": 0.0},
    ]
    assert len(set(server.sent("Idempotency-Key"))) == 2


def test_arguments_may_be_a_model_and_hold_times_and_ids():
    opened, server = client(says(job(), 202))
    at = datetime(2027, 1, 31, tzinfo=UTC)
    opened.submit("csv.profile", Profile(theText="a,b", at=at))
    opened.submit("csv.profile", {"at": at, "id": UUID(ID), "of": [Profile(theText="c")]})
    assert server.document(0)["args"] == {"theText": "a,b", "at": "2027-01-31T00:00:00Z"}
    assert server.document(1)["args"] == {
        "at": "2027-01-31T00:00:00Z",
        "id": ID,
        "of": [{"theText": "c", "at": None}],
    }


@pytest.mark.parametrize(
    "options",
    [{"priorty": 1}, {"due_at": datetime(2027, 1, 1)}, {"idempotency_key": "two words"}],  # noqa: DTZ001
    ids=["misspelt", "naive", "key"],
)
def test_what_cannot_be_right_is_refused_before_it_is_sent(options):
    opened, server = client(says(job(), 202))
    with pytest.raises(ValidationError):
        opened.submit("demo.echo", **options)
    assert server.asked == []


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_know_is_refused_and_not_sent_as_another(number):
    opened, server = client(says(job(), 202))
    with pytest.raises(ValueError, match="JSON"):
        opened.submit("demo.echo", {"value": [number]})
    assert server.asked == []


def test_the_same_submission_again_is_the_same_job():
    opened, server = client(says(job(), 202))
    submission = Submission(type="demo.echo")
    opened.hand_in(submission)
    opened.hand_in(submission)
    assert set(server.sent("Idempotency-Key")) == {submission.idempotency_key}


def test_a_member_that_a_later_server_adds_breaks_nothing():
    opened, _ = client(says(job(colour="red", progress={"percent": 1.5, "message": "m", "of": 3})))
    told = opened.job(UUID(ID))
    assert told.model_extra == {"colour": "red"}
    assert told.progress
    assert told.progress.percent == 1.5


def test_a_job_is_what_it_was_and_its_document_can_be_had_back():
    opened, _ = client(says(job("succeeded", result=[1])))
    told = opened.job(ID)
    with pytest.raises(ValidationError, match="frozen"):
        told.state = "dead"  # type: ignore[misc]
    assert told.created_at == datetime(2026, 11, 23, 22, 17, 12, 358190, UTC)
    assert told.model_dump(by_alias=True)["result"] == [1]


def test_a_jobs_methods_ask_the_server_and_give_a_new_job():
    opened, server = client(says(job()), says(job("running")), says(job()), says(job("cancelled"), 202))
    first = opened.job(ID)
    assert first.refresh().state == "running"
    assert first.run_now().state == "queued"
    assert first.cancel().state == "cancelled"
    assert first.state == "queued"
    assert [f"{request.method} {request.url.path}" for request in server.asked[1:]] == [
        f"GET /v1/jobs/{ID}",
        f"POST /v1/jobs/{ID}/run-now",
        f"POST /v1/jobs/{ID}/cancel",
    ]


def test_a_pickled_job_leaves_its_client_behind_and_a_copy_shares_it():
    opened, _ = client(says(job()))
    told = opened.job(ID)
    unpickled = pickle.loads(pickle.dumps(told))  # noqa: S301 - our own bytes
    assert unpickled == Job.model_validate(job())
    with pytest.raises(RuntimeError, match=r"client\.job"):
        unpickled.refresh()
    assert copy.deepcopy(told).refresh() == told


@pytest.mark.parametrize(("state", "again"), [("cancelled", True), ("succeeded", False)])
def test_cancelling_a_final_job_is_refused_unless_it_is_cancelled(state, again):
    opened, _ = client(problem(409, "job-is-final"), says(job(state)))
    if again:
        assert opened.cancel(ID).state == "cancelled"
    else:
        with pytest.raises(Conflict):
            opened.cancel(ID)


@pytest.mark.parametrize("lost", [httpx2.ReadError("cut"), problem(500), problem(503)], ids=["cut", "500", "503"])
def test_a_job_that_runs_since_an_answer_was_lost_is_told_and_no_conflict(lost):
    opened, server = client(lost, problem(429), problem(409, "job-not-waiting"), says(job("running")))
    assert opened.run_now(ID).state == "running"
    assert [request.method for request in server.asked] == ["POST"] * 3 + ["GET"]


@pytest.mark.parametrize("before", [[], [httpx2.ConnectError("refused")], [problem(429)]], ids=["no", "refused", "429"])
def test_a_job_that_does_not_wait_is_a_conflict_if_nothing_had_it_run(before):
    opened, server = client(*before, problem(409, "job-not-waiting"))
    with pytest.raises(Conflict):
        opened.run_now(ID)
    assert len(server.asked) == len(before) + 1


def test_having_it_run_may_fail_otherwise_after_an_answer_was_lost():
    opened, _ = client(httpx2.ReadError("cut"), problem(404, "not-found"))
    with pytest.raises(NotFound):
        opened.run_now(ID)


def test_a_list_is_read_page_by_page_as_it_is_needed():
    pages = [says({"data": [job(), job()], "next_cursor": "c1"}), says({"data": [job("dead")], "next_cursor": None})]
    opened, server = client(*pages)
    listed = opened.jobs(state=["dead", "queued"], type="demo.echo", tags={"customer": "42"}, page_size=2)
    assert (next(listed).state, next(listed).state, len(server.asked)) == ("queued", "queued", 1)
    assert [told.state for told in listed] == ["dead"]
    asked = server.asked[0].url.params
    assert asked.get_list("state") == ["dead", "queued"]
    assert (asked["type"], asked["tag.customer"], asked["limit"], asked.get("cursor")) == ("demo.echo", "42", "2", None)
    assert server.asked[1].url.params["cursor"] == "c1"


def test_events_types_and_workers_are_told():
    event = {
        "id": ID, "at": "2026-11-23T22:17:12Z", "move": "retry", "state": "queued", "attempt": 1, "lease": 1,
        "actor": "worker:w", "reason": None, "error": {"type": "ValueError", "message": "no", "code": None},
    }  # fmt: skip
    opened, server = client(says({"data": [event], "next_cursor": None}))
    (told,) = opened.events(ID)
    assert told.error
    assert (told.move, told.at, told.error.type) == (
        "retry",
        datetime(2026, 11, 23, 22, 17, 12, tzinfo=UTC),
        "ValueError",
    )
    assert server.asked[0].url.path == f"/v1/jobs/{ID}/events"


def test_a_batch_tells_of_each_job_what_became_of_it_in_their_order():
    no = {"status": 409, "code": "not-unique", "title": "The unique_key is held", "holder": ID}
    told = [{"status": 202, "job": job(), "replayed": True}, {"status": 409, "problem": no}]
    opened, server = client(says({"data": told}, 202))
    jobs = [Submission(type="demo.echo"), {"type": "demo.sleep", "args": {"seconds": 1}, "unique_key": "u"}]
    accepted, refused = opened.batch(jobs)
    assert (accepted.job and accepted.job.id, accepted.error, accepted.replayed) == (ID, None, True)
    assert refused.job is None
    assert isinstance(refused.error, Conflict)
    assert (refused.error.code, refused.error.document["holder"]) == ("not-unique", ID)
    assert refused.submission.type == "demo.sleep"
    sent = server.document()["jobs"]
    assert sent[0] == {"type": "demo.echo", "args": {}, "idempotency_key": jobs[0].idempotency_key}
    assert sent[1].pop("idempotency_key") == refused.submission.idempotency_key
    assert sent[1] == jobs[1]
    assert not server.asked[0].url.params


def answered(request: Any) -> Any:
    """Accepts every job of a batch."""
    return says({"data": [{"status": 202, "job": job()} for _ in json.loads(request.content)["jobs"]]}, 202)


def test_a_batch_of_any_size_travels_in_portions():
    opened, server = client(answered)
    assert len(opened.batch({"type": "demo.echo"} for _ in range(2001))) == 2001
    assert [len(server.document(at)["jobs"]) for at in range(3)] == [1000, 1000, 1]
    assert opened.batch([]) == []
    assert opened.batch([], atomic=True) == []


def test_no_portion_is_larger_than_the_api_takes():
    opened, server = client(answered)
    text = "x" * 250_000
    assert len(opened.batch([{"type": "csv.profile", "args": {"text": text}}] * 100)) == 100
    assert [len(server.document(at)["jobs"]) for at in range(2)] == [67, 33]
    assert all(len(request.content) <= submissions.MOST_BATCH_BYTES for request in server.asked)
    with pytest.raises(RequestTooLarge):
        opened.batch([{"type": "csv.profile", "args": {"text": text * 70}}])


def test_all_or_none_are_refused_together_with_the_reasons():
    refused = [{"index": 1, "problem": {"status": 409, "code": "not-unique"}}]
    opened, server = client(problem(409, "batch-refused", refused=refused))
    with pytest.raises(Conflict) as raised:
        opened.batch([{"type": "demo.echo"}] * 2, atomic=True)
    assert raised.value.document["refused"] == refused
    assert server.asked[0].url.params["atomic"] == "true"
    with pytest.raises(ValueError, match="all or none"):
        opened.batch([{"type": "demo.echo"}] * 1001, atomic=True)


@pytest.fixture
def _reads_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_ANSWER_BYTES", 2500)  # four jobs


@pytest.mark.usefixtures("_reads_little")
@pytest.mark.parametrize("atomic", [False, True])
def test_an_answer_that_is_too_large_is_asked_for_again_in_parts_by_the_same_keys(atomic):
    opened, server = client(answered)
    jobs = [Submission(type="demo.echo", args={"value": number}) for number in range(10)]
    items = opened.batch(jobs, atomic=atomic)
    assert [item.submission for item in items] == jobs
    assert all(item.job for item in items)
    sent = [[member["idempotency_key"] for member in server.document(at)["jobs"]] for at in range(len(server.asked))]
    assert [len(keys) for keys in sent] == [10, 5, 2, 3, 5, 2, 3]
    assert [key for keys in sent if len(keys) < 5 for key in keys] == [job.idempotency_key for job in jobs]
    # All are recorded: the parts only ask for them, and a part that stood alone would record no more than itself.
    assert [request.url.params.get("atomic") for request in server.asked[1:]] == [None] * 6


@pytest.mark.usefixtures("_reads_little")
def test_an_answer_that_no_part_makes_smaller_is_given_up():
    opened, server = client(says({"data": ["x" * 3000]}, 202))
    with pytest.raises(AnswerTooLarge):
        opened.batch([{"type": "demo.echo"}] * 2)
    assert len(server.asked) == 2


@pytest.mark.usefixtures("_reads_little")
@pytest.mark.parametrize("atomic", [False, True])
def test_a_refusal_that_is_too_large_is_not_asked_for_again(atomic):
    opened, server = client(problem(409, "batch-refused", refused=["x" * 3000]))
    with pytest.raises(AnswerTooLarge):
        opened.batch([{"type": "demo.echo"}] * 2, atomic=atomic)
    assert len(server.asked) == 1


def test_a_batch_is_sent_again_since_its_jobs_have_keys():
    opened, server = client(problem(503), httpx2.ReadError("cut"), answered)
    assert len(opened.batch([{"type": "demo.echo"}])) == 1
    assert len({request.content for request in server.asked}) == 1


def test_a_batch_may_take_longer_than_another_call():
    opened, server = client(answered)
    opened.batch([{"type": "demo.echo"}])
    assert server.asked[0].extensions["timeout"]["read"] == timedelta(minutes=1).total_seconds()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"key": KEY, "token": "t"},
        {"client_id": "i"},
        {"client_secret": "s"},
        {"key": KEY, "client_id": "i", "client_secret": "s"},
    ],
    ids=["nothing", "two", "no-secret", "no-id", "three"],
)
def test_exactly_one_thing_opens_a_server(given):
    with pytest.raises(ValueError, match="Give one of"):
        Client(ADDRESS, **given)


def test_a_type_that_is_not_there_is_not_found_under_another_address():
    opened, server = client(problem(400))
    with pytest.raises(InvalidRequest):
        opened.job_type("a/b")
    assert server.asked[0].url.raw_path == b"/v1/job-types/a%2Fb"


def test_what_is_final_is_what_the_server_holds_for_final():
    assert {state.value for state in states.FINAL} == FINAL


LOST = httpx2.ReadError("the connection broke")
GONE = problem(404, "not-found")


def test_a_message_whose_deletion_was_answered_to_nobody_is_discarded_all_the_same():
    opened, server = client(LOST, GONE)
    opened.discard_undeliverable(ID)
    assert [(asked.method, asked.url.path) for asked in server.asked] == [("DELETE", f"/v1/undeliverable/{ID}")] * 2


def test_a_message_that_was_never_there_is_told():
    opened, _ = client(GONE)
    with pytest.raises(NotFound):
        opened.discard_undeliverable(ID)
