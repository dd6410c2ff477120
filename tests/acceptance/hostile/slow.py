"""Clients that take their time, each from the beginning of the test on: a thread's time is not theirs to take."""

import select
import time
from concurrent.futures import Future
from dataclasses import dataclass

from tests.acceptance.hostile.framing import CHUNKED
from tests.acceptance.hostile.row import JSON, request
from tests.acceptance.hostile.wire import Answer, Wire

SUBMISSION = request("POST /v1/jobs HTTP/1.1", JSON, "Content-Length: 500")
IDLE = "RFC 9112, 9.5: a server may close a connection on which nothing is asked, at any time"
DRIP_SECONDS = 0.5
GIVEN_SECONDS = 15
LATE_SECONDS = 10


@dataclass(frozen=True)
class Slow:
    """What is sent first, and then again and again; after 15 seconds in all there is this answer, and the end."""

    name: str
    begun: bytes
    piece: bytes
    status: int | None
    code: str | None = None
    answers_before: int = 0
    why: str = ""


ROWS = [
    Slow("a request line that drips", b"GET /", b"x", 408, "request-timeout"),
    Slow("a head that drips", b"GET /healthz HTTP/1.1\r\nHost: jobmill\r\nX: ", b"x", 408, "request-timeout"),
    Slow("headers that drip", b"GET /healthz HTTP/1.1\r\nHost: jobmill\r\n", b"X: x\r\n", 408, "request-timeout"),
    Slow("a head that stalls", b"GET /healthz HTTP/1.1\r\n", b"", 408, "request-timeout"),
    Slow("a second head that drips", request("GET /healthz HTTP/1.1"), b"G", 408, "request-timeout", answers_before=1),
    Slow("a body that drips", SUBMISSION, b" ", 400, "incomplete-body"),
    Slow("a body that stalls", SUBMISSION, b"", 400, "incomplete-body"),
    Slow("a body of nobody that drips", SUBMISSION.replace(b"@KEY@", b"jm_x"), b" ", 401, "unauthenticated"),
    Slow("chunks that drip", request("POST /v1/jobs HTTP/1.1", JSON, CHUNKED), b"1\r\nx\r\n", 411, "length-required"),
    Slow(
        "a body that waits to be asked for and stalls",
        request("POST /v1/jobs HTTP/1.1", JSON, "Expect: 100-continue", "Content-Length: 500"),
        b"",
        400,
        "incomplete-body",
    ),
    Slow("nothing", b"", b"", None, why=IDLE),
    Slow("nothing more", request("GET /healthz HTTP/1.1"), b"", None, answers_before=1, why=IDLE),
]


def suffered(row: Slow, wire: Wire, begun: bytes, done: "Future[tuple[float, Answer | None]]") -> None:
    """Send it until there is an answer or an end: tell after how long, and which."""
    try:
        done.set_result(_until_it_ends(row, wire, begun))
    except BaseException as error:  # noqa: BLE001 - to whoever waits for the result
        done.set_exception(error)


def _until_it_ends(row: Slow, wire: Wire, begun: bytes) -> tuple[float, Answer | None]:
    wire.send(begun)
    for _ in range(row.answers_before):
        assert wire.answer()
    began = time.monotonic()
    while not select.select([wire.socket], [], [], DRIP_SECONDS)[0]:
        assert time.monotonic() - began < GIVEN_SECONDS + LATE_SECONDS
        wire.send(row.piece)
    answer = wire.answer()
    while answer and answer.status < 200:
        answer = wire.answer()
    return time.monotonic() - began, answer
