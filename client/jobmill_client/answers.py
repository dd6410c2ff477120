"""What came back: a document, or the error that it tells of."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx2

from jobmill_client.errors import AnswerTooLarge, ConnectionFailed, UnexpectedAnswer, api_error


@dataclass(frozen=True)
class Answer:
    """A 2xx, or a 304, whose document is empty: as it was read, and in the bytes it came in.

    `retry_after`: in how many seconds the server wants to be asked again; `etag`: what names this state of the thing;
    `held`: whether the server held it back as it was asked to.
    """

    status: int
    document: Mapping[str, Any]
    body: bytes = b""
    retry_after: float | None = None
    etag: str | None = None
    held: bool = False


def bounded(chunks: Iterable[bytes], url: str, status: int, most_bytes: int, deadline: float) -> Iterator[bytes]:
    """The pieces of an answer's body as they come. Raises AnswerTooLarge; ConnectionFailed after the `deadline`."""
    size = 0
    # The library's timeouts count from one read to the next; a server that trickles would never meet them.
    for chunk in chunks:
        size += len(chunk)
        if time.monotonic() > deadline:
            raise ConnectionFailed(url, "it did not finish its answer in time")
        if size > most_bytes:
            raise AnswerTooLarge(url, status, most_bytes)
        yield chunk


def judged(url: str, response: httpx2.Response, body: bytes) -> Answer:
    """The answer in a response. Raises ApiError, UnexpectedAnswer."""
    status, headers = response.status_code, response.headers
    retry_after, held = seconds_until(headers.get("Retry-After")), "Preference-Applied" in headers
    if status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        return Answer(status, {}, b"", retry_after, headers.get("ETag"), held)
    if response.is_redirect:
        raise UnexpectedAnswer(url, status, headers.get("Location"))
    document = _object(body)
    if response.is_error:
        raise api_error(status, document or {}, headers.get("X-Request-Id"), retry_after)
    if document is None:
        raise UnexpectedAnswer(url, status)
    return Answer(status, document, body, retry_after, headers.get("ETag"), held)


def seconds_until(retry_after: str | None) -> float | None:
    """RFC 9110, 10.2.3: a number of seconds, or a date; None if it is neither."""
    if not retry_after:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
