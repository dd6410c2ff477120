"""The OpenAPI 3.1 document, made of what endpoint.py knows of each operation; nothing is told twice.

What follows from the conventions (parameters of lists, problems of whatever takes a body, headers of every answer)
is written here once for all operations.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from api import fieldsets
from api.endpoint import operation_of
from api.kinds import KINDS
from api.openapi_webhooks import webhooks
from api.operation import Operation, TakenHeader
from api.problems import ProblemDocument
from api.schemas import Schema, Schemas
from jobs.registry import Registry

API_VERSION = "1.0"
"""The version of the contract. A change that breaks clients needs another first number, and another path."""

_PARAMETER = re.compile(r"<(?:[^:>]+:)?([^>]+)>")
_NO_UUIDS = {"key_id"}
_EVERYWHERE = ("body-too-large", "internal-error")
_WITH_SCOPE = ("invalid-request", "unauthenticated", "forbidden", "unavailable", "issuer-away", "quota-exceeded")
_WITH_BODY = ("malformed-json", "incomplete-body", "length-required", "unsupported-media-type")
_WITH_CURSOR = ("invalid-cursor",)
_WITH_PATH = ("not-found",)

REQUEST_ID = TakenHeader(
    "X-Request-Id",
    "",
    "",
    "",
    "Names the request in the answer and in every log line; made up if it is missing or not visible ASCII.",
    "checkout-7f3a",
)
IF_NONE_MATCH = TakenHeader(
    "If-None-Match",
    "",
    "",
    "",
    "The `ETag` of what you have; if that is still right, the answer is 304 and empty.",
    '"kq3x0yT9zXQ2oYb1nq0fVtDk"',
)
COMMON_HEADERS = {
    "X-Request-Id": "The request's id, as it was sent or made.",
    "Jobmill-Version": "The release that answered.",
    "RateLimit-Policy": "How many requests of this class the principal may make, in how many seconds.",
    "RateLimit": "How many of them are left, and in how many seconds there are more.",
}
ABOUT = """Submit jobs, follow them, and look after what failed.

Every error is a problem document (RFC 9457) whose `type` is a page that says what happened, why, and what to do."""
GROUPS = {
    "jobs": ("Jobs", "Submit jobs, follow them, cancel them."),
    "batch": ("Batches", "Up to 1,000 jobs in one request."),
    "catalogue": ("Catalogue", "What can be submitted here, and who does it."),
    "tokens": ("Tokens", "Short-lived tokens instead of keys, and what they are verified with."),
    "dead_letters": ("Dead letters", "See what failed for good and why; mend, replay or discard it."),
    "redrives": ("Redrives", "Replay or discard dead letters by the thousand, at a pace."),
    "webhook_endpoints": ("Webhook endpoints", "Have jobs' ends told to your own URLs, by signed requests."),
    "webhook_deliveries": ("Webhook deliveries", "See what was sent and what was answered; send it once more."),
    "webhook_secret": ("Webhook secret", "What signs webhooks to URLs that come with jobs."),
    "queues": ("Queues", "See what waits where, and how it moves; pause, resume and limit."),
    "keys": ("Keys", "Who may do what in a tenant."),
    "undeliverable": ("Undeliverable messages", "See and discard what RabbitMQ could not deliver and is of no job."),
    "audit_log": ("Audit log", "Who changed what."),
    "health": ("Health", "For load balancers and monitors."),
    "pages": ("Pages", "What explains this API."),
}
"""The document's tags by blueprint, in the order in which /docs shows them: what most come for is first."""
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, `jm_<key id>_<secret>`, or a token: of /oauth/token, or of an issuer that is trusted "
    "here. Each operation names the scope that it must have.",
}


def document(app: Flask, registry: Registry) -> dict[str, Any]:
    """The document of an application with such job types."""
    schemas = Schemas(registry)
    responses: dict[str, Schema] = {}
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, operation in _operations(app):
        path = _PARAMETER.sub(r"{\1}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _operation(rule, operation, responses, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Jobmill", "version": API_VERSION, "description": ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in GROUPS.values()],
        "paths": {path: paths[path] for path in sorted(paths)},
        "webhooks": webhooks(schemas),
        "components": {
            "securitySchemes": {"bearer": BEARER},
            "schemas": schemas.all(),
            "responses": {name: responses[name] for name in sorted(responses)},
            "headers": {name: _header(told) for name, told in COMMON_HEADERS.items()},
        },
    }


def problems_of(operation: Operation, *, path_parameters: bool) -> list[str]:
    """Every code that the operation may answer, in the order of their page."""
    codes = {
        *_EVERYWHERE,
        *(_WITH_SCOPE if operation.scope else ()),
        *(_WITH_BODY if operation.body else ()),
        *(_WITH_CURSOR if operation.lists else ()),
        *(_WITH_PATH if path_parameters else ()),
        *operation.problems,
    }
    return [code for code in KINDS if code in codes]


def _operations(app: Flask) -> Iterator[tuple[Rule, str, Operation]]:
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            if operation is not None:
                yield rule, method, operation


def _operation(rule: Rule, operation: Operation, responses: dict[str, Schema], schemas: Schemas) -> dict[str, Any]:
    codes, ended = problems_of(operation, path_parameters=bool(rule.arguments)), operation.deprecated
    group = rule.endpoint.split(".")[0]
    told: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [GROUPS.get(group, (group,))[0]],
        "summary": operation.summary.removesuffix("."),
        "description": " ".join(filter(None, [operation.description, ended.words if ended else ""])),
        "deprecated": ended is not None,
        "security": [{"bearer": [operation.scope.value]}] if operation.scope else [],
        "parameters": [
            *(_path_parameter(name, operation.path) for name in _PARAMETER.findall(rule.rule)),
            *_query_parameters(operation, schemas),
            *(_header_parameter(taken) for taken in (*operation.takes, *_implied(operation))),
        ],
        "responses": {
            **({"304": _not_modified()} if _conditional(operation) else {}),
            **_problems(codes, responses, schemas),
            **{str(status): _success(status, operation, schemas) for status in (operation.status, *operation.also)},
        },
    }
    if operation.form:
        form = schemas.of(operation.form, "validation")
        content = {"application/x-www-form-urlencoded": _content(form, schemas)}
        told["requestBody"] = {"required": True, "content": content}
    if operation.body:
        body = schemas.of(operation.body, "validation")
        told["requestBody"] = {"required": True, "content": {"application/json": _content(body, schemas)}}
    return {name: value for name, value in told.items() if value not in ("", [], False) or name == "security"}


def _conditional(operation: Operation) -> bool:
    documents = operation.media_type == "application/json"
    return documents and operation.scope is not None and fieldsets.NAME in operation.query.model_fields


def _implied(operation: Operation) -> list[TakenHeader]:
    return [*([IF_NONE_MATCH] if _conditional(operation) else []), REQUEST_ID]


def _path_parameter(name: str, told: Mapping[str, Schema]) -> Schema:
    uuid = {"format": "uuid"} if name.endswith("_id") and name not in _NO_UUIDS else {}
    schema = {"type": "string", **uuid, **told.get(name, {})}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(operation: Operation, schemas: Schemas) -> Iterator[Schema]:
    told = schemas.inline(operation.query)
    for name, described in told.get("properties", {}).items():
        schema = _without_null(described)
        parameter = {"name": name, "in": "query", "schema": schema}
        parameter |= {word: schema.pop(word) for word in ("description", "deprecated") if word in schema}
        if schema.get("type") == "object":
            parameter |= {"style": "form", "explode": True, "schema": _members(name, schema)}
        if name in told.get("required", ()):
            parameter["required"] = True
        if name == fieldsets.NAME:
            parameter |= {"style": "form", "explode": False}
        yield parameter


def _members(name: str, schema: Schema) -> Schema:
    """A mapping whose members are parameters of their own, as `tag.customer`."""
    told = {inner: value for inner, value in schema.items() if inner not in ("additionalProperties", "propertyNames")}
    return told | {"patternProperties": {rf"^{name}\.": schema["additionalProperties"]}, "additionalProperties": False}


def _without_null(schema: Schema) -> Schema:
    """A query has no null: what is left out is not there."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    if len(choices) == 1:
        rest = {**choices[0], **rest}
    elif choices:
        rest["anyOf"] = choices
    return rest


def _header_parameter(taken: TakenHeader) -> Schema:
    return {
        "name": taken.name,
        "in": "header",
        "description": taken.description,
        "schema": {"type": "string", **({"pattern": f"^{taken.pattern}$"} if taken.pattern else {})},
        "example": taken.example,
    }


def _header(told: str) -> Schema:
    return {"description": told, "schema": {"type": "string"}}


def _headers(gives: Mapping[str, str]) -> Schema:
    common = {name: {"$ref": f"#/components/headers/{name}"} for name in COMMON_HEADERS}
    return {**{name: _header(told) for name, told in gives.items()}, **common}


def _success(status: int, operation: Operation, schemas: Schemas) -> Schema:
    gives = dict(operation.gives)
    if _conditional(operation):
        gives["ETag"] = "Names exactly this answer; see If-None-Match."
    if operation.lists:
        gives["Link"] = 'The next page, as `<...>; rel="next"`; missing on the last.'
    told = {"description": HTTPStatus(status).phrase, "headers": _headers(gives)}
    if status != HTTPStatus.NO_CONTENT and (schema := _answer(operation, schemas)) is not None:
        example = {} if operation.example is None else {"example": operation.example}
        told["content"] = {operation.media_type: _content(schema, schemas) | example}
    return told


def _answer(operation: Operation, schemas: Schemas) -> Schema | None:
    """The schema of what the operation answers; that of a list is the same for all."""
    if operation.lists:
        items = _sparse(operation, operation.lists, schemas)
        cursor = {"type": ["string", "null"], "description": "`cursor` of the next page; null on the last."}
        return {
            "type": "object",
            "properties": {"data": {"type": "array", "items": items}, "next_cursor": cursor},
            "required": ["data", "next_cursor"],
        }
    return _sparse(operation, operation.reply, schemas) if operation.reply is not None else None


def _sparse(operation: Operation, answered: Any, schemas: Schemas) -> Schema:
    whole = schemas.of(answered, "serialization")
    return {"anyOf": [whole, schemas.sparse(answered)]} if _conditional(operation) else whole


def _content(schema: Schema, schemas: Schemas) -> Schema:
    examples = schemas.examples(schema)
    return {"schema": schema, **({"example": examples[0]} if examples else {})}


def _not_modified() -> Schema:
    return {"description": "What you have is still right.", "headers": _headers({"ETag": "As before."})}


def _by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].status, []).append(code)
    return by_status


def _problems(codes: list[str], responses: dict[str, Schema], schemas: Schemas) -> dict[str, Schema]:
    """References to what tells of these codes, one for each status; operations with the same codes share them."""
    told = {}
    for status, of_status in sorted(_by_status(codes).items()):
        name = ".".join(of_status)
        responses.setdefault(name, _problem(of_status, schemas))
        told[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return told


def _problem(codes: list[str], schemas: Schemas) -> Schema:
    content = {
        "schema": schemas.of(ProblemDocument, "serialization"),
        "examples": {code: {"value": _example(code)} for code in codes},
    }
    return {
        "description": "; ".join(f"`{code}`: {KINDS[code].title}" for code in codes),
        "headers": _headers({}),
        "content": {"application/problem+json": content},
    }


def _example(code: str) -> Schema:
    kind = KINDS[code]
    return {
        "type": f"/problems/{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.advice,
        "instance": "/v1/jobs",
        "code": code,
        "request_id": "checkout-7f3a",
    }
