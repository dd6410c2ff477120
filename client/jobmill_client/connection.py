"""Talking to the API: every call has a deadline, is repeated while that can help and does no harm, and fails typed.

`Client` stands on it; what that has no method for can be asked here by path.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
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

from jobmill_client.address import is_local, server_address
from jobmill_client.answers import Answer, bounded, judged
from jobmill_client.errors import (
    Conflict,
    ConnectionFailed,
    JobmillError,
    RateLimited,
    RequestTooLarge,
    ServerError,
)

CONNECT_SECONDS = 5.0
MOST_REQUEST_BYTES = 1024 * 1024
MOST_ANSWER_BYTES = 64 * 1024 * 1024
PASSING = {"idempotency-key-in-use", "too-busy"}
"""Conflicts that pass by themselves: another request with the same key or rows is still under way."""

_USER_AGENT = f"jobmill-client/{version('jobmill-client')}"
_log = logging.getLogger("jobmill_client")
_backoff = wait_random_exponential(multiplier=0.2, max=3)


@dataclass(frozen=True)
class Patience:
    """How often a call is repeated at most, and until how many seconds after its begin another try may start."""

    retries: int = 4
    seconds: float = 30.0

    def stop(self, seconds: float | None) -> stop_base:
        """When to give up; `seconds` stands for both bounds."""
        if seconds is not None:
            return stop_before_delay(seconds)
        return stop_after_attempt(self.retries + 1) | stop_before_delay(self.seconds)


class Connection:
    """A server, and what opens it. Threads may share one; close it when done, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        auth: httpx2.Auth,
        *,
        timeout: float = 15.0,
        patience: Patience = Patience(),
        user_agent: str = "",
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet. `timeout`: the seconds that one try may take. Raises ValueError for a wrong url."""
        self.url = _checked(url)
        self.timeout = timeout
        self._patience = patience
        self._http = httpx2.Client(
            base_url=self.url,
            auth=auth,
            headers={"Accept": "application/json", "User-Agent": f"{user_agent} {_USER_AGENT}".strip()},
            transport=transport,
            # A thread holds one at a time: so many are used, and none waits for another's job to end.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
            # A proxy from the environment is for the world outside, and would not find this machine's loopback.
            trust_env=not is_local(self.url),
        )

    def __repr__(self) -> str:
        return f"Connection({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of the pool."""
        self._http.close()

    def get(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        held: float = 0.0,
        patience: float | None = None,
    ) -> Answer:
        """Read. `held`: the seconds for which the server may hold the answer back; `patience`: for how long to try.

        Raises ApiError, ConnectionFailed, UnexpectedAnswer.
        """
        once = partial(self._once, "GET", path, held, params=_given(params or {}), headers=headers)
        return self._again(once, self._patience.stop(patience))

    def post(
        self,
        path: str,
        document: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        repeatable: bool | None = None,
        most_bytes: int = MOST_REQUEST_BYTES,
        held: float = 0.0,
    ) -> Answer:
        """Ask for something; set `repeatable` if asking twice does it once, as it does with an idempotency key.

        Else it is repeated only if nothing can have been done: not after a cut, lost or broken (5xx) answer.
        Raises ApiError, ConnectionFailed, UnexpectedAnswer, RequestTooLarge; ValueError for what JSON cannot say.
        """
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        once = partial(self._once, "POST", path, held, **_body(document, headers, most_bytes))
        try:
            return self._again(
                once,
                self._patience.stop(None),
                repeatable=idempotency_key is not None if repeatable is None else repeatable,
            )
        except JobmillError as error:
            error.idempotency_key = idempotency_key
            raise

    def patch(self, path: str, document: Mapping[str, Any]) -> Answer:
        """Change something, which twice is as once. Raises as `post` does."""
        once = partial(self._once, "PATCH", path, 0.0, **_body(document, {}, MOST_REQUEST_BYTES))
        return self._again(once, self._patience.stop(None))

    def delete(self, path: str) -> Answer:
        """Take something away. Raises as `get` does; of a NotFound, `perhaps_done` says that an earlier try did it."""
        return self._again(partial(self._once, "DELETE", path, 0.0), self._patience.stop(None))

    def pages(self, path: str, params: Mapping[str, Any] | None = None) -> Iterator[Answer]:
        """A list, page by page; each is read when it is asked for."""
        cursor = None
        while True:
            answer = self.get(path, {**(params or {}), "cursor": cursor})
            yield answer
            cursor = answer.document.get("next_cursor")
            if not cursor:
                return

    def items(self, path: str, params: Mapping[str, Any] | None = None) -> Iterator[Mapping[str, Any]]:
        """What is in a list, over all its pages."""
        for page in self.pages(path, params):
            yield from page.document["data"]

    def _again(self, once: "partial[Answer]", stop: stop_base, *, repeatable: bool = True) -> Answer:
        tried = _Tried()
        attempts = Retrying(
            retry=retry_if_exception(partial(_may_pass, repeatable=repeatable)),
            wait=_pause,
            stop=stop,
            before_sleep=tried,
            reraise=True,
        )
        try:
            return attempts(once)
        except JobmillError as error:
            error.perhaps_done = tried.perhaps_done
            raise

    def _once(self, method: str, path: str, held: float, **request: Any) -> Answer:
        seconds = self.timeout + held
        deadline = time.monotonic() + seconds
        try:
            with self._http.stream(method, path, timeout=timeouts(seconds), **request) as response:
                chunks = response.iter_bytes()
                body = b"".join(bounded(chunks, self.url, response.status_code, MOST_ANSWER_BYTES, deadline))
        except httpx2.RequestError as error:
            sent = not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
            raise ConnectionFailed(self.url, str(error) or type(error).__name__, sent) from error
        return judged(self.url, response, body)


def timeouts(seconds: float) -> httpx2.Timeout:
    """Of one try; connecting takes less."""
    return httpx2.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))


def _body(document: Mapping[str, Any] | None, headers: Mapping[str, str], most_bytes: int) -> dict[str, Any]:
    """The part of a request that carries a document."""
    if document is None:
        return {"content": None, "headers": headers}
    content = json.dumps(document, allow_nan=False).encode()
    if len(content) > most_bytes:
        raise RequestTooLarge(len(content), most_bytes)
    return {"content": content, "headers": {**headers, "Content-Type": "application/json"}}


def _checked(url: str) -> str:
    try:
        return server_address(url)
    except ValueError as error:
        raise ValueError(f"The url {error}") from None


def _may_pass(error: BaseException, *, repeatable: bool) -> bool:
    """Whether to try again: it may pass, and nothing is done twice by it."""
    match error:
        case RateLimited():
            return True
        case ConnectionFailed() | ServerError():
            return repeatable or not _perhaps_done(error)
        case Conflict():
            return error.code in PASSING
        case _:
            return False


def _pause(state: RetryCallState) -> float:
    wanted = getattr(state.outcome.exception(), "retry_after", None) if state.outcome else None
    return _backoff(state) if wanted is None else float(wanted)


class _Tried:
    """Logs that a call is tried again, and remembers whether one of the tries may have done what was asked."""

    def __init__(self) -> None:
        self.perhaps_done = False

    def __call__(self, state: RetryCallState) -> None:
        # Not by the library's own function, which would log the request with its arguments.
        error = state.outcome.exception() if state.outcome else None
        self.perhaps_done |= _perhaps_done(error)
        _log.info("trying again in %.1f s: %s", state.upcoming_sleep, error)


def _perhaps_done(error: BaseException | None) -> bool:
    return isinstance(error, ServerError) or (isinstance(error, ConnectionFailed) and error.sent)


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None and value != ()}
