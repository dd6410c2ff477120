"""Whoever uses what will be gone is told so, and nobody else."""

from datetime import date
from typing import Annotated, Any

import pytest
from flask import Blueprint
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel
from typing_extensions import TypedDict

from api import openapi
from api.app import create_app
from api.deprecation import Deprecated
from api.endpoint import Call, Reply, endpoint
from api.lists import ListQuery
from jobs.scopes import Scope
from tests.doors import Caller, Doors

OLD = Deprecated(since=date(2027, 1, 1), sunset=date(2028, 6, 30), use="`color`")
OLDER = Deprecated(since=date(2026, 1, 1), sunset=date(2029, 1, 1), use="`size`")
TOLD_OLD = {"Deprecation": "@1798761600", "Sunset": "Fri, 30 Jun 2028 00:00:00 GMT"}
TOLD_OLDER = {"Deprecation": "@1767225600", "Sunset": "Mon, 01 Jan 2029 00:00:00 GMT"}
TOLD_BOTH = {"Deprecation": "@1767225600", "Sunset": "Fri, 30 Jun 2028 00:00:00 GMT"}
NOTHING = {"Deprecation": None, "Sunset": None}


class Paint(BaseModel, extra="forbid"):
    color: str | None = None
    colour: Annotated[str | None, OLD] = None
    width: Annotated[int, OLDER] = 1


class PaintQuery(ListQuery):
    colour: Annotated[str | None, OLD] = None


class PaintDocument(TypedDict):
    """Some paint."""

    color: str
    width: Annotated[int, OLDER]


doors_of_old = Blueprint("old", __name__, url_prefix="/v1/old")


@endpoint(doors_of_old, "GET", "/list", scope=Scope.JOBS_READ, query=PaintQuery)
def list_paint(call: Call) -> Reply:
    """Paint."""
    return Reply({})


@endpoint(doors_of_old, "POST", "/paint", scope=Scope.JOBS_WRITE, body=Paint)
def paint(call: Call) -> Reply:
    """Paint it."""
    return Reply({})


@endpoint(doors_of_old, "GET", "/paint", scope=Scope.JOBS_READ, reply=PaintDocument)
def get_paint(call: Call) -> Reply:
    """See it."""
    return Reply({"color": "red", "width": 1})


@endpoint(doors_of_old, "GET", "/gone", scope=Scope.JOBS_READ, deprecated=OLD)
def gone(call: Call) -> Reply:
    """See nothing."""
    return Reply({})


@pytest.fixture(scope="module")
def doors(shared_sqlite: Any) -> Doors:
    made = Doors(shared_sqlite)
    made.app = create_app(made.services)
    made.app.register_blueprint(doors_of_old)
    return made


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("GET", "/list", None, NOTHING),
        ("GET", "/list?colour=red", None, TOLD_OLD),
        ("POST", "/paint", {"color": "red"}, NOTHING),
        ("POST", "/paint", {"colour": "red"}, TOLD_OLD),
        ("POST", "/paint", {"width": 1}, TOLD_OLDER),
        ("POST", "/paint", {"width": 1, "colour": None}, TOLD_BOTH),
        ("GET", "/paint", None, TOLD_OLDER),
        ("GET", "/paint?fields=color", None, NOTHING),
        ("GET", "/paint?fields=width", None, TOLD_OLDER),
        ("GET", "/gone", None, TOLD_OLD),
    ],
)
def test_a_marked_member_is_told_of_when_it_is_used(
    caller: Caller, method: str, path: str, body: Any, told: dict[str, str | None]
):
    address = f"/v1/old{path}"
    answer = caller.get(address) if method == "GET" else caller.post(address, body)
    assert answer.status_code == 200, answer.text
    assert {name: answer.headers.get(name) for name in told} == told
    assert ('rel="deprecation"' in answer.headers.get("Link", "")) is (told is not NOTHING)


def test_the_description_of_the_api_marks_it_too(doors: Doors):
    document = openapi.document(doors.app, doors.services.registry)
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert document["components"]["schemas"]["Paint"]["properties"]["width"]["deprecated"] is True
    assert "use `color`" in document["components"]["schemas"]["Paint"]["properties"]["colour"]["description"]
    assert document["paths"]["/v1/old/gone"]["get"]["deprecated"] is True
    marked = {
        one["name"]: one.get("deprecated", False) for one in document["paths"]["/v1/old/list"]["get"]["parameters"]
    }
    assert marked["colour"] is True
    assert marked["limit"] is False
