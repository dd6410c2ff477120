"""The client's calls: what is sent, what is repeated, and how it fails."""

import itertools
import logging
import pickle
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

import jobmill_client
from jobmill_client import (
    AnswerTooLarge,
    ApiError,
    Client,
    Conflict,
    Connection,
    ConnectionFailed,
    Forbidden,
    InvalidRequest,
    JobFailed,
    NotFound,
    RateLimited,
    RequestTooLarge,
    ServerError,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    WaitTimedOut,
    answers,
    connection,
)
from jobmill_client.answers import seconds_until
from jobmill_client.credentials import Bearer
from jobmill_client.documents import Job
from tests.scripted import ADDRESS, ID, KEY, Scripted, job, problem, says


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_backoff", lambda _: 0)


def client(*answers: Any, **options: Any) -> tuple[Client, Scripted]:
    server = Scripted(*answers)
    return Client(ADDRESS, KEY, transport=server, **options), server


def refused(answer: httpx2.Response) -> ApiError:
    opened, _ = client(answer, retries=0)
    with pytest.raises(ApiError) as raised:
        opened.job(ID)
    return raised.value


@pytest.mark.parametrize(
    "passing",
    [
        httpx2.ConnectError("refused"),
        httpx2.ReadError("reset"),
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("cut"),
        problem(429, "quota-exceeded"),
        problem(500, "internal-error"),
        problem(503, "unavailable"),
        httpx2.Response(502, text="<html>Bad gateway</html>"),
        httpx2.Response(504),
        problem(409, "idempotency-key-in-use"),
        problem(409, "too-busy"),
    ],
    ids=["refused", "reset", "slow", "cut", "429", "500", "503", "502", "504", "in-use", "too-busy"],
)
def test_what_may_pass_is_tried_again_with_the_same_key_and_body(passing):
    opened, server = client(passing, passing, says(job(), 202))
    assert opened.submit("demo.echo", {"value": 1}).id == ID
    keys = set(server.sent("Idempotency-Key"))
    assert (len(server.asked), len(keys), keys & {None, ""}) == (3, 1, set())
    assert len({request.content for request in server.asked}) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid-request", InvalidRequest),
        (401, "unauthenticated", Unauthorized),
        (403, "forbidden", Forbidden),
        (404, "not-found", NotFound),
        (409, "not-unique", Conflict),
        (413, "args-too-large", InvalidRequest),
        (422, "idempotency-key-reused", InvalidRequest),
    ],
)
def test_a_refusal_is_an_error_of_its_family_and_not_tried_again(status, code, kind):
    opened, server = client(problem(status, code))
    with pytest.raises(kind) as raised:
        opened.submit("demo.echo", idempotency_key="mine")
    assert (raised.value.status, raised.value.code, len(server.asked)) == (status, code, 1)
    assert raised.value.idempotency_key == "mine"


def test_what_stays_broken_is_given_up_after_so_many_tries():
    opened, server = client(problem(503, "unavailable"), retries=2)
    with pytest.raises(Unavailable):
        opened.job(ID)
    assert len(server.asked) == 3


def test_no_try_starts_after_the_time_is_over():
    opened, server = client(says({}, 429, Retry_After="31"))
    with pytest.raises(RateLimited) as raised:
        opened.job(ID)
    assert (raised.value.retry_after, len(server.asked)) == (31, 1)


def test_retry_after_is_waited_for(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    opened, _ = client(says({}, 503, Retry_After="7"), says({}, 429, Retry_After="3"), says(job()))
    opened.job(ID)
    assert slept == [7, 3]


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        (httpx2.ReadError("reset"), 1),
        (problem(503), 1),
        (problem(500), 1),
        (httpx2.ConnectError("refused"), 5),
        (problem(429), 5),
    ],
    ids=["reset", "503", "500", "refused", "429"],
)
def test_what_must_not_be_done_twice_is_repeated_only_if_it_was_not_done(failure, tries):
    server = Scripted(failure)
    with Connection(ADDRESS, Bearer(KEY), transport=server) as opened, pytest.raises(jobmill_client.JobmillError):
        opened.post("/v1/keys", {"name": "ci"})
    assert len(server.asked) == tries


def test_what_has_a_key_or_may_be_done_twice_is_repeated():
    server = Scripted(httpx2.ReadError("reset"))
    with Connection(ADDRESS, Bearer(KEY), transport=server, patience=connection.Patience(retries=1)) as opened:
        for allowed in ({"idempotency_key": "mine"}, {"repeatable": True}):
            with pytest.raises(ConnectionFailed):
                opened.post("/v1/jobs", {"type": "demo.echo"}, **allowed)
    assert len(server.asked) == 4


def test_a_problem_is_told_in_full():
    faults = [{"in": "body", "pointer": "/args/url", "code": "missing", "detail": "Field required"}]
    document = {
        "type": "/problems/invalid-request", "title": "The request is not valid", "status": 400,
        "detail": "See errors.",
        "code": "invalid-request", "request_id": "r-1", "errors": faults, "holder": ID,
    }  # fmt: skip
    error = refused(says(document, 400))
    assert (error.type, error.title, error.code) == (document["type"], document["title"], document["code"])
    assert (error.detail, error.request_id, error.errors) == ("See errors.", "r-1", faults)
    assert error.document["holder"] == ID
    assert str(error) == (
        "The request is not valid (400 invalid-request). See errors. body /args/url: Field required [request id r-1]"
    )


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"\xff", b"[1]", b'"no"', b'{"errors": 3}'])
def test_an_error_without_a_problem_is_told_by_its_status(body):
    error = refused(httpx2.Response(502, content=body, headers={"X-Request-Id": "r-2"}))
    assert (type(error), error.title, error.code, error.errors) == (Unavailable, "Bad Gateway", None, [])
    assert error.request_id == "r-2"


def test_an_error_of_a_status_that_nobody_knows_still_is_one():
    assert isinstance(refused(httpx2.Response(599)), ServerError)
    assert isinstance(refused(httpx2.Response(499)), InvalidRequest)


@pytest.mark.parametrize("answer", [httpx2.Response(200, text="<html>"), httpx2.Response(200, text="[]")])
def test_an_answer_that_is_not_jobmills_is_no_job(answer):
    opened, server = client(answer)
    with pytest.raises(UnexpectedAnswer, match="not as Jobmill does"):
        opened.job(ID)
    assert len(server.asked) == 1


def test_a_redirect_is_not_followed_and_told():
    opened, server = client(httpx2.Response(301, headers={"Location": "https://elsewhere/"}))
    with pytest.raises(UnexpectedAnswer, match="https://elsewhere/") as raised:
        opened.job(ID)
    assert (raised.value.location, len(server.asked)) == ("https://elsewhere/", 1)


def test_an_answer_that_trickles_is_given_up(monkeypatch):
    now = itertools.count(0, 20)
    clock = SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr(connection, "time", clock)
    monkeypatch.setattr(answers, "time", clock)
    opened, _ = client(says(job()), retries=0)
    with pytest.raises(ConnectionFailed, match="did not finish"):
        opened.job(ID)


def test_an_answer_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(connection, "MOST_ANSWER_BYTES", 100)
    opened, server = client(says(job()))
    with pytest.raises(AnswerTooLarge, match="more than 100 bytes"):
        opened.job(ID)
    assert len(server.asked) == 1


def test_a_request_that_no_server_takes_is_not_sent():
    opened, server = client(says(job(), 202))
    with pytest.raises(RequestTooLarge, match="1048576"):
        opened.submit("csv.profile", {"text": "x" * 1024 * 1024})
    assert server.asked == []


def test_each_try_has_its_time_and_connecting_less():
    opened, server = client(says(job()), timeout=9)
    opened.job(ID)
    assert server.asked[0].extensions["timeout"] == {"connect": 5, "read": 9, "write": 9, "pool": 9}


def test_a_request_says_who_asks_and_with_what():
    opened, server = client(says(job()))
    opened.job(ID)
    (request,) = server.asked
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["User-Agent"] == "jobmill-client/0.1.0+unpublished"
    assert str(request.url) == f"{ADDRESS}/v1/jobs/{ID}"


def test_the_address_may_have_a_path():
    server = Scripted(says(job()))
    Client(f"{ADDRESS}/jobmill/", KEY, transport=server).job(ID)
    assert str(server.asked[0].url) == f"{ADDRESS}/jobmill/v1/jobs/{ID}"


def test_the_key_is_in_no_repr_error_or_log(caplog):
    caplog.set_level(logging.DEBUG)
    opened, _ = client(httpx2.ConnectError("refused"), problem(503), problem(400))
    with pytest.raises(ApiError) as raised:
        opened.submit("demo.echo", {"value": "private"})
    assert "trying again in 0.0 s: http://jobs.example.org does not answer (refused)." in caplog.text
    assert "private" not in caplog.text
    shown = [repr(opened), repr(opened.connection), repr(vars(opened.connection)), repr(raised.value), caplog.text]
    assert not [text for text in shown if KEY in text]
    assert "jobmill_client" in {record.name for record in caplog.records}


@pytest.mark.parametrize("bad", ["jm_abc_ü", "jm_abc\nX-Evil: 1", "two words", ""])
def test_a_key_of_a_wrong_form_is_refused_and_not_repeated(bad):
    with pytest.raises(ValueError, match="no API key") as raised:
        Client(ADDRESS, bad)
    assert not bad or bad not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://x", "http://", "http://x:port", "http://x:99999", "http://x?a=b", "http://[::1"],
)
def test_an_address_of_a_wrong_form_is_refused(url):
    with pytest.raises(ValueError, match="a right one"):
        Client(url, KEY)


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match="carries a user or password") as raised:
        Client("http://user:hunter2@host", KEY)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("job_id", ["", "../keys", "x", "1/cancel"])
def test_what_is_no_id_is_not_asked_for(job_id):
    opened, server = client(says(job()))
    with pytest.raises(ValueError, match="UUID"):
        opened.job(job_id)
    assert server.asked == []


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("", None), ("3", 3.0), ("0", 0.0), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert seconds_until(header) == seconds


def test_retry_after_may_be_a_date_to_come():
    wanted = datetime.now(UTC).replace(year=datetime.now(UTC).year + 1).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert 300 * 86_400 < (seconds_until(wanted) or 0) < 400 * 86_400


@pytest.mark.parametrize(
    "error",
    [
        ConnectionFailed(ADDRESS, "refused", sent=False),
        UnexpectedAnswer(ADDRESS, 301, "https://elsewhere/"),
        RequestTooLarge(2, 1),
        AnswerTooLarge(ADDRESS, 202, 1),
        Conflict(409, {"code": "not-unique", "holder": ID}, "r-1", 1.0),
        WaitTimedOut(ID, "running", 3.0),
        JobFailed(Job.model_validate(job("dead", error={"type": "ValueError", "message": "no", "code": None}))),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_travel_between_processes(error):
    error.idempotency_key = "mine"
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_every_name_that_is_offered_is_there():
    assert all(getattr(jobmill_client, name) for name in jobmill_client.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        jobmill_client.nothing  # noqa: B018
