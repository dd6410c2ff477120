"""Reading a request's body: exactly, within its limit, as strict JSON.

The server answers 200 to bodies that were cut short; so the length is counted here, and a body without a
length is refused.

A body is taken off the connection before anything else is decided about its request, whoever sent it: what
is left unread would be the beginning of the next request for one server, and one gulp into memory for the
other; and a client that is slow to send must not hold a transaction meanwhile.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from flask import g, request

from api.problems import Problem
from jobs import strict_json
from jobs.outcomes import Json

MOST_BYTES = 1024 * 1024
"""What a body may have, unless its operation takes more."""
DROPPED_TOO = 16 * MOST_BYTES
"""So much of a body that is too large is read and dropped, for a client that listens only when it has sent all."""
LARGE_AT_ONCE = 4
"""Bodies over MOST_BYTES that a process holds at once: anybody may send them, and hundreds of threads read."""
PLACE_WITHIN_SECONDS = 5.0
_CHUNK = 64 * 1024
_large = threading.BoundedSemaphore(LARGE_AT_ONCE)


@dataclass(frozen=True)
class Received:
    """A request's body as it came, or why an operation that needs one cannot have it."""

    content: bytes = b""
    problem: Problem | None = None


def receive(most_bytes: int) -> None:
    """Take the request's body from its connection. Raises Problem if it has more bytes."""
    _take_place(most_bytes)
    g.received = _receive(most_bytes)


def let_go() -> None:
    """The request is over: another large body may come in."""
    if g.pop("holds_large_body", False):
        _large.release()


def read_json() -> Json:
    """The body as JSON. Raises Problem for anything else."""
    if request.mimetype != "application/json":
        raise Problem("unsupported-media-type", f"The Content-Type is {request.mimetype or 'missing'}.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("unsupported-media-type", "The body has a Content-Encoding; send it as it is.")
    received: Received = g.received
    if received.problem is not None:
        raise received.problem
    try:
        return strict_json.parse(received.content)
    except strict_json.BadJson as error:
        place = f" (at byte {error.offset})" if error.offset is not None else ""
        raise Problem("malformed-json", f"{error.detail}{place}", extra={"json_error": error.code}) from None


def _take_place(most_bytes: int) -> None:
    if MOST_BYTES < (request.content_length or 0) <= most_bytes:
        if not _large.acquire(timeout=PLACE_WITHIN_SECONDS):
            _drop(most_bytes)
            detail = f"{LARGE_AT_ONCE} bodies of more than {MOST_BYTES} bytes are at work here already."
            raise Problem("too-many-large-bodies", detail, headers={"Retry-After": "1"})
        g.holds_large_body = True


def _receive(most_bytes: int) -> Received:
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        return _without_length(most_bytes)
    length = request.content_length if request.environ.get("CONTENT_LENGTH") else None
    if length is None:
        detail = "The request has no Content-Length. Send a body: `{}` if there is nothing to say."
        return Received(problem=Problem("length-required", detail))
    if length > most_bytes:
        _drop(most_bytes + DROPPED_TOO)
        raise Problem("body-too-large", f"The body has {length} bytes; at most {most_bytes} are accepted.")
    content = b"".join(_pieces(length))
    if len(content) < length:
        detail = f"{length} bytes were announced, {len(content)} came."
        return Received(problem=Problem("incomplete-body", detail))
    return Received(content)


def _without_length(most_bytes: int) -> Received:
    if _drop(most_bytes + DROPPED_TOO) > most_bytes:
        raise Problem("body-too-large", f"The body has more than {most_bytes} bytes, which are accepted at most.")
    return Received(problem=Problem("length-required", "The body came in chunks, without a Content-Length."))


def _drop(most_bytes: int) -> int:
    return sum(len(piece) for piece in _pieces(most_bytes))


def _pieces(most_bytes: int) -> Iterator[bytes]:
    """What comes of the body until its end, which a client that goes away or stalls brings about too."""
    stream, left = request.environ["wsgi.input"], most_bytes
    while left > 0:
        try:
            piece = stream.read(min(left, _CHUNK))
        except Exception:  # noqa: BLE001 - a socket's errors, and the server's own for a chunk that is none, or one too slow
            return
        if not piece:
            return
        left -= len(piece)
        yield piece
