"""What the headers of every answer tell a browser: to run, frame, guess, keep and share nothing, unless it must."""

import base64
import hashlib
import re
from collections.abc import Sequence

from flask import Flask, Response, request
from flask_cors import CORS

from api.origin import by_https

CONTENT_SECURITY = "Content-Security-Policy"
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""For JSON, and whatever else a browser has no business to bring to life."""

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_UNLESS_TOLD = {CONTENT_SECURITY: NOTHING, "Cache-Control": "no-store"}
_ONE_YEAR = "max-age=31536000"

# What a page of another origin may see of an answer; the rest of what it has is always seen.
_SHOWN = (
    "Deprecation",
    "ETag",
    "Idempotency-Replayed",
    "Jobmill-Version",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Sunset",
    "WWW-Authenticate",
    "X-Request-Id",
)
_TAKEN = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-Request-Id",
    "traceparent",
)
_PREFLIGHT_SECONDS = 600
_SHARED = r"/(v1/.*|openapi\.json)$"


def secure(answer: Response) -> None:
    """Complete an answer's headers; what a view has chosen itself stays."""
    answer.headers.update(_ALWAYS)
    for name, value in _UNLESS_TOLD.items():
        answer.headers.setdefault(name, value)
    if by_https():
        answer.headers["Strict-Transport-Security"] = _ONE_YEAR


def share(app: Flask, origins: Sequence[str]) -> None:
    """Let pages of these origins call the API. They need a key like everybody: no cookie opens anything here."""
    if origins:
        CORS(
            app,
            resources=_SHARED,
            origins=list(origins),
            methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=list(_TAKEN),
            expose_headers=list(_SHOWN),
            max_age=_PREFLIGHT_SECONDS,
            always_send=False,
            vary_header=False,
        )
        app.after_request(_vary)


def _vary(answer: Response) -> Response:
    # Also what is shared with nobody: kept by a cache, it would be given to those with whom it is shared.
    if re.match(_SHARED, request.path):
        answer.vary.add("Origin")
    return answer


def with_style(style: str) -> str:
    """The policy of a page with nothing but this style sheet within it."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"{NOTHING}; style-src 'sha256-{digest}'"
