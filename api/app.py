"""The Flask application: its doors, and what every answer has in common."""

import re
import time
from functools import cache
from typing import Any
from uuid import uuid4

import structlog
from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException, NotFound

from api import (
    allowed,
    audit_log,
    auth,
    batch,
    body,
    catalogue,
    dead_letters,
    docs_page,
    headers,
    health,
    jobs,
    keys,
    metrics,
    openapi,
    pages,
    queues,
    rate_limits,
    redrives,
    refusals,
    tokens,
    undeliverable,
    webhook_deliveries,
    webhook_endpoints,
    webhook_secret,
)
from api.endpoint import operation_of
from api.kinds import CODES_BY_STATUS, KINDS
from api.origin import client_address
from api.problems import Problem, response
from api.services import Services
from jobs.keys import NoSuchKey
from jobs.operate import NoSuchJob
from jobs.queues import NoSuchQueue
from jobs.redrives import NoSuchRedrive
from jobs.registry import Registry
from jobs.undeliverable import NoSuchMessage
from jobs.webhooks import NoSuchDelivery, NoSuchEndpoint
from models.errors import Unavailable, Unstorable

log = structlog.get_logger(__name__)

# Visible ASCII; anything else could forge log lines or headers.
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_QUIET = {"/healthz", "/readyz"}
_MISSING = (NoSuchJob, NoSuchKey, NoSuchQueue, NoSuchMessage, NoSuchRedrive, NoSuchEndpoint, NoSuchDelivery)
_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}


def create_app(services: Services) -> Flask:
    """The application over the given services."""
    app = _with_doors()
    app.extensions["jobmill"] = services
    headers.share(app, services.settings.cors_origins)
    app.before_request(_begin)
    app.teardown_request(lambda _error: body.let_go())
    app.after_request(auth.note_use)
    app.after_request(rate_limits.tell)
    app.after_request(lambda answer: _finish(answer, services.version))
    app.register_error_handler(Problem, response)
    for missing in _MISSING:
        app.register_error_handler(missing, lambda error: response(Problem("not-found", str(error))))
    app.register_error_handler(Unavailable, _unavailable)
    app.register_error_handler(Unstorable, _unstorable)
    app.register_error_handler(HTTPException, _framework)
    app.register_error_handler(Exception, _broken)
    return app


def describe(registry: Registry) -> dict[str, Any]:
    """The OpenAPI document of an installation with these job types."""
    return openapi.document(_with_doors(), registry)


def _with_doors() -> Flask:
    app = Flask("jobmill", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # its redirect would be HTML, and no problem document
    for resource in (
        jobs,
        batch,
        dead_letters,
        redrives,
        undeliverable,
        webhook_endpoints,
        webhook_deliveries,
        webhook_secret,
        queues,
        catalogue,
        keys,
        audit_log,
        tokens,
        health,
        pages,
        docs_page,
    ):
        app.register_blueprint(resource.blueprint)
    allowed.learn(app)
    return app


def _begin() -> Response | None:
    g.began = time.monotonic()
    asked = request.headers.get("X-Request-Id", "")
    g.request_id = asked if _REQUEST_ID.fullmatch(asked) else str(uuid4())
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)
    refusals.check()
    operation = operation_of(current_app.view_functions.get(request.endpoint or ""))
    body.receive(operation.most_body_bytes if operation else body.MOST_BYTES)
    if request.environ["PATH_INFO"].startswith("//"):  # which the router takes for one, and a proxy may not
        raise NotFound
    return allowed.other_methods()


def _finish(answer: Response, version: str) -> Response:
    answer.headers["X-Request-Id"] = g.request_id
    answer.headers["Jobmill-Version"] = version
    headers.secure(answer)
    _count(answer)
    if request.path not in _QUIET:
        _log(answer)
    return answer


def _count(answer: Response) -> None:
    # Neither a method nor a path is counted as it was sent: anyone may make up as many as he likes.
    method = request.method if request.method in _METHODS else "other"
    route = _route() or "none"
    metrics.request_seconds.labels(method, route, answer.status_code).observe(time.monotonic() - g.began)


def _route() -> str | None:
    """The route as it is documented: how its parameters are matched is nobody's business."""
    return _documented(request.url_rule.rule) if request.url_rule else None


@cache
def _documented(rule: str) -> str:
    return re.sub(r"<\w+:", "<", rule)


def _log(answer: Response) -> None:
    principal = g.get("principal")
    log.info(
        "request",
        method=request.method,
        route=_route(),
        status=answer.status_code,
        milliseconds=round((time.monotonic() - g.began) * 1000, 1),
        key_id=principal.key_id if principal else None,
        subject=principal.subject if principal else None,
        address=client_address(),
        tenant_id=str(principal.tenant_id) if principal and principal.tenant_id else None,
    )


def _unavailable(error: Unavailable) -> Response:
    log.warning("request_without_database", cause=str(error), trouble=error.trouble)
    detail = "The database did not answer. A job that was not answered with 202 may or may not be recorded."
    return response(Problem("unavailable", detail, headers={"Retry-After": "2"}))


def _unstorable(error: Unstorable) -> Response:
    log.warning("request_unstorable", cause=str(error))
    detail = "One of the values cannot be stored, such as a text with a NUL character or a number out of range."
    return response(Problem("invalid-request", f"{detail} Nothing was stored."))


def _framework(error: HTTPException) -> Response:
    status = error.code or 500
    if status >= 500:  # noqa: PLR2004
        return _broken(error)
    code = CODES_BY_STATUS.get(status, "http-error")
    kept = {name: value for name, value in error.get_headers() if name in {"Allow", "Location"}}
    return response(Problem(code, error.description or KINDS[code].title, headers=kept, status=status))


def _broken(error: Exception) -> Response:
    log.error("request_failed", exc_info=error)
    return response(Problem("internal-error", "The error was logged under this request_id."))
