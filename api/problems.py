"""Everything that can go wrong with a request, as problem details (RFC 9457).

One table gives each code its status, title and the words of its page at `/problems/<code>`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NotRequired

import orjson
from flask import Response, g, request
from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from api import metrics
from api.kinds import KINDS
from jobs.submission import Fault

MOST_FLAWS_TOLD = 100
"""A body of 1 MiB can have 100,000, and would get an answer of 15 MiB."""

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
    errors: NotRequired[
        Annotated[list[FlawDocument], Field(description="All that is wrong at once, of more than 100 the first.")]
    ]


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
    def in_body(cls, fault: Fault, within: str = "") -> "Flaw":
        """A fault that the domain found in the body, or in the part of it at that pointer."""
        return cls("body", within + fault.pointer, fault.code, fault.detail)


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
    document = problem_document(problem)
    answer = Response(orjson.dumps(document), document["status"], content_type="application/problem+json")
    answer.headers.extend(problem.headers)
    return answer


def problem_document(problem: Problem) -> dict[str, Any]:
    """The problem as JSON, alone or as a part of an answer; it is counted here."""
    return problem_teller()(problem)


def problem_teller() -> Callable[[Problem], dict[str, Any]]:
    """Gives problems of this request as JSON, also while an answer is written for which it is kept no more."""
    return partial(_document, request.path, g.get("request_id"))


def _document(instance: str, request_id: str | None, problem: Problem) -> dict[str, Any]:
    kind = KINDS[problem.code]
    metrics.problems.labels(problem.code).inc()
    told = problem.flaws[:MOST_FLAWS_TOLD]
    errors = {"errors": [flaw.document() for flaw in told]} if told else {}
    return {
        "type": f"/problems/{problem.code}",
        "title": kind.title,
        "status": problem.status or kind.status,
        "detail": problem.detail,
        "instance": instance,
        "code": problem.code,
        "request_id": request_id,
        **problem.extra,
        **errors,
    }
