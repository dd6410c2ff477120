from datetime import UTC, datetime

import httpx2
import pytest

from cli import job_view, output
from cli.problems import describe
from cli.visible import visible
from jobmill_client.answers import judged
from jobmill_client.errors import ApiError, api_error

ID = "01a20a68-14c5-749a-aed9-5ee1760574c8"
JOB = {
    "id": ID,
    "type": "csv.profile",
    "state": "running",
    "attempt": 2,
    "max_attempts": 5,
    "progress": {"percent": 40.4, "message": "reading\x1b[2J"},
    "tags": {"customer": "42"},
    "error": {"type": "ValueError", "message": "no such column", "code": None},
    "result": {"rows": 1},
}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")


def test_columns_are_aligned_and_whole_in_a_pipe(capsys):
    table = output.Table("id", "state", "note")
    table.show([(ID, "queued", None), ("x" * 200, "", "last")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "STATE", "NOTE"]
    assert lines[1].split() == [ID, "queued", "-"]
    assert lines[2].startswith("x" * 200 + " ")
    assert lines[0].index("NOTE") == lines[1].rindex("-") == lines[2].index("last")


def test_the_headings_stand_once_over_all_pages(capsys):
    table = output.Table("id")
    table.show([("1",)])
    table.show([("2",)])
    assert capsys.readouterr().out == "ID\n1\n2\n"


def test_an_empty_list_still_says_what_it_lists(capsys):
    output.Table("id", "state").show([])
    assert capsys.readouterr().out == "ID  STATE\n"


def test_an_id_is_whole_on_a_narrow_terminal(capsys, terminal):
    output.Table("id", "queue", "type", "state", "at").show([(ID, "default", "t" * 30, "running", "[bold]markup[/]")])
    out = capsys.readouterr().out
    assert ID in out
    assert "t" * 30 in out
    assert "[bold]markup[/]" in out


def test_a_terminal_sees_times_to_the_second_and_a_pipe_sees_all(capsys, monkeypatch):
    at = datetime(2027, 1, 31, 12, 0, 0, 123456, UTC)
    output.Table("at").show([(at,)])
    assert "2027-01-31T12:00:00.123456Z" in capsys.readouterr().out
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    output.Table("at").show([(at,)])
    assert "2027-01-31T12:00:00Z" in capsys.readouterr().out


def test_details_leave_out_what_is_not_there(capsys):
    output.details([("id", ID), ("lost", None), ("result", {"rows": [1]})])
    name, *rest = capsys.readouterr().out.splitlines()
    assert name == f"id      {ID}"
    assert rest[0] == "result  {"
    assert [line.strip() for line in rest[1:]] == ['"rows": [', "1", "]", "}"]


@pytest.mark.parametrize("on_terminal", [True, False])
def test_a_jobs_words_do_not_steer_the_terminal(capsys, monkeypatch, on_terminal):
    monkeypatch.setattr(output, "on_terminal", lambda: on_terminal)
    evil = "\x1b]0;owned\x07\x9b2J\u202egpj\r\n"
    output.details([("message", evil), ("args", {"a": evil}), ("error", evil)])
    output.Table("message").show([(evil,)])
    output.note(evil)
    told = "".join(capsys.readouterr())
    assert not {"\x07", "\x9b", "\u202e", "\r"} & set(told)
    assert "\x1b]" not in told
    assert "owned" in told


def test_visible_leaves_ordinary_text_alone():
    assert visible("über 日本 👍 [x] \t.") == "über 日本 👍 [x] \t."
    assert visible("a\nb\x00") == "a\\nb\\x00"


def test_a_job_in_a_line():
    assert job_view.line(JOB) == "running (attempt 2/5) 40% reading\x1b[2J"
    assert job_view.line({"state": "queued", "max_attempts": 5}) == "queued (attempt 0/5)"
    assert job_view.line({**JOB, "state": "queued", "progress": None}).endswith(
        "(attempt 2/5) ValueError: no such column"
    )
    assert job_view.line({**JOB, "state": "succeeded"}) == "succeeded (attempt 2/5)"


def test_a_jobs_details_tell_why_and_what():
    details = dict(job_view.details(JOB))
    assert details["error"] == "ValueError: no such column"
    assert details["tags"] == "customer=42"
    assert details["result"] == {"rows": 1}
    assert details["args"] is None


def test_a_long_result_is_cut_with_a_word_on_how_to_see_it():
    cut = dict(job_view.details({**JOB, "result": ["x" * 10_000]}))["result"]
    assert isinstance(cut, str)
    assert len(cut) < 9000
    assert "--json" in cut


def test_a_problem_is_told_with_every_fault_and_the_request_id():
    document = {
        "title": "The request is not valid",
        "code": "invalid-request",
        "detail": "See errors.",
        "request_id": "r-1",
        "errors": [
            {"in": "body", "pointer": "/args/url", "code": "missing", "detail": "Field required"},
            {"in": "query", "pointer": "limit", "code": "too-big"},
        ],
    }
    assert describe(api_error(400, document, "r-2")).splitlines() == [
        "The request is not valid (400 invalid-request)",
        "  See errors.",
        "  body /args/url: Field required",
        "  query limit: too-big",
        "  request id: r-1",
    ]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff", b'{"errors": 3, "title": null}'])
def test_a_refusal_without_a_problem_document_is_told_too(body):
    with pytest.raises(ApiError) as refusal:
        judged("http://x", httpx2.Response(502, headers={"X-Request-Id": "r-2"}), body)
    assert describe(refusal.value) == "Bad Gateway (502)\n  request id: r-2"
