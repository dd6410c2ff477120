"""Tokens got for a key: shared, renewed in time, and never shown."""

import base64
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest

from jobmill_client import Client, Unauthorized, Unavailable, UnexpectedAnswer, connection, credentials
from tests.scripted import ADDRESS, ID, Scripted, job, problem, says

SECRET = "s" * 43


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(credentials, "time", clock)
    monkeypatch.setattr(connection, "_backoff", lambda _: 0)
    return clock


def token(text: str, expires_in: float = 900) -> httpx2.Response:
    return says({"access_token": text, "token_type": "Bearer", "expires_in": expires_in, "scope": "jobs:read"})


def client(*answers: Any) -> tuple[Client, Scripted]:
    server = Scripted(*answers)
    return Client(ADDRESS, client_id="ops1", client_secret=SECRET, transport=server), server


def ways(server: Scripted) -> list[str]:
    return [request.url.path for request in server.asked]


def test_one_token_serves_until_shortly_before_it_expires(clock):
    opened, server = client(token("t1"), says(job()), says(job()), token("t2"), says(job()))
    opened.job(ID)
    clock.now += 900 - credentials.EARLY_SECONDS - 1
    opened.job(ID)
    clock.now += 2
    opened.job(ID)
    read = f"/v1/jobs/{ID}"
    assert ways(server) == ["/oauth/token", read, read, "/oauth/token", read]
    sent = [header for header in server.sent("Authorization") if header]
    assert sent == ["Bearer t1", "Bearer t1", "Bearer t2"]
    form = parse_qs(server.asked[0].content.decode())
    assert form == {"grant_type": ["client_credentials"], "client_id": ["ops1"], "client_secret": [SECRET]}
    assert server.asked[0].extensions["timeout"]["read"] == 15


def test_a_token_of_a_short_life_is_used_for_half_of_it(clock):
    opened, server = client(token("t1", 10), says(job()), says(job()), token("t2", 10), says(job()))
    opened.job(ID)
    clock.now += 4
    opened.job(ID)
    clock.now += 2
    opened.job(ID)
    assert ways(server).count("/oauth/token") == 2


def test_a_token_that_is_no_longer_taken_is_replaced_once(clock):
    no = problem(401, "unauthenticated")
    opened, server = client(token("t1"), no, token("t2"), says(job()))
    assert opened.job(ID).id == ID
    assert server.asked[-1].headers["Authorization"] == "Bearer t2"
    opened, server = client(token("t1"), no, token("t2"), no)
    with pytest.raises(Unauthorized):
        opened.job(ID)
    assert len(server.asked) == 4


def test_a_key_that_gets_no_token_is_told_so(clock):
    refusal = {"error": "invalid_client", "error_description": "The API key is unknown."}
    opened, server = client(says(refusal, 401))
    with pytest.raises(Unauthorized) as raised:
        opened.job(ID)
    assert (raised.value.code, raised.value.detail) == ("invalid_client", "The API key is unknown.")
    assert ways(server) == ["/oauth/token"]


def test_the_request_for_a_token_is_repeated_like_any_other(clock):
    opened, server = client(problem(503), httpx2.ReadError("cut"), token("t1"), says(job()))
    assert opened.job(ID).id == ID
    assert ways(server)[:3] == ["/oauth/token"] * 3
    opened, _ = client(problem(503))
    with pytest.raises(Unavailable):
        opened.job(ID)


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, text="<html>"),
        says({"access_token": "t"}),
        says({"access_token": "two words", "expires_in": 1}),
        says({"access_token": 3, "expires_in": 1}),
        says([1]),
    ],
    ids=["html", "no-expiry", "words", "number", "list"],
)
def test_what_is_no_token_is_not_used(clock, answer):
    opened, _ = client(answer)
    with pytest.raises(UnexpectedAnswer):
        opened.job(ID)


def test_neither_secret_nor_token_is_in_a_repr(clock):
    opened, _ = client(token("t1"), says(job()))
    opened.job(ID)
    shown = repr(opened) + repr(opened.connection) + repr(vars(opened.connection))
    assert SECRET not in shown
    assert base64.b64encode(SECRET.encode()).decode() not in shown
    assert "t1" not in shown.replace("at1", "")
