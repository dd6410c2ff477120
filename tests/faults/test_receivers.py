"""Servers that `http.request` calls and that misbehave: the job ends in time with an error that says what happened, and
the only thread of the worker is free again.
"""

import socket
import struct
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.acceptance.installation import Embedded, Installation
from tests.faults.conftest import Install
from tests.integration.test_outbound import OK, answering, dripping, over_tls, peer, read_request

Serve = Callable[[socket.socket], None]

TIMEOUT_SECONDS = 2
LATE_SECONDS = 3.0
"""How much later than its time limit a job may have ended: a watchdog looks twice a second."""
BATCH = 200
SHARED_SECONDS = 10.0
"""Within so long a living receiver is told although a single thread has a thousand others to try."""
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    return install(
        Embedded.mode,
        JOBMILL_THREADS="1",
        JOBMILL_WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8",
        JOBMILL_WEBHOOK_ALLOW_HTTP="true",
    )


def resetting(connection: socket.socket) -> None:
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def silent(connection: socket.socket) -> None:
    read_request(connection)
    connection.recv(1)  # for as long as the caller stays


def fault(name: str, how: str, serve: Serve, error: str, within: float, scheme: str = "http") -> object:
    return pytest.param(serve, error, within, scheme, id=f"{name}, {how}")


IN_TIME, AT_ONCE = TIMEOUT_SECONDS + LATE_SECONDS, LATE_SECONDS
HANDSHAKE = dripping(b"\x16\x03\x03\x40\x00", b"\x00", lambda connection: connection.recv(9))
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.fault("receiver-slow", "a server that never answers; one that does not read what it is sent")
@pytest.mark.fault("receiver-dripping", "a byte of the head, of the body, or of a TLS handshake every 50 ms")
@pytest.mark.fault("receiver-huge", "a header without end")
@pytest.mark.fault("receiver-redirecting", "302 to another address")
@pytest.mark.fault("receiver-resetting", "RST instead of an answer")
@pytest.mark.fault("receiver-tls", "a certificate nobody vouches for; plain HTTP where TLS was asked for")
@pytest.mark.parametrize(
    ("serve", "error", "within", "scheme"),
    [
        fault("slow", "no answer", silent, "DeadlineExceeded", IN_TIME),
        fault("dripping", "head", dripping(OK + b"X-Long: ", b"y"), "DeadlineExceeded", IN_TIME),
        fault("dripping", "body", dripping(OK + b"\r\n", b"x"), "DeadlineExceeded", IN_TIME),
        fault("dripping", "handshake", HANDSHAKE, "DeadlineExceeded", IN_TIME, "https"),
        fault("huge", "header", answering(OK + b"X: " + b"y" * 200_000), "ConnectionLost", AT_ONCE),
        fault("redirecting", "302", answering(REDIRECT), "unexpected-status", AT_ONCE),
        fault("resetting", "no answer", resetting, "ConnectionLost", AT_ONCE),
        fault("tls", "unknown", over_tls(answering(OK + b"\r\n"), []), "ConnectFailed", AT_ONCE, "https"),
        fault("tls", "none", lambda connection: connection.sendall(OK + b"\r\n"), "ConnectFailed", AT_ONCE, "https"),
    ],
)  # fmt: skip
def test_a_job_that_calls_it_ends_in_time_and_says_why(
    installation: Installation, serve: Serve, error: str, within: float, scheme: str
):
    with peer(serve) as (port, connected):
        end, took = called(installation, f"{scheme}://127.0.0.1:{port}/")
        installation.succeeded(installation.submit("demo.echo", {"value": "free"}), 5)
    assert len(connected) == 1
    assert end["state"] == "dead"
    told = {end["error"]["type"].rpartition(".")[2], end["error"]["code"]}
    # The call's own deadline and the job's time limit end at the same moment; either may be the one to say so.
    assert error in told or (error == "DeadlineExceeded" and "TimedOut" in told)
    assert took < within


def called(installation: Installation, url: str) -> tuple[dict[str, Any], float]:
    began = time.monotonic()
    job = installation.submit("http.request", {"url": url}, max_attempts=1, timeout_seconds=TIMEOUT_SECONDS)
    return installation.ended(job), time.monotonic() - began


@pytest.mark.fault("receiver-huge", "a body without end, of which the beginning is kept")
def test_of_an_endless_answer_the_beginning_is_kept(installation: Installation):
    with peer(dripping(OK + b"\r\n", b"x" * 400_000)) as (port, _):
        end, took = called(installation, f"http://127.0.0.1:{port}/")
    assert end["state"] == "succeeded"
    result = end["result"]
    assert (len(result["body"]), result["truncated"]) == (256 * 1024, True)
    assert took < AT_ONCE


@pytest.mark.fault(
    "receivers-dead",
    "webhooks to hundreds of servers that refuse connections (a thousand in the long test), and one that lives",
)
@pytest.mark.parametrize("how_many", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_many_dead_receivers_delay_a_living_one_by_moments(installation: Installation, how_many: int):
    told: list[float] = []

    def hear(connection: socket.socket) -> None:
        read_request(connection)
        told.append(time.monotonic())
        connection.sendall(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")

    dead = [f"http://127.{number // 250}.{number % 250}.9:9/" for number in range(how_many)]
    for first in range(0, how_many, BATCH):
        jobs = [asked(url) for url in dead[first : first + BATCH]]
        assert installation.client.post("/v1/jobs/batch", json={"jobs": jobs}).is_success
    with peer(hear) as (port, _):
        job = installation.client.post("/v1/jobs", json=asked(f"http://127.0.0.1:{port}/", priority=100)).json()
        installation.succeeded(job, 10)
        ended = time.monotonic()
        installation.eventually(lambda: told, 30)
    assert told[0] - ended < SHARED_SECONDS
    installation.eventually(lambda: count(installation, "succeeded", "demo.echo") > how_many, 90)
    # Each failed, keeps what came of it, and waits for its next try.
    tried = "SELECT count(DISTINCT url) FROM webhook_deliveries WHERE failure IS NOT NULL AND url LIKE '%:9/'"
    installation.eventually(lambda: installation.sql(tried) == [(how_many,)], 90)
    assert count(installation, "dead", "webhook.deliver") == 0


def asked(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "demo.echo", "args": {"value": 1}, "webhook": {"url": url, "events": ["job.succeeded"]}, **more}


def count(installation: Installation, state: str, job_type: str) -> int:
    query = f"SELECT count(*) FROM jobs WHERE state = '{state}' AND type = '{job_type}'"  # noqa: S608 - our own words
    return int(installation.sql(query)[0][0])


@pytest.mark.fault("receiver-429", "429 with Retry-After twice, then 200")
def test_one_that_asks_for_patience_is_asked_again_when_it_said(installation: Installation):
    came: list[float] = []

    def busy_twice(connection: socket.socket) -> None:
        read_request(connection)
        came.append(time.monotonic())
        busy = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(busy if len(came) < 3 else OK + b"Content-Length: 2\r\n\r\nok")

    with peer(busy_twice) as (port, _):
        job = installation.submit("http.request", {"url": f"http://127.0.0.1:{port}/"})
        end = installation.succeeded(job, 15)
    assert end["result"]["body"] == "ok"
    assert [later - earlier >= 1 for earlier, later in pairwise(came)] == [True, True]
