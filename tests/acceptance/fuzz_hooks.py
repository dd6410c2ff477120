"""What schemathesis cannot know of what it makes up; loaded by it, not by pytest.

A cursor is signed, and an Idempotency-Key belongs to the body it was first used with, so that made-up ones are wrong
however they look: in requests that are meant to be right they are taken out, or made unique. In those that are meant
to be wrong they stay. And what would run, and call out to addresses that were made up, goes to a queue that nobody
serves; so nobody waits for long for its end, nor follows it.
"""

from itertools import count
from typing import Any
from uuid import uuid4

import schemathesis

NOBODY_SERVES = "nobody-serves-this"
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
        for submission in [case.body, *(case.body.get("jobs") or ())]:
            if isinstance(submission, dict) and "type" in submission:
                submission["queue"] = NOBODY_SERVES
