"""What counts as a change that breaks clients, and that the committed description has none."""

import copy
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BIN = Path(__file__).parents[2] / "bin"
COMMITTED: dict[str, Any] = json.loads((BIN.parent / "docs" / "openapi.json").read_text(encoding="utf-8"))
JOBS = "/v1/jobs"

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def breaking() -> Callable[[Any, Any], list[str]]:
    function: Callable[[Any, Any], list[str]] = loaded("breaking").breaking
    return function


def loaded(name: str) -> ModuleType:
    sys.path.append(str(BIN))
    spec = importlib.util.spec_from_file_location(f"bin_{name}", BIN / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(change: Change) -> dict[str, Any]:
    document = copy.deepcopy(COMMITTED)
    change(document)
    return document


def submission(document: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = document["components"]["schemas"]["SubmitBody.demo.echo"]
    return schema


def job(document: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = document["components"]["schemas"]["Job"]
    return schema


def parameter(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in document["paths"][JOBS]["get"]["parameters"] if one["name"] == name)  # type: ignore[no-any-return]


BREAKS: dict[str, Change] = {
    "an operation is gone": lambda d: d["paths"][JOBS].pop("post"),
    "a path is gone": lambda d: d["paths"].pop("/v1/workers"),
    "a parameter is gone": lambda d: d["paths"][JOBS]["get"]["parameters"].remove(parameter(d, "queue")),
    "a parameter is required now": lambda d: parameter(d, "queue").update(required=True),
    "a new parameter is required": lambda d: d["paths"][JOBS]["get"]["parameters"].append(
        {"name": "who", "in": "query", "required": True, "schema": {"type": "string"}}
    ),
    "a parameter takes less": lambda d: parameter(d, "limit")["schema"].update(maximum=100),
    "a state cannot be asked for": lambda d: d["components"]["schemas"]["State"]["enum"].remove("dead"),
    "another scope is needed": lambda d: d["paths"][JOBS]["get"].update(security=[{"bearer": ["keys:write"]}]),
    "a member cannot be sent": lambda d: submission(d)["properties"].pop("tags"),
    "a member must be sent": lambda d: submission(d)["required"].append("tags"),
    "a new member must be sent": lambda d: (
        submission(d)["properties"].update(who={"type": "string"}),
        submission(d)["required"].append("who"),
    ),
    "a member may hold less": lambda d: submission(d)["properties"]["priority"].update(maximum=10),
    "a member has another type": lambda d: submission(d)["properties"]["priority"].update(type="string"),
    "a member has a pattern now": lambda d: submission(d)["properties"]["priority"].update(pattern="^x$"),
    "a job type is gone": lambda d: d["components"]["schemas"]["SubmitBody"]["oneOf"].pop(),
    "an argument is gone": lambda d: d["components"]["schemas"]["Args.demo.sleep"]["properties"].pop("seconds"),
    "a member is no longer answered": lambda d: job(d)["properties"].pop("lost"),
    "a member is not always answered": lambda d: job(d)["required"].remove("lost"),
    "a member may be null": lambda d: job(d)["properties"]["queue"].update(type=["string", "null"]),
    "an inner member is gone": lambda d: d["components"]["schemas"]["Progress"]["properties"].pop("percent"),
    "a status is gone": lambda d: d["paths"][JOBS]["post"]["responses"].pop("202"),
    "a header is gone": lambda d: d["paths"][JOBS]["post"]["responses"]["202"]["headers"].pop("Location"),
    "a problem is no longer told": lambda d: d["components"]["responses"]["job-is-final"]["content"][
        "application/problem+json"
    ]["examples"].clear(),
    "another media type is answered": lambda d: d["paths"][JOBS]["get"]["responses"]["200"].update(
        content={"text/csv": {"schema": {}}}
    ),
    "an older version": lambda d: (d["info"].update(version="0.9"), d["paths"].pop("/v1/workers")),
}

HARMLESS: dict[str, Change] = {
    "nothing": lambda d: None,
    "an operation more": lambda d: d["paths"].update({"/v1/more": d["paths"][JOBS]}),
    "a parameter more": lambda d: d["paths"][JOBS]["get"]["parameters"].append(
        {"name": "who", "in": "query", "schema": {"type": "string"}}
    ),
    "a parameter takes more": lambda d: parameter(d, "limit")["schema"].update(maximum=1000),
    "a state more": lambda d: d["components"]["schemas"]["State"]["enum"].append("paused"),
    "a member more may be sent": lambda d: submission(d)["properties"].update(who={"type": "string"}),
    "a member may hold more": lambda d: submission(d)["properties"]["priority"].update(maximum=1000),
    "a member need not be sent": lambda d: submission(d)["required"].remove("type"),
    "a member more is answered": lambda d: (job(d)["properties"].update(who={}), job(d)["required"].append("who")),
    "a status more": lambda d: d["paths"][JOBS]["get"]["responses"].update({"418": {"description": "a teapot"}}),
    "other words": lambda d: (job(d).update(description="other"), d["paths"][JOBS]["get"].update(summary="other")),
    "a job type more": lambda d: d["components"]["schemas"]["SubmitBody"]["oneOf"].append({"type": "object"}),
    "the next version": lambda d: (d["info"].update(version="2.0"), d["paths"].clear()),
}


@pytest.mark.parametrize("change", BREAKS.values(), ids=BREAKS)
def test_a_change_that_takes_something_from_clients_is_told(breaking: Any, change: Change):
    assert breaking(COMMITTED, changed(change))


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_a_change_that_only_adds_is_not(breaking: Any, change: Change):
    assert breaking(COMMITTED, changed(change)) == []


def test_the_api_still_gives_all_that_its_committed_description_promises():
    assert loaded("docs").broken() == []


def test_the_committed_description_is_of_the_api_as_it_is():
    assert loaded("docs").openapi() == (BIN.parent / "docs" / "openapi.json").read_text(encoding="utf-8"), "make docs"
