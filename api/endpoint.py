"""One declaration per operation: its path, scope, parameters and body; everything conventional follows from it.

Authentication, scope, parsing, the one transaction, retries and the answer's form happen here and nowhere in a view,
but for what is written together with other requests (coalescer.py). A view is a function from a `Call` to a `Reply`.
The OpenAPI document is made of the same declarations (openapi.py).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import orjson
from flask import Blueprint, Response, current_app, request
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api import audited, conditional, deprecation, fieldsets, rate_limits
from api.auth import authorised
from api.body import read_json
from api.deprecation import Deprecated
from api.fieldsets import Fieldset
from api.operation import NoParameters, Operation, Writes
from api.parsing import checked, query_values, untold
from api.patience import PATIENCE
from api.problems import Flaw, Problem
from api.services import Services
from jobs.outcomes import Json
from jobs.rates import RouteClass
from jobs.scopes import Principal, Scope
from models.crashpoints import crashpoint
from models.ids import new_id

NO_CONTENT = 204

Made = TypeVar("Made")


@dataclass
class Call:
    """A request whose principal is known and whose parameters are checked.

    The same Call serves every try of a step, with another session, so that what is made `once` stays. An operation that
    writes together with others has none.
    """

    services: Services
    opened: Session | None
    principal: Principal
    query: Any
    body: Any
    document: Json
    tries: int = 0
    entry_id: UUID = field(default_factory=new_id)
    _made: Any = None

    @property
    def session(self) -> Session:
        """The session of the present try."""
        if self.opened is None:
            raise RuntimeError("an operation that writes together with others has no session of its own")
        return self.opened

    @property
    def fields(self) -> Fieldset | None:
        """The members that were asked for; None: all of them."""
        return fieldsets.chosen(self.query)

    def unneeded(self, *names: str) -> frozenset[str]:
        """Those of the members that were not asked for, and need not be read."""
        return self.fields.without(*names) if self.fields else frozenset()

    def once(self, make: Callable[[], Made]) -> Made:
        """What `make` gave at the first try: an id that is made anew at each would record a job twice."""
        if self._made is None:
            self._made = make()
        made: Made = self._made
        return made


@dataclass(frozen=True)
class Reply:
    """What a view answers; `rings` wakes the dispatcher once the transaction is committed.

    The audit log is told `detail`, and that the change is to something of `tenant_id`, if that is not its maker's.
    `later` gives what to answer instead, and may wait for that: it is called when the transaction is over. `stream` is
    what to answer instead of the document, piece by piece.
    """

    document: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    rings: bool = False
    tenant_id: UUID | None = None
    detail: Mapping[str, Any] | None = None
    later: "Callable[[], Reply] | None" = None
    stream: Iterable[bytes] | None = None


def endpoint(
    blueprint: Blueprint,
    method: str,
    rule: str,
    *,
    scope: Scope,
    query: type[BaseModel] = NoParameters,
    writes: Writes | None = None,
    sparse: bool = True,
    **declared: Any,
) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    """Serve `method rule` with a view that takes the Call and the path's parameters.

    The view's docstring is the operation's summary; without `sparse`, a GET has no `fields`.
    `declared` are the other attributes of Operation.
    """
    document = declared.get("reply") or declared.get("lists")
    counted = declared.get("counts_as") or (RouteClass.READ if method == "GET" else RouteClass.OPERATE)
    sparse = sparse and method == "GET" and document is not None
    details = {
        "scope": scope,
        "writes": writes or (Writes.NOTHING if method == "GET" else Writes.SEVERAL),
        "counts_as": counted,
        # A job tells of itself.
        "audited": method != "GET" and counted is not RouteClass.SUBMIT,
        "query": fieldsets.with_fields(query, document) if sparse else query,
        **declared,
    }

    def declare(view: Callable[..., Reply]) -> Callable[..., Reply]:
        operation = Operation(**_words(view), **details)
        if operation.audited and operation.writes is not Writes.SEVERAL:
            raise TypeError(f"{operation.name}: a change and its entry in the audit log are one transaction")

        def serve(**path: Any) -> Response:
            return _serve(operation, scope, view, path)

        _add(blueprint, method, rule, serve, operation)
        return view

    return declare


def public(
    blueprint: Blueprint, method: str, rule: str, **declared: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Serve `method rule` to everybody with a plain view of Flask's; `declared` are attributes of Operation."""

    def declare(view: Callable[..., Any]) -> Callable[..., Any]:
        _add(blueprint, method, rule, partial(view), Operation(**_words(view), **declared))
        return view

    return declare


def operation_of(view: object) -> Operation | None:
    """What was declared of a view function of the application; None if it was added by other means."""
    operation: Operation | None = getattr(view, "operation", None)
    return operation


def _add(blueprint: Blueprint, method: str, rule: str, serve: Callable[..., Any], operation: Operation) -> None:
    serve.operation = operation  # type: ignore[attr-defined]
    blueprint.add_url_rule(rule, operation.name, serve, methods=[method])


def _words(view: Callable[..., Any]) -> dict[str, Any]:
    summary, _, description = (view.__doc__ or "").strip().partition("\n\n")
    return {
        "name": view.__name__,
        "summary": " ".join(summary.split()),
        "description": "\n".join(line.strip() for line in description.splitlines()),
    }


def _serve(operation: Operation, scope: Scope, view: Callable[..., Reply], path: dict[str, Any]) -> Response:
    services: Services = current_app.extensions["jobmill"]
    calls: list[Call] = []

    def step(session: Session | None) -> Reply:
        if not calls:
            calls.append(Call(services, session, principal, *parsed))
        calls[0].opened = session
        calls[0].tries += 1
        reply = view(calls[0], **path)
        if operation.audited:
            _tell(calls[0], operation, path, reply)
        return reply

    database = services.database
    run: Callable[[Callable[[Session | None], Reply], timedelta], Reply] = {
        Writes.NOTHING: database.read,
        Writes.COALESCED: lambda step, _patience: step(None),
        Writes.SEVERAL: database.run,
    }[operation.writes]
    with services.places:
        # Before the step and apart from it: a request that is refused never holds a transaction, or SQLite's writer.
        principal = authorised(services, scope, operation.counts_as)
        parsed = _parse(operation, services)
        if operation.weight:
            rate_limits.count_more(services, principal, operation.counts_as, operation.weight(parsed[1]) - 1)
        reply = run(step, PATIENCE)
    if reply.later:
        reply = reply.later()
    if reply.rings:
        crashpoint("submit.after_commit")
        services.doorbell.ring()
    return _answer(operation, reply, calls[0])


def _tell(call: Call, operation: Operation, path: dict[str, str], reply: Reply) -> None:
    """Put what was changed into the audit log, together with the change."""
    made = reply.document.get("id") if isinstance(reply.document, dict) else None
    changed = next(iter(path.values()), made)
    about = audited.Change(operation.name, changed, reply.tenant_id, reply.detail)
    audited.tell(call.session, call.entry_id, call.principal, about)


def _answer(operation: Operation, reply: Reply, call: Call) -> Response:
    if reply.status == NO_CONTENT:
        nothing = Response(status=NO_CONTENT, headers=dict(reply.headers))
        del nothing.headers["Content-Type"]
        return nothing
    if reply.stream is not None:
        return Response(reply.stream, reply.status, reply.headers, content_type=operation.media_type)
    document, fields = reply.document, call.fields
    if fields and operation.lists:
        document = {**document, "data": [fields.of(item) for item in document["data"]]}
    elif fields:
        document = fields.of(document)
    answer = Response(orjson.dumps(document), reply.status, reply.headers, content_type="application/json")
    deprecation.tell(answer, _deprecated(operation, call))
    return conditional.answer(answer) if request.method in {"GET", "HEAD"} else answer


def _deprecated(operation: Operation, call: Call) -> list[Deprecated]:
    """What the request used, or gets, that will be gone one day."""
    sent = call.document if isinstance(call.document, dict) else ()
    return [
        *([operation.deprecated] if operation.deprecated else []),
        *deprecation.among(operation.query, request.args),
        *deprecation.among(operation.body, sent),
        *deprecation.among(operation.reply or operation.lists, call.fields.chosen if call.fields else None),
    ]


def _parse(operation: Operation, services: Services) -> tuple[Any, Any, Json]:
    """The checked query and body, and the body as it came. Raises Problem with everything that is wrong at once."""
    flaws: list[Flaw] = []
    query = checked(operation.query, query_values(operation.query, flaws), "query", flaws)
    flaws.extend(flaw for header in operation.takes for flaw in header.flaws())
    document = read_json() if operation.body else None
    body = checked(operation.body, document, "body", flaws) if operation.body else None
    if flaws and operation.examine:
        flaws += untold(operation.examine(services, document), flaws)
    if flaws:
        raise Problem("invalid-request", f"{len(flaws)} part(s) of the request are wrong; see errors.", flaws)
    return query, body, document
