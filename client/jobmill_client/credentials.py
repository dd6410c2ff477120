"""What is sent as `Authorization`: a key or token as it was given, or tokens got for a key and renewed in time."""

import threading
import time
from collections.abc import Generator, Iterator
from copy import copy
from http import HTTPStatus

import httpx2

from jobmill_client.address import is_token
from jobmill_client.answers import bounded, judged
from jobmill_client.connection import timeouts
from jobmill_client.errors import AnswerTooLarge, ConnectionFailed, JobmillError, UnexpectedAnswer

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
EARLY_SECONDS = 60.0
"""A token is renewed so long before it expires, since a request may be long on its way."""

MOST_TOKEN_BYTES = 64 * 1024

_Flow = Generator[httpx2.Request, httpx2.Response, None]


class Bearer(httpx2.Auth):
    """An API key or a token. Raises ValueError if it has not the form of one."""

    def __init__(self, token: str) -> None:
        if not is_token(token):
            raise ValueError("That is no API key or token; a key looks like jm_<key id>_<secret>.")
        self._token = token

    def auth_flow(self, request: httpx2.Request) -> _Flow:
        """Send the request with it."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class ClientCredentials(httpx2.Auth):
    """Tokens of /oauth/token for an API key's id and secret: one for all threads, renewed before it expires.

    One thread at a time asks for it, and the others wait: for `timeout` seconds at most, as long as a try may take. If
    it gets none, neither do they, and each fails as it did. Raises ApiError if the key gets no token, ConnectionFailed,
    UnexpectedAnswer.
    """

    def __init__(self, url: str, client_id: str, client_secret: str, timeout: float) -> None:
        self._url = url + TOKEN_PATH
        self._form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        self._timeout = timeout
        self._lock = threading.Lock()
        self._token: str | None = None
        self._good_until = 0.0
        self._failure: JobmillError | None = None

    def sync_auth_flow(self, request: httpx2.Request) -> _Flow:
        """Send the request with a token; with a new one if the server no longer takes it."""
        yield from self._renew(request)
        sent = self._authorize(request)
        response = yield request
        if response.status_code != HTTPStatus.UNAUTHORIZED:
            return
        # The keys that sign tokens may have been changed at once, as after a leak.
        yield from self._renew(request, instead_of=sent)
        self._authorize(request)
        yield request

    def _renew(self, request: httpx2.Request, instead_of: str | None = None) -> _Flow:
        """Get a token unless there is one."""
        before = self._failure
        if not self._lock.acquire(timeout=self._timeout):
            raise ConnectionFailed(self._url, "another thread still waits for its token", sent=False)
        try:
            if self._token != instead_of and time.monotonic() < self._good_until:
                return
            if self._failure is not None and self._failure is not before:
                # Whoever has waited for one failure does not wait for the next: they would fail one after the other.
                raise copy(self._failure)
            yield from self._ask(request.headers.get("User-Agent", ""))
        finally:
            self._lock.release()

    def _ask(self, agent: str) -> _Flow:
        # If no answer comes the library ends this without a word.
        failure: JobmillError | None = ConnectionFailed(self._url, "no answer to the request for a token", sent=False)
        deadline = time.monotonic() + self._timeout
        try:
            answer = yield self._request(agent)
            self._keep(answer, deadline)
            failure = None
        except JobmillError as error:
            failure = copy(error)
            raise
        finally:
            self._failure = failure

    def _request(self, agent: str) -> httpx2.Request:
        headers = {"Accept": "application/json", "User-Agent": agent}
        extensions = {"timeout": timeouts(self._timeout).as_dict()}
        return httpx2.Request("POST", self._url, data=self._form, headers=headers, extensions=extensions)

    def _keep(self, answer: httpx2.Response, deadline: float) -> None:
        document = judged(self._url, answer, self._read(answer, deadline)).document
        try:
            token, life = document["access_token"], float(document["expires_in"])
        except (ValueError, TypeError, KeyError):
            raise UnexpectedAnswer(self._url, answer.status_code) from None
        if not isinstance(token, str) or not is_token(token):
            raise UnexpectedAnswer(self._url, answer.status_code)
        self._token = token
        self._good_until = time.monotonic() + life - min(EARLY_SECONDS, life / 2)

    def _read(self, answer: httpx2.Response, deadline: float) -> bytes:
        if isinstance(answer.stream, httpx2.SyncByteStream):
            chunks = bounded(answer.stream, self._url, answer.status_code, MOST_TOKEN_BYTES, deadline)
            answer.stream = _Bounded(answer.stream, chunks)
        try:
            return answer.read()
        except ConnectionFailed as error:
            raise ConnectionFailed(self._url, error.reason, sent=False) from error
        except AnswerTooLarge:
            raise UnexpectedAnswer(self._url, answer.status_code) from None

    def _authorize(self, request: httpx2.Request) -> str:
        token = self._token or ""
        request.headers["Authorization"] = f"Bearer {token}"
        return token


class _Bounded(httpx2.SyncByteStream):
    """A body that the library reads by itself, between two requests of a flow, and not without end."""

    def __init__(self, stream: httpx2.SyncByteStream, chunks: Iterator[bytes]) -> None:
        self._stream = stream
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self._stream.close()


def opened_by(
    url: str, key: str | None, token: str | None, client_id: str | None, client_secret: str | None, timeout: float
) -> httpx2.Auth:
    """What opens a server, of all that may be given for it. Raises ValueError unless it is exactly one."""
    pair = (client_id, client_secret)
    given = [key is not None, token is not None, pair != (None, None)]
    if sum(given) != 1 or (given[2] and None in pair):
        raise ValueError("Give one of: key, token, client_id with client_secret.")
    if client_id is not None and client_secret is not None:
        return ClientCredentials(url.rstrip("/"), client_id, client_secret, timeout)
    return Bearer(key or token or "")
