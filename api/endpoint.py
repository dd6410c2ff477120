"""One declaration per operation: its path, scope, parameters and body; everything conventional follows from it.

Authentication, scope, parsing, the one transaction, retries and the answer's form happen here and nowhere
in a view. A view is a function from a `Call` to a `Reply`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, TypeVar

import orjson
from flask import Blueprint, Response, current_app, g, request
from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from api.body import read_json
from api.problems import Flaw, Problem
from api.services import Services
from jobs import api_keys
from jobs.outcomes import Json
from jobs.scopes import Principal, Scope
from jobs.submit import plain_words, pointer
from models.crashpoints import crashpoint

PATIENCE = timedelta(seconds=0.3)
"""How long a request begins again while the database is away; its last try still has to end within the second."""

Made = TypeVar("Made")

_BEARER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)


@dataclass
class Call:
    """A request whose principal is known and whose parameters are checked.

    The same Call serves every try of a step, with another session, so that what is made `once` stays.
    """

    services: Services
    session: Session
    principal: Principal
    query: Any
    body: Any
    document: Json
    tries: int = 0
    _made: Any = None

    def once(self, make: Callable[[], Made]) -> Made:
        """What `make` gave at the first try: an id that is made anew at each would record a job twice."""
        if self._made is None:
            self._made = make()
        made: Made = self._made
        return made


@dataclass(frozen=True)
class Reply:
    """What a view answers; `rings` wakes the dispatcher once the transaction is committed."""

    document: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    rings: bool = False


class Writes(Enum):
    """How much an operation writes, and so which transaction it needs."""

    NOTHING = "nothing"
    ONE_STATEMENT = "one statement"
    SEVERAL = "several statements"


@dataclass(frozen=True)
class Operation:
    """What is declared about one operation."""

    scope: Scope
    writes: Writes
    query: type[BaseModel]
    body: type[BaseModel] | None


class NoParameters(BaseModel, extra="forbid"):
    """The query of an operation that takes no parameters."""


def endpoint(
    blueprint: Blueprint,
    method: str,
    rule: str,
    *,
    scope: Scope,
    query: type[BaseModel] = NoParameters,
    body: type[BaseModel] | None = None,
    writes: Writes | None = None,
) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    """Serve `method rule` with a view that takes the Call and the path's parameters."""
    assumed = Writes.NOTHING if method == "GET" else Writes.SEVERAL
    operation = Operation(scope, writes or assumed, query, body)

    def declare(view: Callable[..., Reply]) -> Callable[..., Reply]:
        def serve(**path: Any) -> Response:
            return _serve(operation, view, path)

        blueprint.add_url_rule(rule, view.__name__, serve, methods=[method])
        return view

    return declare


def _serve(operation: Operation, view: Callable[..., Reply], path: dict[str, Any]) -> Response:
    services: Services = current_app.extensions["jobmill"]
    calls: list[Call] = []

    def step(session: Session) -> Reply:
        principal = _authorised(session, services, operation.scope)
        if not calls:  # a step that is tried again must not read the body twice
            calls.append(Call(services, session, principal, *_parse(operation)))
        calls[0].session = session
        calls[0].tries += 1
        return view(calls[0], **path)

    database = services.database
    run = {
        Writes.NOTHING: database.read,
        Writes.ONE_STATEMENT: database.run_single,
        Writes.SEVERAL: database.run,
    }[operation.writes]
    reply = run(step, PATIENCE)
    if reply.rings:
        crashpoint("submit.after_commit")
        services.doorbell.ring()
    return Response(orjson.dumps(reply.document), reply.status, reply.headers, content_type="application/json")


def _authorised(session: Session, services: Services, scope: Scope) -> Principal:
    """Who asks; a Problem if that is nobody we know, or one who may not."""
    bearer = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    if bearer is None:
        raise _unauthenticated("The request carries no `Authorization: Bearer` header.")
    principal = api_keys.authenticate(session, services.pepper(session), bearer[1])
    if principal is None:
        raise _unauthenticated("The API key is unknown, expired or revoked.", ' error="invalid_token"')
    g.principal = principal
    if not principal.may(scope):
        challenge = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
        raise Problem("forbidden", f"This needs the scope {scope}.", headers=challenge)
    return principal


def _unauthenticated(detail: str, challenge: str = "") -> Problem:
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": f"Bearer{challenge}"})


def _parse(operation: Operation) -> tuple[Any, Any, Json]:
    flaws: list[Flaw] = []
    query = _checked(operation.query, _query_values(operation.query, flaws), "query", flaws)
    document = read_json() if operation.body else None
    body = _checked(operation.body, document, "body", flaws) if operation.body else None
    if flaws:
        raise Problem("invalid-request", f"{len(flaws)} part(s) of the request are wrong; see errors.", flaws)
    return query, body, document


def _query_values(model: type[BaseModel], flaws: list[Flaw]) -> dict[str, Any]:
    """Query parameters by name; those of a list's type may repeat."""
    values: dict[str, Any] = {}
    for name, given in request.args.lists():
        known = model.model_fields.get(name)
        if any("\0" in value for value in given):  # which PostgreSQL takes in no text, not even to compare with
            flaws.append(Flaw("query", name, "nul-character", "NUL characters are not accepted."))
        elif known is not None and known.annotation in _REPEATABLE:
            values[name] = tuple(given)
        elif len(given) > 1:
            flaws.append(Flaw("query", name, "repeated", f"{name} may be given once."))
        else:
            values[name] = given[0]
    return values


def _checked(model: type[BaseModel], values: Any, place: str, flaws: list[Flaw]) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            where = pointer(fault["loc"]) if place == "body" else ".".join(str(part) for part in fault["loc"][:1])
            flaws.append(Flaw(place, where, fault["type"].replace("_", "-"), plain_words(fault["msg"])))
        return None


_REPEATABLE: set[Any] = set()


def repeatable(annotation: Any) -> Any:
    """Mark a tuple type whose query parameter may be given several times."""
    _REPEATABLE.add(annotation)
    return annotation
