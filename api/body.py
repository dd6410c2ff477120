"""Reading a request's body: exactly, within its limit, as strict JSON.

The servers answer 200 to bodies that were cut short; so the length is counted here, and a body without a
length is refused.
"""

from flask import request

from api.problems import Problem
from jobs import strict_json
from jobs.outcomes import Json

MOST_BYTES = 1024 * 1024
_CHUNK = 64 * 1024


def read_json(most_bytes: int = MOST_BYTES) -> Json:
    """The body as JSON. Raises Problem for anything else."""
    if request.mimetype != "application/json":
        raise Problem("unsupported-media-type", f"The Content-Type is {request.mimetype or 'missing'}.")
    body = _read(_length(most_bytes))
    try:
        return strict_json.parse(body)
    except strict_json.BadJson as error:
        place = f" (at byte {error.offset})" if error.offset is not None else ""
        raise Problem("malformed-json", f"{error.detail}{place}", extra={"json_error": error.code}) from None


def _length(most_bytes: int) -> int:
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower() or request.content_length is None:
        raise Problem("length-required", "The request has no Content-Length.")
    if request.content_length > most_bytes:
        detail = f"The body has {request.content_length} bytes; at most {most_bytes} are accepted."
        # Closing spares us from reading what will not be used.
        raise Problem("body-too-large", detail, headers={"Connection": "close"})
    return request.content_length


def _read(length: int) -> bytes:
    stream = request.environ["wsgi.input"]
    chunks = []
    left = length
    while left > 0:
        chunk = stream.read(min(left, _CHUNK))
        if not chunk:
            raise Problem("incomplete-body", f"{length} bytes were announced, {length - left} came.")
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
