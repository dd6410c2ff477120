"""Tokens got for a key: shared, renewed in time, and never shown."""

import base64
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest

from jobmill_client import (
    Client,
    ConnectionFailed,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    answers,
    connection,
    credentials,
)
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
    for module in (answers, connection, credentials):
        monkeypatch.setattr(module, "time", clock)
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


class Door:
    """A token endpoint that answers when it is told to, and tells that it was asked."""

    def __init__(self, answer: httpx2.Response | Exception) -> None:
        self._answer = answer
        self.asked, self.opened = threading.Event(), threading.Event()

    def __call__(self, _: httpx2.Request) -> httpx2.Response:
        self.asked.set()
        assert self.opened.wait(10)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class CountedLock:
    """A lock that tells how many have come to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.came = threading.Semaphore(0)

    def acquire(self, *, timeout: float) -> bool:
        self.came.release()
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        self._lock.release()


def test_nobody_waits_longer_than_a_try_for_the_token_that_another_asks_for():
    door = Door(token("t1"))
    server = Scripted(door, says(job()))
    options: dict[str, Any] = {"client_id": "ops1", "client_secret": SECRET, "transport": server}
    with Client(ADDRESS, timeout=0.1, retries=0, **options) as opened, ThreadPoolExecutor() as threads:
        first = threads.submit(opened.job, ID)
        assert door.asked.wait(10)
        with pytest.raises(ConnectionFailed, match="token") as raised:
            opened.job(ID)
        door.opened.set()
        first.exception(10)
    assert (raised.value.sent, ways(server).count("/oauth/token")) == (False, 1)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx2.ReadTimeout("slow"), ConnectionFailed),
        (says({"error": "invalid_client"}, 401), Unauthorized),
        (problem(503), Unavailable),
        (httpx2.Response(200, text="<html>"), UnexpectedAnswer),
    ],
    ids=["slow", "401", "503", "html"],
)
def test_those_who_wait_for_a_token_share_the_failure_to_get_it(monkeypatch, answer, kind):
    lock, door = CountedLock(), Door(answer)
    monkeypatch.setattr(credentials, "threading", SimpleNamespace(Lock=lambda: lock))
    server = Scripted(door)
    opened = Client(ADDRESS, client_id="ops1", client_secret=SECRET, transport=server, retries=0)
    with opened, ThreadPoolExecutor(5) as threads:
        calls = [threads.submit(opened.submit, "demo.echo", idempotency_key=f"k{at}") for at in range(5)]
        for _ in calls:
            assert lock.came.acquire(timeout=10)
        door.opened.set()
        errors = [call.exception(10) for call in calls]
    assert [type(error) for error in errors] == [kind] * 5
    assert [error.idempotency_key for error in errors if isinstance(error, kind)] == [f"k{at}" for at in range(5)]
    assert ways(server) == ["/oauth/token"]


def test_a_failure_is_not_shared_with_those_who_come_later(clock):
    opened, server = client(problem(503), token("t1"), says(job()))
    assert opened.job(ID).id == ID
    assert ways(server).count("/oauth/token") == 2


def test_a_token_that_trickles_is_given_up(clock):
    sent: list[float] = []

    def trickling() -> Iterator[bytes]:
        while True:
            yield b" "
            clock.now += 4
            sent.append(clock.now)

    server = Scripted(lambda _: httpx2.Response(200, content=trickling()))
    opened = Client(ADDRESS, client_id="ops1", client_secret=SECRET, transport=server, retries=0)
    with pytest.raises(ConnectionFailed, match="did not finish") as raised:
        opened.job(ID)
    assert sent == [1004, 1008, 1012, 1016]
    assert not raised.value.sent


def test_a_token_without_end_is_given_up(clock):
    sent = itertools.count()
    endless = (b"t" * 1024 for _ in sent)
    opened, server = client(lambda _: httpx2.Response(200, content=endless))
    with pytest.raises(UnexpectedAnswer):
        opened.job(ID)
    assert ways(server) == ["/oauth/token"]
    assert next(sent) == credentials.MOST_TOKEN_BYTES / 1024 + 1


def test_a_token_that_comes_in_pieces_is_one(clock):
    opened, _ = client(lambda _: httpx2.Response(200, content=iter([token("t1").content])), says(job()))
    assert opened.job(ID).id == ID


def test_a_token_has_the_time_of_a_try_and_not_that_of_a_look_that_is_held(clock):
    opened, server = client(token("t1"), says(job("succeeded")))
    opened.wait(ID)
    assert [request.extensions["timeout"]["read"] for request in server.asked] == [15, 35]
