import ast
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import orjson
import pytest
from flask import Flask, g

from api.kinds import CODES_BY_STATUS, KINDS
from api.problems import Flaw, Problem, response
from jobs.submission import Fault

API = Path(__file__).parents[2] / "api"
CLI = Path(__file__).parents[2] / "cli"


@pytest.fixture
def request_context() -> Iterator[None]:
    with Flask("test").test_request_context("/v1/jobs?limit=x"):
        g.request_id = "r-1"
        yield


def codes_in_the_code() -> set[str]:
    """The first argument of every `Problem(...)` and `Refusal(...)` that is written out."""
    calls = [
        node
        for folder in (API, CLI)
        for file in folder.glob("**/*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in {"Problem", "Refusal"}
    ]
    return {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}


def test_every_code_in_use_is_explained():
    assert codes_in_the_code() <= KINDS.keys()
    assert set(CODES_BY_STATUS.values()) <= KINDS.keys()


def test_no_code_is_explained_that_nothing_uses():
    assert KINDS.keys() - codes_in_the_code() - set(CODES_BY_STATUS.values()) <= {"http-error"}


@pytest.mark.parametrize(("status", "code"), CODES_BY_STATUS.items())
def test_the_frameworks_errors_get_a_code_of_their_own_status(status, code):
    assert KINDS[code].status == status


@pytest.mark.parametrize(("code", "kind"), KINDS.items())
def test_each_kind_is_an_error_with_words_for_people(code, kind):
    assert HTTPStatus(kind.status) >= HTTPStatus.BAD_REQUEST
    assert code == code.lower()
    assert kind.title
    assert kind.advice.endswith(".")
    assert 60 < len(kind.why) < 600
    assert kind.why.endswith(".")


def test_a_problem_is_told_as_rfc_9457_has_it(request_context: None):
    flaw = Flaw.in_body(Fault("/args/url", "url-type", "no URL"))
    answer = response(Problem("invalid-request", "See errors.", [flaw], {"Retry-After": "1"}, {"more": 1}))
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    assert answer.headers["Retry-After"] == "1"
    assert orjson.loads(answer.data) == {
        "type": "/problems/invalid-request",
        "title": "The request is not valid",
        "status": 400,
        "detail": "See errors.",
        "instance": "/v1/jobs",
        "code": "invalid-request",
        "request_id": "r-1",
        "more": 1,
        "errors": [{"in": "body", "pointer": "/args/url", "code": "url-type", "detail": "no URL"}],
    }


def test_a_problem_without_flaws_has_no_empty_list_of_them(request_context: None):
    assert "errors" not in orjson.loads(response(Problem("not-found", "nothing")).data)
