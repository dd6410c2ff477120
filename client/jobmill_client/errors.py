"""What can go wrong, as types.

JobmillError
  ConnectionFailed     no answer came, or only a part of one
  UnexpectedAnswer     whoever answered is not Jobmill
  RequestTooLarge      not sent: no server would take it
  AnswerTooLarge       not read to its end
  ApiError             the server says no, with a problem (RFC 9457)
    InvalidRequest     400, 413, 415, 422 and their like
    Unauthorized       401
    Forbidden          403
    NotFound           404
    Conflict           409
    RateLimited        429
    ServerError        5xx
      Unavailable      502, 503, 504
  WaitTimedOut         a wait ended before the job did
  JobFailed            the job ended, and not in success
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobmill_client.documents import Job

Document = Mapping[str, Any]


class JobmillError(Exception):
    """Any failure of this client.

    `idempotency_key` is that of the submission that failed: safe to send again. `perhaps_done`: what was asked may have
    been done all the same, by an earlier try of the same call.
    """

    # The arguments of each are its facts, and its text is made of them: so it can be pickled.
    idempotency_key: str | None = None
    perhaps_done: bool = False


class ConnectionFailed(JobmillError):
    """No answer came. Unless `sent` is False, what was asked may have been done all the same."""

    def __init__(self, url: str, reason: str, sent: bool = True) -> None:
        super().__init__(url, reason, sent)
        self.url = url
        self.reason = reason
        self.sent = sent

    def __str__(self) -> str:
        return f"{self.url} does not answer ({self.reason})."


class UnexpectedAnswer(JobmillError):
    """An answer that Jobmill does not give, as of another server; `location` if it only sends elsewhere."""

    def __init__(self, url: str, status: int, location: str | None = None) -> None:
        super().__init__(url, status, location)
        self.url = url
        self.status = status
        self.location = location

    def __str__(self) -> str:
        if self.location is not None:
            return f"{self.url} sends to {self.location} ({self.status}); use the address where the server really is."
        return f"{self.url} answers ({self.status}), but not as Jobmill does. Check the address."


class RequestTooLarge(JobmillError):
    """A request of more bytes than the API takes; it was not sent."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(size, most)
        self.size = size
        self.most = most

    def __str__(self) -> str:
        return f"This makes a request of {self.size} bytes; the API takes {self.most}."


class AnswerTooLarge(JobmillError):
    """An answer of more bytes than this client reads, as a page of very large jobs is. `status`: what it began with."""

    def __init__(self, url: str, status: int, most: int) -> None:
        super().__init__(url, status, most)
        self.url = url
        self.status = status
        self.most = most

    def __str__(self) -> str:
        return f"{self.url} answers with more than {self.most} bytes; ask for less at a time."


class ApiError(JobmillError):
    """A problem that the server tells of.

    `type`, `title`, `status`, `code`, `detail` and `request_id` are the problem's; `errors` lists each fault of a
    request as {"in", "pointer", "code", "detail"}; `retry_after` is in seconds; `document` holds all members, also
    those that some problems have besides (`holder`, `refused`).
    """

    def __init__(
        self, status: int, document: Document, request_id: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(status, document, request_id, retry_after)
        self.status = status
        self.document = document
        self.retry_after = retry_after
        self.code = _text(document.get("code") or document.get("error"))  # `error`: RFC 6749, of /oauth/token
        self.title = _text(document.get("title")) or _phrase(status)
        self.detail = _text(document.get("detail") or document.get("error_description"))
        self.type = _text(document.get("type"))
        self.request_id = _text(document.get("request_id")) or request_id
        self.errors = _faults(document.get("errors"))

    def __str__(self) -> str:
        head = " ".join(filter(None, [str(self.status), self.code]))
        faults = [f"{fault.get('in')} {fault.get('pointer')}: {fault.get('detail')}" for fault in self.errors]
        told = " ".join(filter(None, [f"{self.title} ({head}).", self.detail, "; ".join(faults)]))
        return f"{told} [request id {self.request_id}]" if self.request_id else told


class InvalidRequest(ApiError):
    """The request cannot be served as it is; `errors` says what to mend."""


class Unauthorized(ApiError):
    """No usable credentials."""


class Forbidden(ApiError):
    """The key lacks a scope."""


class NotFound(ApiError):
    """There is no such thing, or not for this key's tenant."""


class Conflict(ApiError):
    """It does not fit the present state, as cancelling a job that is final."""


class RateLimited(ApiError):
    """Too many requests; `retry_after` says when there may be more."""


class ServerError(ApiError):
    """The server broke. What was asked may have been done all the same."""


class Unavailable(ServerError):
    """The server, or something that it needs, is away for now."""


class WaitTimedOut(JobmillError, TimeoutError):
    """The job had not ended when the wait did, and goes on; `state` is the last that was seen."""

    def __init__(self, job_id: str, state: str, seconds: float) -> None:
        super().__init__(job_id, state, seconds)
        self.job_id = job_id
        self.state = state
        self.seconds = seconds

    def __str__(self) -> str:
        return f"Job {self.job_id} is still {self.state} after {self.seconds:g} s, and goes on."


class JobFailed(JobmillError):
    """The job is dead, cancelled or discarded; `job` has its `error`."""

    def __init__(self, job: "Job") -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        error = self.job.error
        why = error and ": ".join(filter(None, [error.type, error.message]))
        return f"Job {self.job.id} is {self.job.state}" + (f": {why}" if why else ".")


_FAMILIES: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def api_error(
    status: int, document: Document, request_id: str | None = None, retry_after: float | None = None
) -> ApiError:
    """The error that a status of 4xx or 5xx is."""
    other = ServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else InvalidRequest
    return _FAMILIES.get(status, other)(status, document, request_id, retry_after)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _faults(value: object) -> Sequence[Document]:
    return [fault for fault in value if isinstance(fault, dict)] if isinstance(value, list) else []


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "The server refused"
