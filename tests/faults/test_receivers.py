"""Servers that `http.request` calls and that misbehave: the job ends in time with an error that says what happened, and
the only thread of the worker is free again.
"""

import math
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import psutil
import pytest

from models.gate import most_at_silent
from tests.acceptance.installation import Embedded, Installation, Json
from tests.acceptance.ledger import Ledger
from tests.faults import figures
from tests.faults.conftest import Install
from tests.faults.invariants import check
from tests.integration.test_outbound import OK, answering, dripping, over_tls, peer, read_request

Serve = Callable[[socket.socket], None]

TIMEOUT_SECONDS = 2
LATE_SECONDS = 3.0
"""How much later than its time limit a job may have ended: a watchdog looks twice a second."""
BATCH = 200
THREADS = 32
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


@dataclass(frozen=True)
class Bad:
    """A receiver that is not as it should be, the error with which a call of it ends, and within how long."""

    name: str
    how: str
    serve: Serve
    error: str
    within: float
    scheme: str = "http"

    def __str__(self) -> str:
        return f"{self.name}, {self.how}"


IN_TIME, AT_ONCE = TIMEOUT_SECONDS + LATE_SECONDS, LATE_SECONDS
HANDSHAKE = dripping(b"\x16\x03\x03\x40\x00", b"\x00", lambda connection: connection.recv(9))
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.fault("receiver-slow", "a server that never answers")
@pytest.mark.fault("receiver-dripping", "a byte of the head, of the body, or of a TLS handshake every 50 ms")
@pytest.mark.fault("receiver-huge", "a header without end")
@pytest.mark.fault("receiver-redirecting", "302 to another address")
@pytest.mark.fault("receiver-resetting", "RST instead of an answer")
@pytest.mark.fault("receiver-tls", "a certificate nobody vouches for; plain HTTP where TLS was asked for")
@pytest.mark.parametrize(
    "bad",
    [
        Bad("slow", "no answer", silent, "DeadlineExceeded", IN_TIME),
        Bad("dripping", "head", dripping(OK + b"X-Long: ", b"y"), "DeadlineExceeded", IN_TIME),
        Bad("dripping", "body", dripping(OK + b"\r\n", b"x"), "DeadlineExceeded", IN_TIME),
        Bad("dripping", "handshake", HANDSHAKE, "DeadlineExceeded", IN_TIME, "https"),
        Bad("huge", "header", answering(OK + b"X: " + b"y" * 200_000), "ConnectionLost", AT_ONCE),
        Bad("redirecting", "302", answering(REDIRECT), "unexpected-status", AT_ONCE),
        Bad("resetting", "no answer", resetting, "ConnectionLost", AT_ONCE),
        Bad("tls", "unknown", over_tls(answering(OK + b"\r\n"), []), "ConnectFailed", AT_ONCE, "https"),
        Bad("tls", "none", lambda connection: connection.sendall(OK + b"\r\n"), "ConnectFailed", AT_ONCE, "https"),
    ],
    ids=str,
)  # fmt: skip
def test_a_job_that_calls_it_ends_in_time_and_says_why(installation: Installation, ledger: Ledger, bad: Bad):
    with peer(bad.serve) as (port, connected):
        end, took = called(installation, f"{bad.scheme}://127.0.0.1:{port}/")
        next_one = installation.submit("fault.quick", ledger.args)
        installation.succeeded(next_one, 5)
    assert len(connected) == 1
    assert end["state"] == "dead"
    told = {end["error"]["type"].rpartition(".")[2], end["error"]["code"]}
    # The call's own deadline and the job's time limit end at the same moment; either may be the one to say so.
    assert bad.error in told or (bad.error == "DeadlineExceeded" and "TimedOut" in told)
    assert took < bad.within
    figures.keep(f"receiver-{bad.name}", "a job that calls it ended after", took, "s")
    check(installation, ledger, [end, next_one], faults=0)


def called(installation: Installation, url: str) -> tuple[dict[str, Any], float]:
    began = time.monotonic()
    job = installation.submit("http.request", {"url": url}, max_attempts=1, timeout_seconds=TIMEOUT_SECONDS)
    return installation.ended(job), time.monotonic() - began


@pytest.mark.fault("receiver-huge", "a body without end, of which the beginning is kept")
def test_of_an_endless_answer_the_beginning_is_kept(installation: Installation, ledger: Ledger):
    with peer(dripping(OK + b"\r\n", b"x" * 400_000)) as (port, _):
        end, took = called(installation, f"http://127.0.0.1:{port}/")
    assert end["state"] == "succeeded"
    result = end["result"]
    assert (len(result["body"]), result["truncated"]) == (256 * 1024, True)
    assert took < AT_ONCE
    check(installation, ledger, [end], faults=0)


@pytest.mark.fault(
    "receivers-dead",
    "webhooks to hundreds of servers that refuse connections (a thousand in the long test), and one that lives",
)
@pytest.mark.timed
@pytest.mark.parametrize("how_many", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_many_dead_receivers_delay_a_living_one_by_moments(installation: Installation, ledger: Ledger, how_many: int):
    jobs = submit_all(installation, ledger, [f"http://127.{n // 250}.{n % 250}.9:9/" for n in range(how_many)])
    with living() as (url, told):
        job = installation.client.post("/v1/jobs", json=asked(ledger, url, priority=100)).json()
        installation.accepted.append(job)
        installation.succeeded(job, 10)
        ended = time.monotonic()
        installation.eventually(lambda: told, 30)
    assert told[0] - ended < SHARED_SECONDS
    figures.keep("receivers-dead", "beside those that refuse, a living one was told after", told[0] - ended, "s")
    installation.eventually(lambda: len(ledger.ends()) > how_many, 90)
    # Each failed, keeps what came of it, and waits for its next try.
    installation.eventually(lambda: tried(installation, 9) == how_many, 90)
    assert count(installation, "dead", "webhook.deliver") == 0
    check(installation, ledger, [*jobs, job], faults=0)


@pytest.mark.fault(
    "receivers-dead",
    "webhooks to 32 servers that take connections and never answer (200 in the long test), and one that lives",
)
@pytest.mark.timeout(400)
@pytest.mark.parametrize("how_many", [32, pytest.param(200, marks=pytest.mark.long)])
def test_many_that_were_silent_once_delay_a_living_one_by_moments(install: Install, ledger: Ledger, how_many: int):
    installation = install(Embedded.mode, JOBMILL_THREADS=str(THREADS))
    with nobody() as port, living() as (url, told):
        jobs = submit_all(
            installation, ledger, [f"http://127.0.{n // 250}.{n % 250 + 1}:{port}/" for n in range(how_many)]
        )
        rounds = math.ceil(how_many / THREADS)
        installation.eventually(lambda: tried(installation, port) == how_many, 30 * rounds + 10, 0.1)
        most, held = most_at_silent(THREADS), []
        installation.eventually(lambda: waited_for(installation, port) == most, 30)
        for number in range(10):
            job = submit_all(installation, ledger, [url])[0]
            installation.succeeded(job, 10)
            ended = time.monotonic()
            installation.eventually(lambda so_many=number: len(told) > so_many, 30)
            assert told[number] - ended < LATE_SECONDS
            held.append(waited_for(installation, port))
            jobs.append(job)
            time.sleep(0.5)  # over more of a try's fifteen seconds; nothing waits for this
        assert max(held) == most
        assert sum(held) > most * len(held) / 2  # it fell where tries of the same age ended together
    check(installation, ledger, jobs, faults=0)


def submit_all(installation: Installation, ledger: Ledger, urls: Sequence[str]) -> list[Json]:
    """A job for each of those to be told of."""
    jobs: list[Json] = []
    for first in range(0, len(urls), BATCH):
        wanted = [asked(ledger, url) for url in urls[first : first + BATCH]]
        answer = installation.client.post("/v1/jobs/batch", json={"jobs": wanted})
        assert answer.is_success, answer.text
        jobs += [item["job"] for item in answer.json()["data"]]
    installation.accepted += jobs
    return jobs


@contextmanager
def living() -> Iterator[tuple[str, list[float]]]:
    """A receiver that answers at once; gives its URL, and when it was told something."""
    told: list[float] = []

    def hear(connection: socket.socket) -> None:
        read_request(connection)
        told.append(time.monotonic())
        connection.sendall(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")

    with peer(hear) as (port, _):
        yield f"http://127.0.0.1:{port}/", told


@contextmanager
def nobody() -> Iterator[int]:
    """A port where connections are made, at every address of this machine, and nobody ever takes one in hand."""
    with socket.create_server(("0.0.0.0", 0), backlog=1024) as listener:  # noqa: S104 - all of 127.0.0.0/8
        yield listener.getsockname()[1]


def waited_for(installation: Installation, port: int) -> int:
    """How many threads of the worker wait for an answer from there."""
    links = psutil.Process(installation.worker.pid).net_connections("tcp")
    return sum(bool(link.raddr) and link.raddr.port == port for link in links)


def tried(installation: Installation, port: int) -> int:
    """How many receivers there were tried and failed."""
    query = f"SELECT count(DISTINCT url) FROM webhook_deliveries WHERE failure IS NOT NULL AND url LIKE '%:{port}/'"  # noqa: S608
    return int(installation.sql(query)[0][0])


def asked(ledger: Ledger, url: str, **more: Any) -> Json:
    return {
        "type": "fault.quick",
        "args": ledger.args,
        "webhook": {"url": url, "events": ["job.succeeded"]},
        **more,
    }


def count(installation: Installation, state: str, job_type: str) -> int:
    query = f"SELECT count(*) FROM jobs WHERE state = '{state}' AND type = '{job_type}'"  # noqa: S608 - our own words
    return int(installation.sql(query)[0][0])


@pytest.mark.fault("receiver-429", "429 with Retry-After twice, then 200")
def test_one_that_asks_for_patience_is_asked_again_when_it_said(installation: Installation, ledger: Ledger):
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
    latest = max(later - earlier for earlier, later in pairwise(came))
    figures.keep("receiver-429", "asked again after (1 s was asked for)", latest, "s")
    check(installation, ledger, [job], faults=0)


@pytest.mark.fault("receiver-410", "410 to the first event that an endpoint is told of; another comes afterwards")
def test_one_that_is_gone_is_told_no_more(installation: Installation, ledger: Ledger):
    came: list[float] = []

    def gone(connection: socket.socket) -> None:
        read_request(connection)
        came.append(time.monotonic())
        connection.sendall(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")

    with peer(gone) as (port, _):
        wanted = {"url": f"http://127.0.0.1:{port}/", "events": ["job.succeeded"]}
        made = installation.client.post("/v1/webhook-endpoints", json=wanted).raise_for_status().json()
        jobs = [installation.submit("fault.quick", ledger.args)]
        place = f"/v1/webhook-endpoints/{made['id']}"
        why = installation.eventually(lambda: installation.client.get(place).json()["disabled_reason"])
        jobs.append(installation.submit("fault.quick", ledger.args))
        check(installation, ledger, jobs, faults=0)
    assert "410" in why
    assert len(came) == 1
