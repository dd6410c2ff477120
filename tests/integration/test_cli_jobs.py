"""The commands that talk to a server, against a server that says what each test needs."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from cli import connecting
from cli.main import main
from jobmill_client import connection, waiting
from jobmill_client.connection import Patience

ID = "01a20a68-14c5-749a-aed9-5ee1760574c8"
KEY = "jm_test_" + "k" * 43
PROBLEM = {"title": "The request is not valid", "detail": "See errors.", "code": "invalid-request", "request_id": "r-1"}

Run = Callable[..., Result]


def job(state: str = "queued", **members: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "type": "demo.echo",
        "queue": "default",
        "state": state,
        "attempt": 1,
        "max_attempts": 5,
    } | members


@pytest.fixture
def run(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connection, "_backoff", lambda _: 0.01)
    monkeypatch.setattr(waiting, "FIRST_PAUSE", 0.01)
    environment = {"JOBMILL_URL": httpserver.url_for("").rstrip("/"), "JOBMILL_API_KEY": KEY, "JOBMILL_DATA_DIR": None}

    def invoke(*args: str, **env: str | None) -> Result:
        result = CliRunner().invoke(main, args, env={**environment, **env})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert KEY not in result.output
        return result

    return invoke


def sent(httpserver: HTTPServer, at: int = 0) -> tuple[Request, Any]:
    request = httpserver.log[at][0]
    return request, json.loads(request.get_data() or "null")


def test_a_submission_says_all_that_was_asked_for(run, httpserver):
    httpserver.expect_request("/v1/jobs", method="POST").respond_with_json(job(), status=202)
    words = ["--args", '{"a": 1}', "--arg", "b=2", "--arg", "c=x", "--queue", "media", "--priority", "-5"]
    words += ["--delay", "1.5", "--max-attempts", "3", "--timeout", "60", "--unique-key", "u", "--tag", "k=v"]
    result = run("jobs", "submit", "demo.echo", *words, "--idempotency-key", "mine")
    assert result.exit_code == 0
    assert f"id          {ID}".split() == result.stdout.splitlines()[0].split()
    request, document = sent(httpserver)
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Idempotency-Key"] == "mine"
    assert document == {
        "type": "demo.echo",
        "args": {"a": 1, "b": 2, "c": "x"},
        "queue": "media",
        "priority": -5,
        "delay_seconds": 1.5,
        "max_attempts": 3,
        "timeout_seconds": 60,
        "unique_key": "u",
        "tags": {"k": "v"},
    }


def test_a_bare_submission_leaves_everything_to_the_server_but_the_idempotency_key(run, httpserver):
    httpserver.expect_request("/v1/jobs", method="POST").respond_with_json(job(), status=202)
    run("jobs", "submit", "demo.echo")
    run("jobs", "submit", "demo.echo", "--due-at", "2027-01-31T12:00:00+02:00")
    (first, document), (second, delayed) = sent(httpserver, 0), sent(httpserver, 1)
    assert document == {"type": "demo.echo", "args": {}}
    assert delayed["due_at"] == "2027-01-31T10:00:00Z"
    assert len({first.headers["Idempotency-Key"], second.headers["Idempotency-Key"]}) == 2


def test_a_submission_whose_answer_was_lost_is_repeated_under_the_same_key(run, httpserver):
    problem = {"title": "In use", "code": "idempotency-key-in-use"}
    httpserver.expect_ordered_request("/v1/jobs").respond_with_json({"title": "Away"}, status=503)
    httpserver.expect_ordered_request("/v1/jobs").respond_with_json(problem, status=409)
    httpserver.expect_ordered_request("/v1/jobs").respond_with_json(job(), status=202)
    assert run("jobs", "submit", "demo.echo").exit_code == 0
    keys = {request.headers["Idempotency-Key"] for request, _ in httpserver.log}
    assert (len(httpserver.log), len(keys)) == (3, 1)


def test_a_server_that_stays_broken_ends_with_3_and_the_key_to_try_again_with(run, httpserver):
    httpserver.expect_request("/v1/jobs").respond_with_json({"title": "Broken", "request_id": "r-9"}, status=500)
    result = run("jobs", "submit", "demo.echo", "--idempotency-key", "mine")
    assert (result.exit_code, result.stdout, len(httpserver.log)) == (3, "", 5)
    assert "Broken (500)" in result.stderr
    assert "request id: r-9" in result.stderr
    assert "--idempotency-key mine" in result.stderr


def test_a_server_that_is_not_there_ends_with_3(run):
    result = run("jobs", "list", JOBMILL_URL="http://127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "http://127.0.0.1:1 does not answer" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_server_that_is_not_jobmill_ends_with_3(run, httpserver):
    httpserver.expect_request("/v1/jobs").respond_with_data("<html>hello</html>")
    result = run("jobs", "list")
    assert result.exit_code == 3
    assert "not as Jobmill does" in result.stderr


def test_a_redirect_is_not_followed(run, httpserver):
    httpserver.expect_request("/v1/jobs").respond_with_data(status=301, headers={"Location": "https://elsewhere/"})
    result = run("jobs", "list")
    assert (result.exit_code, len(httpserver.log)) == (2, 1)
    assert "https://elsewhere/" in result.stderr


def test_an_answer_that_only_trickles_is_given_up(run, httpserver, monkeypatch):
    def trickle(_: Request) -> Response:
        def letters() -> Iterator[str]:
            for _ in range(30):
                time.sleep(0.1)
                yield " "

        return Response(letters(), content_type="application/json")

    monkeypatch.setattr(connecting, "CALL_SECONDS", 0.3)
    monkeypatch.setattr(connecting, "A_FEW_TIMES", Patience(retries=0))
    httpserver.expect_request("/v1/jobs").respond_with_handler(trickle)
    begun = time.monotonic()
    result = run("jobs", "list")
    assert result.exit_code == 3
    assert "did not finish its answer" in result.stderr
    assert time.monotonic() - begun < 2


def test_a_submission_that_was_never_sent_is_not_said_to_have_been_accepted(run):
    result = run("jobs", "submit", "demo.echo", "--idempotency-key", "mine", JOBMILL_URL="http://127.0.0.1:1")
    assert result.exit_code == 3
    assert "does not answer" in result.stderr
    assert "accepted" not in result.stderr


def test_two_tags_are_refused_and_none_is_dropped(run, httpserver):
    result = run("jobs", "list", "--tag", "a=b", "--tag", "c=d")
    assert (result.exit_code, "give --tag once" in result.stderr) == (2, True)
    assert httpserver.log == []


def test_a_refusal_is_told_in_full_and_not_tried_again(run, httpserver):
    fault = {"in": "body", "pointer": "/args/url", "code": "missing", "detail": "Field required"}
    httpserver.expect_request("/v1/jobs").respond_with_json({**PROBLEM, "errors": [fault]}, status=400)
    result = run("jobs", "submit", "demo.echo", "--json")
    assert (result.exit_code, result.stdout, len(httpserver.log)) == (1, "", 1)
    assert result.stderr.splitlines() == [
        "Error: The request is not valid (400 invalid-request)",
        "  See errors.",
        "  body /args/url: Field required",
        "  request id: r-1",
    ]


def test_a_rate_limit_is_waited_for_as_long_as_it_says(run, httpserver):
    httpserver.expect_ordered_request("/v1/jobs").respond_with_json({}, status=429, headers={"Retry-After": "0"})
    httpserver.expect_ordered_request("/v1/jobs").respond_with_json({"data": []})
    assert run("jobs", "list").exit_code == 0
    httpserver.clear()
    httpserver.expect_request("/v1/jobs").respond_with_json({}, status=429, headers={"Retry-After": "3600"})
    assert (run("jobs", "list").exit_code, len(httpserver.log)) == (1, 1)


def test_a_file_goes_into_the_types_content_argument(run, httpserver):
    properties = {"url": {"type": "string"}, "text": {"type": "string", "contentMediaType": "text/csv"}}
    httpserver.expect_request("/v1/job-types/csv.profile").respond_with_json(
        {"args_schema": {"properties": properties}}
    )
    httpserver.expect_request("/v1/jobs", method="POST").respond_with_json(job(), status=202)
    Path("data.csv").write_text("a,b\n1,2\n")
    assert run("jobs", "submit", "csv.profile", "--arg-file", "data.csv").exit_code == 0
    assert sent(httpserver, 1)[1]["args"] == {"text": "a,b\n1,2\n"}
    assert run("jobs", "submit", "csv.profile", "--arg-file", "body=data.csv").exit_code == 0
    assert sent(httpserver, 2)[1]["args"] == {"body": "a,b\n1,2\n"}


def test_a_file_that_no_server_takes_is_not_sent(run, httpserver):
    Path("data.csv").write_text("x" * 1024 * 1024)
    result = run("jobs", "submit", "csv.profile", "--arg-file", "text=data.csv")
    assert (result.exit_code, httpserver.log) == (2, [])
    assert "1048576" in result.stderr


def test_waiting_shows_the_way_on_stderr_and_the_job_on_stdout(run, httpserver):
    reading = job("running", progress={"percent": 40, "message": "reading"})
    httpserver.expect_ordered_request("/v1/jobs", method="POST").respond_with_json(job(), status=202)
    for document in (job(), reading, reading, job("succeeded", result={"rows": 1})):
        httpserver.expect_ordered_request(f"/v1/jobs/{ID}").respond_with_json(document)
    result = run("jobs", "submit", "demo.echo", "--wait")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"Submitted {ID}",
        "queued (attempt 1/5)",
        "running (attempt 1/5) 40% reading",
        "succeeded (attempt 1/5)",
    ]
    assert '"rows": 1' in result.stdout
    httpserver.check_assertions()


@pytest.mark.parametrize("state", ["dead", "cancelled", "discarded"])
def test_a_job_that_did_not_succeed_ends_with_1(run, httpserver, state):
    document = job(state, error={"type": "ValueError", "message": "no such column", "code": None})
    httpserver.expect_request(f"/v1/jobs/{ID}").respond_with_json(document)
    result = run("jobs", "wait", ID, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == document
    assert f"Error: The job is {state}: ValueError: no such column" in result.stderr
    assert run("jobs", "get", ID).exit_code == 0


def test_a_wait_that_runs_out_ends_with_4(run, httpserver):
    httpserver.expect_request(f"/v1/jobs/{ID}").respond_with_json(job("running"), headers={"Retry-After": "60"})
    result = run("jobs", "wait", ID, "--timeout-wait", "0.1")
    assert (result.exit_code, result.stdout, len(httpserver.log)) == (4, "", 2)
    assert f"jobmill jobs wait {ID}" in result.stderr


def test_a_wait_outlives_a_restart_of_the_server(run, httpserver):
    for _ in range(8):
        httpserver.expect_ordered_request(f"/v1/jobs/{ID}").respond_with_json({}, status=503)
    httpserver.expect_ordered_request(f"/v1/jobs/{ID}").respond_with_json(job("succeeded"))
    assert run("jobs", "wait", ID).exit_code == 0


def test_json_is_the_servers_own_bytes(run, httpserver):
    body = b'{"id": "x", "state": "succeeded", "result": 1e22, "n": 1.0, "s": "\xc3\xa9"}'
    httpserver.expect_request(f"/v1/jobs/{ID}").respond_with_data(body, content_type="application/json")
    result = run("jobs", "get", ID, "--json")
    assert (result.exit_code, result.stdout_bytes) == (0, body + b"\n")


def test_a_list_asks_for_what_is_wanted_and_says_that_there_is_more(run, httpserver):
    httpserver.expect_request("/v1/jobs").respond_with_json({"data": [job()], "next_cursor": "c1"})
    result = run(
        "jobs", "list", "--state", "dead", "--state", "queued", "--type", "a.b", "--queue", "q", "--limit", "1"
    )
    asked = httpserver.log[0][0].args
    assert asked.getlist("state") == ["dead", "queued"]
    assert dict(asked.items()) == {"state": "dead", "type": "a.b", "queue": "q", "limit": "1"}
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ID", ID]
    assert "--all" in result.stderr


@pytest.mark.parametrize("command", [["list"], ["events", ID]])
def test_all_follows_every_page(run, httpserver, command):
    path = "/v1/jobs" if command == ["list"] else f"/v1/jobs/{ID}/events"

    def page(request: Request) -> Response:
        number = int(request.args.get("cursor", "1"))
        document = {"data": [{"id": number, "at": number}], "next_cursor": str(number + 1) if number < 3 else None}
        return Response(json.dumps(document), content_type="application/json")

    httpserver.expect_request(path).respond_with_handler(page)
    assert [line.split()[0] for line in run("jobs", *command, "--all").stdout.splitlines()[1:]] == ["1", "2", "3"]
    lines = run("jobs", *command, "--all", "--json").stdout.splitlines()
    assert [json.loads(line)["data"][0]["id"] for line in lines] == [1, 2, 3]


def test_cancelling_shows_the_job(run, httpserver):
    httpserver.expect_request(f"/v1/jobs/{ID}/cancel", method="POST").respond_with_json(job("cancelled"), status=202)
    result = run("jobs", "cancel", ID)
    assert result.exit_code == 0
    assert "cancelled" in result.stdout
    assert sent(httpserver)[0].get_data() == b""


@pytest.mark.parametrize(("state", "code"), [("cancelled", 0), ("succeeded", 1)])
def test_cancelling_a_final_job_is_refused_unless_it_is_cancelled(run, httpserver, state, code):
    final = {"title": "The job is final", "code": "job-is-final"}
    httpserver.expect_request(f"/v1/jobs/{ID}/cancel", method="POST").respond_with_json(final, status=409)
    httpserver.expect_request(f"/v1/jobs/{ID}").respond_with_json(job(state))
    assert run("jobs", "cancel", ID).exit_code == code


def test_types_and_workers_are_shown(run, httpserver):
    known = {"type": "demo.echo", "queue": "default", "description": "Returns its arguments.\n\nMore.", "retry": {}}
    worker = {"id": ID, "state": "live", "host": "h", "pid": 1, "queues": ["a", "b"], "busy": 0, "threads": 8}
    httpserver.expect_request("/v1/job-types").respond_with_json({"data": [known], "next_cursor": None})
    httpserver.expect_request("/v1/job-types/demo.echo").respond_with_json(known)
    httpserver.expect_request("/v1/workers").respond_with_json({"data": [worker], "next_cursor": None})
    assert run("job-types", "list").stdout.splitlines()[1].split(None, 2)[2] == "Returns its arguments."
    assert "demo.echo" in run("job-types", "show", "demo.echo").stdout
    assert run("workers", "list").stdout.splitlines()[1].split()[4] == "a,b"
    assert json.loads(run("workers", "list", "--json").stdout) == {"data": [worker], "next_cursor": None}


@pytest.mark.parametrize(
    "words",
    [
        ["jobs", "get", "../keys"],
        ["jobs", "submit", "../keys"],
        ["jobs", "submit", "a.b", "--delay", "1", "--due-at", "2027-01-31T12:00:00Z"],
        ["jobs", "submit", "a.b", "--timeout-wait", "3"],
        ["jobs", "submit", "a.b", "--args", "[]"],
        ["jobs", "list", "--limit", "0"],
        ["jobs", "list", "--state", "asleep"],
        ["jobs", "list", "--url", "ftp://x"],
        ["jobs"],
        ["nothing"],
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_sent(run, httpserver, words):
    result = run(*words)
    assert (result.exit_code, result.stdout, httpserver.log) == (2, "", [])
    assert result.stderr


def test_the_embedded_servers_key_file_is_used_when_no_key_is_set(run, httpserver, tmp_path):
    httpserver.expect_request("/v1/jobs").respond_with_json({"data": []})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "api_key").write_text("jm_file_" + "f" * 43 + "\n")
    assert run("jobs", "list", JOBMILL_API_KEY=None).exit_code == 2
    assert run("jobs", "list", JOBMILL_API_KEY=None, JOBMILL_DATA_DIR=str(tmp_path / "data")).exit_code == 0
    assert httpserver.log[0][0].headers["Authorization"] == "Bearer jm_file_" + "f" * 43
