"""What is sent as `Authorization`: a key or token as it was given, or tokens got for a key and renewed in time."""

import json
import threading
import time
from collections.abc import Generator
from http import HTTPStatus

import httpx2

from jobmill_client.address import is_token
from jobmill_client.errors import UnexpectedAnswer

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
EARLY_SECONDS = 60.0
"""A token is renewed so long before it expires, since a request may be long on its way."""

_Flow = Generator[httpx2.Request, httpx2.Response, None]
_Asking = Generator[httpx2.Request, httpx2.Response, httpx2.Response | None]


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
    """Tokens of /oauth/token for an API key's id and secret: one for all threads, renewed before it expires."""

    def __init__(self, url: str, client_id: str, client_secret: str) -> None:
        self._url = url + TOKEN_PATH
        self._form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        self._lock = threading.Lock()
        self._token: str | None = None
        self._good_until = 0.0

    def sync_auth_flow(self, request: httpx2.Request) -> _Flow:
        """Send the request with a token; with a new one if the server no longer takes it.

        If none is given, the answer that says so becomes the answer to the request.
        """
        if (yield from self._renewed(request)) is not None:
            return
        sent = self._authorize(request)
        response = yield request
        if response.status_code != HTTPStatus.UNAUTHORIZED:
            return
        # The keys that sign tokens may have been changed at once, as after a leak.
        if (yield from self._renewed(request, instead_of=sent)) is None:
            self._authorize(request)
            yield request

    def _renewed(self, request: httpx2.Request, instead_of: str | None = None) -> _Asking:
        """Get a token unless there is one; gives the answer that refuses it."""
        with self._lock:
            if self._token != instead_of and time.monotonic() < self._good_until:
                return None
            agent, limits = request.headers.get("User-Agent", ""), request.extensions
            headers = {"Accept": "application/json", "User-Agent": agent}
            answer = yield httpx2.Request("POST", self._url, data=self._form, headers=headers, extensions=limits)
            answer.read()
            if not answer.is_success:
                return answer
            self._keep(answer)
            return None

    def _keep(self, answer: httpx2.Response) -> None:
        try:
            document = json.loads(answer.content)
            token, life = document["access_token"], float(document["expires_in"])
        except (ValueError, TypeError, KeyError):
            raise UnexpectedAnswer(self._url, answer.status_code) from None
        if not isinstance(token, str) or not is_token(token):
            raise UnexpectedAnswer(self._url, answer.status_code)
        self._token = token
        self._good_until = time.monotonic() + life - min(EARLY_SECONDS, life / 2)

    def _authorize(self, request: httpx2.Request) -> str:
        token = self._token or ""
        request.headers["Authorization"] = f"Bearer {token}"
        return token
