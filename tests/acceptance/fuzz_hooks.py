"""What schemathesis cannot know of what it makes up, since no schema can say it; loaded by it, not by pytest.

A cursor is signed, an Idempotency-Key belongs to the body it was first used with, an integer has 64 bits although a
number of the same size may be a double, and a webhook's URL leads to where we may call: made-up ones are wrong however
they look. In requests that are meant to be right they are taken out, made unique, made small, or made to lead nowhere;
in those that are meant to be wrong they stay. And what would run, and call out to addresses that were made up, goes to
a queue that nobody serves; so nobody waits for long for its end, nor follows it.
"""

from itertools import count
from typing import Any
from uuid import uuid4

import schemathesis

NOBODY_SERVES = "nobody-serves-this"
RECEIVER = "https://hooks.invalid/in"
_RUN, _NUMBERS = uuid4().hex, count(1)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    if case.headers and case.headers.get("Prefer"):
        case.headers["Prefer"] = "wait=1"
    if case.path.endswith("/stream"):
        case.path_parameters["job_id"] = str(uuid4())
    if not case.meta.generation.mode.is_positive:
        return
    if case.query:
        case.query.pop("cursor", None)
    if case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"{_RUN}-{next(_NUMBERS)}"
    if isinstance(case.body, dict):
        case.body = _storable(case.body)
        _make_harmless(case.body)
        if "/webhook-endpoints" in case.path:
            _lead_nowhere(case.body)


def _make_harmless(body: dict[str, Any]) -> None:
    for submission in [body, *(body.get("jobs") or ())]:
        if isinstance(submission, dict):
            _lead_nowhere(submission.get("webhook"))
            if "type" in submission:
                submission["queue"] = NOBODY_SERVES


def _lead_nowhere(webhook: Any) -> None:
    if isinstance(webhook, dict) and "url" in webhook:
        webhook["url"] = RECEIVER


def _storable(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: _storable(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_storable(value) for value in document]
    too_large = isinstance(document, int) and not -(2**63) <= document < 2**63
    return 0 if too_large else document
