"""Everything that can go wrong with a request, as problem details (RFC 9457).

One table gives each code its status, title and the words of its page at `/problems/<code>`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired

import orjson
from flask import Response, g, request
from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from api import metrics
from jobs.submit import Fault


@dataclass(frozen=True)
class Kind:
    """What a code means: HTTP status, title, and what whoever gets it should do."""

    status: int
    title: str
    advice: str


KINDS: dict[str, Kind] = {
    "invalid-request": Kind(
        400, "The request is not valid", "Each member of `errors` names a place and what is wrong there. Mend them all."
    ),
    "malformed-json": Kind(
        400, "The body is not acceptable JSON", "Send one JSON document in UTF-8: no duplicate members, NaN or NUL."
    ),
    "incomplete-body": Kind(
        400, "The body ended early", "Fewer bytes came than Content-Length said. Send the request again."
    ),
    "invalid-cursor": Kind(
        400, "The cursor is not one of this list", "Use `next_cursor` as it was given, with the same key and list."
    ),
    "idempotency-key-required": Kind(
        400,
        "An Idempotency-Key is required here",
        "Send a fresh random key with each new job, the same with each retry.",
    ),
    "unauthenticated": Kind(
        401,
        "No usable credentials",
        "Send `Authorization: Bearer <API key>` with a key that is neither revoked nor expired.",
    ),
    "forbidden": Kind(403, "The key lacks a scope", "Use a key with the scope that `detail` names, or ask for one."),
    "not-found": Kind(404, "There is nothing here", "Check the address, and that the key is of the same tenant."),
    "method-not-allowed": Kind(405, "The method does not fit", "The `Allow` header lists the methods that do."),
    "not-acceptable": Kind(406, "No such representation", "This API answers application/json."),
    "job-is-final": Kind(409, "The job is final", "Nothing can be done with it; read its `state` instead."),
    "not-unique": Kind(
        409, "The unique_key is held", "Wait until the job in `holder` is finished, or take another key."
    ),
    "too-busy": Kind(409, "Others changed the same thing", "Send the same request again."),
    "length-required": Kind(
        411, "Content-Length is required", "Send the body with its length, not chunked: only then is a cut one noticed."
    ),
    "body-too-large": Kind(413, "The body is too large", "Put large data elsewhere and pass its URL."),
    "args-too-large": Kind(413, "The args are too large", "Put large data elsewhere and pass its URL."),
    "unsupported-media-type": Kind(415, "The body is not JSON", "Send it with `Content-Type: application/json`."),
    "idempotency-key-reused": Kind(
        422, "The Idempotency-Key belongs to another body", "Use a fresh key for a different job."
    ),
    "http-error": Kind(400, "The request cannot be served", "See `detail`."),
    "internal-error": Kind(
        500, "Something broke on our side", "Try again later; name the request_id when you report it."
    ),
    "unavailable": Kind(
        503,
        "The database is away",
        "Try again after `Retry-After` seconds, with the same Idempotency-Key: a job is then recorded once.",
    ),
}

CODES_BY_STATUS = {400: "invalid-request", 404: "not-found", 405: "method-not-allowed", 406: "not-acceptable"} | {
    411: "length-required",
    413: "body-too-large",
    415: "unsupported-media-type",
}


FlawDocument = TypedDict(
    "FlawDocument",
    {
        "in": Literal["body", "query", "header", "path"],
        "pointer": Annotated[str, Field(description="A JSON pointer into the body, or the name of the parameter.")],
        "code": str,
        "detail": str,
    },
)


@with_config(ConfigDict(extra="allow"))
class ProblemDocument(TypedDict):
    """What went wrong (RFC 9457). Some codes have further members, which their pages explain."""

    type: Annotated[str, Field(description="The page that explains the code: what happened, why, what to do.")]
    title: str
    status: int
    detail: str
    instance: str
    code: Annotated[str, Field(description="For programs; the last part of `type`.")]
    request_id: Annotated[str | None, Field(description="Names the request in our logs.")]
    errors: NotRequired[Annotated[list[FlawDocument], Field(description="Everything that is wrong, at once.")]]


@dataclass(frozen=True)
class Flaw:
    """One thing wrong with a request: where (`body`, `query`, `header`, `path`), at which pointer or name, and what."""

    place: str
    pointer: str
    code: str
    detail: str

    def document(self) -> dict[str, str]:
        """The flaw as an item of `errors`."""
        return {"in": self.place, "pointer": self.pointer, "code": self.code, "detail": self.detail}

    @classmethod
    def in_body(cls, fault: Fault) -> "Flaw":
        """A fault that the domain found in the body."""
        return cls("body", fault.pointer, fault.code, fault.detail)


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """A request that cannot be served; `code` is one of KINDS, `extra` are further members."""

    code: str
    detail: str
    flaws: Sequence[Flaw] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    status: int | None = None


def response(problem: Problem) -> Response:
    """The problem as an answer."""
    kind = KINDS[problem.code]
    metrics.problems.labels(problem.code).inc()
    status = problem.status or kind.status
    document: dict[str, Any] = {
        "type": f"/problems/{problem.code}",
        "title": kind.title,
        "status": status,
        "detail": problem.detail,
        "instance": request.path,
        "code": problem.code,
        "request_id": g.get("request_id"),
        **problem.extra,
    }
    if problem.flaws:
        document["errors"] = [flaw.document() for flaw in problem.flaws]
    answer = Response(orjson.dumps(document), status, content_type="application/problem+json")
    answer.headers.extend(problem.headers)
    return answer
