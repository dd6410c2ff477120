"""Talking to the API: every call has a deadline, is tried again while that can help, and ends in words.

All calls made here may be repeated: reads, cancellations, and submissions under an idempotency key.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

import httpx2
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from cli.access import Access
from cli.failures import Failure, Refused, Unreachable
from cli.problems import describe, problem

CONNECT_SECONDS = 5.0
CALL_SECONDS = 15.0
A_FEW_TIMES = stop_after_attempt(5) | stop_before_delay(12)
MOST_REQUEST_BYTES = 1024 * 1024
MOST_BYTES = 64 * 1024 * 1024
TOO_MANY_REQUESTS = 429
# Conflicts that pass by themselves: another request with the same key or rows is still under way.
PASSING = {"idempotency-key-in-use", "too-busy"}

_backoff = wait_random_exponential(multiplier=0.2, max=3)


@dataclass(frozen=True)
class Answer:
    """A 2xx: the document, the bytes it came in, and how soon the server wants to be asked again."""

    document: Mapping[str, Any]
    body: bytes
    retry_after: float | None


class Server:
    """One server, for the length of a command."""

    def __init__(self, access: Access) -> None:
        self._url = access.url
        self._client = httpx2.Client(
            base_url=access.url,
            headers={
                "Authorization": f"Bearer {access.token}",
                "Accept": "application/json",
                "User-Agent": f"jobmill-cli/{version('jobmill')}",
            },
            timeout=httpx2.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS),
            # A proxy from the environment is for the world outside, and would not find this machine's loopback.
            trust_env=not access.is_local,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, patience: float | None = None) -> Answer:
        """Read, trying for `patience` seconds if given, else a few times; raises Refused or Unreachable."""
        stop = A_FEW_TIMES if patience is None else stop_before_delay(patience)
        return self._call("GET", path, stop, params=_given(params or {}))

    def post(
        self, path: str, document: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask for something that bears being asked twice; raises Refused or Unreachable."""
        if document is None:
            return self._call("POST", path, A_FEW_TIMES, headers=headers)
        content = json.dumps(document).encode()
        if len(content) > MOST_REQUEST_BYTES:
            raise Failure(f"This makes a request of {len(content)} bytes; the API takes {MOST_REQUEST_BYTES}.")
        return self._call(
            "POST", path, A_FEW_TIMES, content=content, headers={**(headers or {}), "Content-Type": "application/json"}
        )

    def pages(self, path: str, params: Mapping[str, Any]) -> Iterator[Answer]:
        """A list, page by page."""
        cursor = None
        while True:
            answer = self.get(path, {**params, "cursor": cursor})
            yield answer
            cursor = answer.document.get("next_cursor")
            if not cursor:
                return

    def _call(self, method: str, path: str, stop: stop_base, **request: Any) -> Answer:
        attempts = Retrying(
            retry=retry_if_exception(lambda error: getattr(error, "again", False)),
            wait=_pause,
            stop=stop,
            reraise=True,
        )
        answer: Answer = attempts(self._once, method, path, request)
        return answer

    def _once(self, method: str, path: str, request: Mapping[str, Any]) -> Answer:
        try:
            with self._client.stream(method, path, **request) as response:
                body = self._read(response)
        except httpx2.RequestError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(
                f"{self._url} does not answer ({reason}). Start it with `jobmill up`, or set JOBMILL_URL."
            ) from error
        return self._judged(response, body)

    def _read(self, response: httpx2.Response) -> bytes:
        # The library's timeouts count from one read to the next; a server that trickles would never meet them.
        deadline = time.monotonic() + CALL_SECONDS
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if time.monotonic() > deadline:
                raise Unreachable(f"{self._url} did not finish its answer within {CALL_SECONDS:g} s.")
            if len(body) > MOST_BYTES:
                raise Refused(f"{self._url} answered with more than {MOST_BYTES} bytes.")
        return bytes(body)

    def _judged(self, response: httpx2.Response, body: bytes) -> Answer:
        retry_after = _seconds(response.headers.get("Retry-After"))
        if not response.is_success:
            raise _refusal(response, body, retry_after)
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Unreachable(f"{self._url} answers, but not as Jobmill does. Check JOBMILL_URL.", again=False)
        return Answer(document, body, retry_after)


def _refusal(response: httpx2.Response, body: bytes, retry_after: float | None) -> Failure:
    status = response.status_code
    if response.is_redirect:
        return Failure(
            f"The server sends to {response.headers.get('Location')}; set JOBMILL_URL to where it really is."
        )
    document = problem(body)
    text = describe(status, document, response.headers.get("X-Request-Id"))
    if response.is_server_error:
        return Unreachable(text, retry_after=retry_after)
    code = str(document.get("code", ""))
    again = status == TOO_MANY_REQUESTS or code in PASSING
    return Refused(text, status=status, code=code, again=again, retry_after=retry_after)


def _pause(state: RetryCallState) -> float:
    wanted = getattr(state.outcome.exception(), "retry_after", None) if state.outcome else None
    return _backoff(state) if wanted is None else float(wanted)


def _seconds(retry_after: str | None) -> float | None:
    """RFC 9110, 10.2.3: a number of seconds, or a date."""
    if not retry_after:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None and value != ()}
