"""`/docs`: the API's description to read and try out, by Swagger UI as its package ships it; no other host is asked."""

from functools import cache
from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response

from api import conditional, headers
from api.pages import OPENAPI
from api.problems import Problem

blueprint = Blueprint("docs", __name__)

_SHIPPED = Path(flask_swagger_ui.__file__).parent / "dist"
_ASSETS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
_KEEP = "public, max-age=86400"

# Scripts from here alone, so that no word in a job type's description becomes one. Swagger UI sets styles on elements.
_POLICY = (
    f"{headers.NOTHING}; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)
_PAGE = """<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width">
<title>Jobmill: the HTTP API</title>
<link rel=icon type=image/png href=/docs/favicon-32x32.png>
<link rel=stylesheet href=/docs/swagger-ui.css>
<div id=api><noscript>Without JavaScript there is <a href=/openapi.json>the description itself</a>.</noscript></div>
<script src=/docs/swagger-ui-bundle.js></script>
<script src=/docs/start.js></script>
</html>
"""
_START = f"""SwaggerUIBundle({{
  url: "{OPENAPI}",
  dom_id: "#api",
  deepLinking: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
}});
"""


@blueprint.get("/docs")
def docs() -> Response:
    """The page."""
    policy = {headers.CONTENT_SECURITY: _POLICY}
    return Response(_PAGE, headers=policy, content_type="text/html; charset=utf-8")


@blueprint.get("/docs/<name>")
def docs_asset(name: str) -> Response:
    """What the page is made of."""
    if name == "start.js":
        return Response(_START, content_type=_ASSETS["swagger-ui-bundle.js"])
    if name not in _ASSETS:
        raise Problem("not-found", "The page has no such part.")
    kept = {"Cache-Control": _KEEP}
    return conditional.answer(Response(_shipped(name), headers=kept, content_type=_ASSETS[name]))


@cache
def _shipped(name: str) -> bytes:
    return (_SHIPPED / name).read_bytes()
