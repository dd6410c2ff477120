"""What is read by people and programs without a key: the OpenAPI document, and a page for each problem."""

from html import escape
from typing import Any

import orjson
from flask import Blueprint, Response, current_app

from api import conditional, headers, openapi
from api.endpoint import public
from api.kinds import KINDS, Kind
from api.problems import Problem
from api.services import Services

blueprint = Blueprint("pages", __name__)

OPENAPI = "/openapi.json"
EXAMPLE = "<!doctype html><html lang=en><title>There is nothing here</title>..."
KEEP = "public, max-age=300"
"""What is the same for everybody may be kept for a while, and asked for again by its ETag."""

STYLE = (
    ":root{color-scheme:light dark}body{font:1.05rem/1.6 system-ui,sans-serif;max-width:42rem;margin:10vh auto;"
    "padding:0 1.5rem}h1{line-height:1.2;margin:0}h2{font-size:1.05rem;margin:2rem 0 0}p{margin:.25rem 0}"
    "code{font:.95em ui-monospace,monospace}.code{opacity:.75}"
)
_POLICY = headers.with_style(STYLE)


@public(blueprint, "GET", OPENAPI, reply=dict[str, Any], example={"openapi": "3.1.0", "paths": {}})
def get_openapi() -> Response:
    """This document.

    It is made of the running code, and names the job types of this installation.
    """
    services: Services = current_app.extensions["jobmill"]
    if services.openapi is None:
        services.openapi = orjson.dumps(openapi.document(current_app, services.registry))
    kept = {"Cache-Control": KEEP}
    return conditional.answer(Response(services.openapi, headers=kept, content_type="application/json"))


@public(
    blueprint,
    "GET",
    "/problems/<code>",
    path={"code": {"enum": list(KINDS)}},
    media_type="text/html",
    reply=str,
    example=EXAMPLE,
    problems=("not-found",),
)
def get_problem_page(code: str) -> Response:
    """The page that explains a problem's code: what happened, why, and what to do."""
    if code not in KINDS:
        raise Problem("not-found", "There is no such problem code.")
    kept = {"Cache-Control": KEEP, headers.CONTENT_SECURITY: _POLICY}
    return conditional.answer(Response(_page(code, KINDS[code]), headers=kept, content_type="text/html; charset=utf-8"))


def _page(code: str, kind: Kind) -> str:
    parts = {"Why": kind.why, "What to do": kind.advice}
    text = "".join(f"<h2>{head}</h2><p>{_marked(words)}</p>" for head, words in parts.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(kind.title)} ({code})</title><style>{STYLE}</style>"
        f"<h1>{escape(kind.title)}</h1><p class=code><code>{code}</code>, HTTP {kind.status}</p>{text}</html>"
    )


def _marked(words: str) -> str:
    """Text with what stands between backticks as code."""
    return "".join(
        f"<code>{escape(part)}</code>" if at % 2 else escape(part) for at, part in enumerate(words.split("`"))
    )
