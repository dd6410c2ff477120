"""The job type `http.request`: one call to a web server, tried again until it answers as expected."""

import codecs
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from jobs.builtin.http_outcomes import ANY_SUCCESS, check_status, refusals_are_permanent
from jobs.context import Context
from jobs.registry import job

if TYPE_CHECKING:  # its libraries are slow to import, and an API process never calls out
    from jobs.outbound import Answer

MOST_BODY_BYTES = 256 * 1024
# Control characters take six bytes each in JSON, and the whole result must stay under 1 MiB.
MOST_BODY_JSON_BYTES = 768 * 1024

Status = Annotated[int, Field(ge=200, le=599)]


class HttpRequest(BaseModel):
    """The request, and which answers count as success."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=1, max_length=8192)
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[str, str] = Field(default_factory=dict, max_length=64)
    body: str | None = Field(default=None, description="Sent in UTF-8; set a Content-Type header to say what it is.")
    expected_status: Status | Annotated[list[Status], Field(min_length=1, max_length=50)] | None = Field(
        default=None, description="The statuses that count as success; any 2xx if not given."
    )


class HttpAnswer(BaseModel):
    """The server's answer: header names in lower case, the body's first 256 KiB as text.

    The body is read as UTF-8 and what is not UTF-8 becomes U+FFFD; `truncated` says that it was longer.
    """

    status: int
    headers: dict[str, str]
    body: str
    truncated: bool


@job("http.request", timeout=timedelta(minutes=2), timeout_limit=timedelta(hours=1))
def request(args: HttpRequest, context: Context) -> HttpAnswer:
    """Sends an HTTP request and keeps the answer.

    Redirects are not followed. A 429 or 5xx, a broken connection or no answer in time is tried again, after
    Retry-After if the server sends it; another unexpected status, or an address inside our own network, is
    not. A request may arrive more than once, so send POSTs that must not with a key of their own.
    """
    with refusals_are_permanent():
        answer = context.http.request(
            args.method,
            args.url,
            headers=args.headers,
            content=None if args.body is None else args.body.encode(),
            deadline_seconds=context.timeout.total_seconds(),
            most_bytes=MOST_BODY_BYTES,
        )
    check_status(answer.status, answer.headers, datetime.now(UTC), _expected(args))
    return _kept(answer)


def _expected(args: HttpRequest) -> Collection[int]:
    if args.expected_status is None:
        return ANY_SUCCESS
    return {args.expected_status} if isinstance(args.expected_status, int) else set(args.expected_status)


def _kept(answer: "Answer") -> HttpAnswer:
    # Not final where it was cut, so that half a character at the end is left out.
    body = codecs.getincrementaldecoder("utf-8")("replace").decode(answer.body, final=not answer.truncated)
    truncated = answer.truncated
    while len(orjson.dumps(body)) > MOST_BODY_JSON_BYTES:
        body, truncated = body[: len(body) // 2], True
    return HttpAnswer(status=answer.status, headers=dict(answer.headers), body=body, truncated=truncated)
