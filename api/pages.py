"""What is read by people and programs without a key: the OpenAPI document, and a page for each problem."""

from html import escape
from typing import Any

import orjson
from flask import Blueprint, Response, current_app

from api import conditional, openapi
from api.endpoint import public
from api.problems import KINDS, Problem
from api.services import Services

blueprint = Blueprint("pages", __name__)

OPENAPI = "/openapi.json"
EXAMPLE = "<!doctype html><html lang=en><title>not-found</title>..."


@public(blueprint, "GET", OPENAPI, reply=dict[str, Any], example={"openapi": "3.1.0", "paths": {}})
def get_openapi() -> Response:
    """This document.

    It is made of the running code, and names the job types of this installation.
    """
    services: Services = current_app.extensions["jobmill"]
    if services.openapi is None:
        services.openapi = orjson.dumps(openapi.document(current_app, services.registry))
    return conditional.answer(Response(services.openapi, content_type="application/json"))


@public(
    blueprint, "GET", "/problems/<code>", media_type="text/html", reply=str, example=EXAMPLE, problems=("not-found",)
)
def get_problem_page(code: str) -> Response:
    """What a problem's code means and what to do about it."""
    if code not in KINDS:
        raise Problem("not-found", "There is no such problem code.")
    kind = KINDS[code]
    text = f"<h1>{escape(kind.title)}</h1><p><code>{code}</code>, HTTP {kind.status}</p><p>{escape(kind.advice)}</p>"
    return Response(f"<!doctype html><html lang=en><title>{code}</title>{text}</html>", content_type="text/html")
