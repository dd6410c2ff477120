"""The OpenAPI document says what the code does, in full, and in the form that tools can read."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel

from api.app import create_app, describe
from api.endpoint import operation_of
from api.kinds import KINDS
from api.services import Services
from jobs.registry import Registry, job, load
from jobs.scopes import Scope
from jobs.webhooks import DISABLED, SUBSCRIBED, TEST
from tests.doors import settings, types

# Read by people only.
UNTOLD = {"/docs", "/docs/<name>"}
TYPES = Registry()
for known in (
    *types.all(),
    *(known for known in load(()).offered() if known.handler.__module__.startswith("jobs.builtin.")),
):
    TYPES.add(known)
DOCUMENT = describe(TYPES)


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Any = DOCUMENT
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return resolved(found)


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "requestBody" in operation:
        for content in operation["requestBody"]["content"].values():
            yield "body", content
    for status, answer in operation["responses"].items():
        for content in resolved(answer).get("content", {}).values():
            yield status, content


def examples_of(content: dict[str, Any]) -> list[Any]:
    several = [example["value"] for example in content.get("examples", {}).values()]
    return [content["example"]] if "example" in content else several


def valid(schema: dict[str, Any], value: Any) -> bool:
    return jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).is_valid(value)


each_operation = pytest.mark.parametrize(
    "operation", [operation for _, operation in operations()], ids=[name for name, _ in operations()]
)


def test_the_document_is_openapi():
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_route_is_told():
    nothing: Any = None
    app = create_app(Services(settings(), nothing, nothing, nothing, version="0"))
    for rule in app.url_map.iter_rules():
        if rule.rule not in UNTOLD:
            assert operation_of(app.view_functions[rule.endpoint]), (
                f"{rule.rule} is not declared by `endpoint` or `public`"
            )


@each_operation
def test_every_operation_says_what_it_does_and_who_may(operation: dict[str, Any]):
    assert 5 < len(operation["summary"]) < 120
    assert operation["operationId"]
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    for way in operation["security"]:
        assert [Scope(scope) for scope in way["bearer"]]


def test_only_what_is_meant_for_everybody_needs_no_key():
    assert {name for name, operation in operations() if not operation["security"]} == {
        "GET /healthz",
        "GET /readyz",
        "GET /openapi.json",
        "GET /.well-known/jwks.json",
        "GET /.well-known/oauth-authorization-server",
        "POST /oauth/token",
        "GET /problems/{code}",
    }


def test_names_of_operations_are_used_once():
    names = [operation["operationId"] for _, operation in operations()]
    assert len(names) == len(set(names))


@each_operation
def test_every_operation_has_examples_and_each_is_right(operation: dict[str, Any]):
    found = [(content["schema"], example) for _, content in contents(operation) for example in examples_of(content)]
    told = any(examples_of(content) for place, content in contents(operation) if place == "body" or place < "400")
    assert told or "204" in operation["responses"]
    for schema, example in found:
        assert valid(schema, example), example


@each_operation
def test_every_operation_tells_its_problems(operation: dict[str, Any]):
    told = {
        code
        for status, answer in operation["responses"].items()
        if status >= "400"
        for code in resolved(answer).get("content", {}).get("application/problem+json", {}).get("examples", ())
    }
    assert {"internal-error", "body-too-large"} <= told <= KINDS.keys()
    if operation["security"]:
        assert {"unauthenticated", "forbidden", "invalid-request", "unavailable"} <= told
    if "application/json" in operation.get("requestBody", {}).get("content", ()):
        assert {"malformed-json", "unsupported-media-type", "length-required", "incomplete-body"} <= told


@pytest.mark.parametrize(
    ("submission", "right"),
    [
        ({"type": "test.echo"}, True),
        ({"type": "test.echo", "args": {"value": [1]}}, True),
        ({"type": "test.strict", "args": {"number": 1}}, True),
        ({"type": "test.strict", "args": {"number": 1}, "max_attempts": 4}, True),
        ({"type": "test.strict", "args": {"number": 1}, "max_attempts": 5}, False),
        ({"type": "test.strict", "args": {"number": 1}, "timeout_seconds": 121}, False),
        ({"type": "test.strict", "args": {"number": "1"}}, False),
        ({"type": "test.strict"}, False),
        ({"type": "test.echo", "priority": 101}, False),
        ({"type": "test.echo", "priority": 1.0}, True),
        ({"type": "test.echo", "max_attempts": 0}, False),
        ({"type": "test.echo", "due_at": "1970-01-01T00:00:00Z"}, True),
        ({"type": "test.echo", "due_at": "9998-12-31T23:59:59Z"}, True),
        ({"type": "test.echo", "due_at": "9999-01-01T00:00:00Z"}, False),
        ({"type": "test.echo", "due_at": "1969-12-31T23:59:59Z"}, False),
        ({"type": "csv.profile"}, False),
        ({"type": "csv.profile", "args": {"text": "a"}}, True),
        ({"type": "csv.profile", "args": {"text": "a", "url": None}}, True),
        ({"type": "csv.profile", "args": {"text": "a", "url": "b"}}, False),
        ({"type": "no.such"}, False),
        ({"args": {}}, False),
        ({"type": "test.echo", "who": 1}, False),
        ({"type": "test.echo", "due_at": "2027-01-01T00:00:00Z", "delay_seconds": 1}, False),
        ({"type": "test.echo", "due_at": "2027-01-01T00:00:00Z", "delay_seconds": None}, True),
    ],
)
def test_a_submission_is_told_by_its_type(submission: dict[str, Any], right: bool):
    schema = DOCUMENT["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert valid(schema, submission) is right
    assert set(resolved(schema)["discriminator"]["mapping"]) == {known.name for known in TYPES.offered()}


class Leaf(BaseModel):
    size: int


class Tree(BaseModel):
    leaves: list[Leaf]


def test_arguments_with_types_of_their_own_are_told_too():
    grown = Registry()

    @job("test.tree", into=grown)
    def plant(args: Tree) -> None:
        """Plant it."""

    document = describe(grown)
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    schema = {"$ref": "#/components/schemas/Args.test.tree", "components": document["components"]}
    told = jsonschema_rs.validator_for(schema)
    assert told.is_valid({"leaves": [{"size": 1}]})
    assert not told.is_valid({"leaves": [{"size": "x"}]})


def test_an_installation_without_job_types_is_described_as_well():
    assert list(OpenAPIV31SpecValidator(describe(Registry())).iter_errors()) == []


def test_the_command_prints_the_document(tmp_path: Any):
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "openapi"], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["paths"].keys() == DOCUMENT["paths"].keys()


# Webhooks


def test_every_event_is_told_with_its_headers():
    assert DOCUMENT["webhooks"].keys() == {*SUBSCRIBED, TEST, DISABLED}
    for event in DOCUMENT["webhooks"].values():
        headers = [told["name"] for told in event["post"]["parameters"]]
        assert headers == ["webhook-id", "webhook-timestamp", "webhook-signature"]


@pytest.mark.parametrize("event", sorted({*SUBSCRIBED, TEST, DISABLED}))
def test_the_example_of_an_event_is_right_and_another_events_is_not(event: str):
    content = DOCUMENT["webhooks"][event]["post"]["requestBody"]["content"]["application/json"]
    assert valid(content["schema"], content["example"])
    assert not valid(content["schema"], content["example"] | {"type": "job.unheard_of"})
    assert not valid(content["schema"], content["example"] | {"data": {}})
