"""Both HTTP servers over real sockets: what a body that is cut, too large or left unread does to its connection."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from cli import arrival, http_worker
from cli.http_worker import HttpWorker
from cli.serving import EmbeddedServer
from models.database import connect_sqlite
from tests.doors import JOBS, Caller, Doors, settings

MEBI = 1024 * 1024
JOB = b'{"type": "test.echo"}'
DEADLINE = 20
STALL_SECONDS = 2

GUNICORN = """
import sys
from pathlib import Path
from cli import arrival
from cli.serving import Gunicorn
from models.database import connect_sqlite
from tests.doors import Doors, settings

arrival.SECONDS = 2
chosen = settings(port=int(sys.argv[2]), api_threads=4, grace_seconds=int(sys.argv[3]))
Gunicorn(chosen, lambda: Doors(connect_sqlite(Path(sys.argv[1]), 8)).app).run()
"""


@dataclass
class Served:
    """A running server, a caller whose key it knows, and the database behind it."""

    port: int
    caller: Caller

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.caller.token}"}

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE)


@pytest.fixture(scope="module")
def doors(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    path = tmp_path_factory.mktemp("served") / "jobmill.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = connect_sqlite(path, 8)
    yield Doors(database)
    database.close()


def embedded(doors: Doors) -> Iterator[int]:
    patience = pytest.MonkeyPatch()
    patience.setattr(arrival, "SECONDS", STALL_SECONDS)
    server = EmbeddedServer(settings(port=0, api_threads=4), doors.app)
    address = server.listen()
    server.serve()
    yield int(address.rpartition(":")[2])
    server.stop()
    patience.undo()


def gunicorn(doors: Doors) -> Iterator[int]:
    process, port = start_gunicorn(doors)
    yield port
    process.send_signal(signal.SIGTERM)
    process.wait(DEADLINE)


def start_gunicorn(doors: Doors, grace_seconds: int = 1) -> tuple[subprocess.Popen[bytes], int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(GUNICORN), str(doors.database.path), str(port), str(grace_seconds)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )
    return process, port


def answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/healthz", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture(scope="module", params=[gunicorn, embedded], ids=["processes", "thread"])
def served(request: pytest.FixtureRequest, doors: Doors, eventually: Callable[..., Any]) -> Iterator[Served]:
    life = request.param(doors)
    port = next(life)
    eventually(lambda: answers(port), within_seconds=DEADLINE)
    yield Served(port, doors.caller())
    assert next(life, None) is None


@pytest.fixture(autouse=True)
def before(doors: Doors) -> int:
    """How many jobs there were before the test."""
    return doors.count_jobs()


def head(served: Served, *headers: str, method: str = "POST", path: str = JOBS, key: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: jobmill", "Content-Type: application/json", *headers]
    if key:
        lines.append(f"Authorization: Bearer {served.caller.token}")
    return "\r\n".join([*lines, "", ""]).encode()


class Answers:
    """Reads answers off a connection, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self.stream = connection.makefile("rb")

    def close(self) -> None:
        """Let go of the connection, which would stay open for the stream's sake."""
        self.stream.close()

    def next(self) -> tuple[int, Any] | None:
        """Status and document of the next answer; None if the connection is closed instead."""
        try:
            line = self.stream.readline()
        except ConnectionError:
            return None
        if not line:
            return None
        headers = {}
        while (header := self.stream.readline().strip()) != b"":
            name, _, content = header.partition(b":")
            headers[name.lower()] = content.strip()
        body = self.stream.read(int(headers[b"content-length"]))
        return int(line.split()[1]), json.loads(body) if b"json" in headers[b"content-type"] else body.decode()


# Bodies that end too early


def test_a_body_that_is_cut_is_never_stored(served: Served, doors: Doors, before: int):
    with served.connect() as connection:
        connection.sendall(head(served, "Content-Length: 500") + JOB)
        connection.shutdown(socket.SHUT_WR)
        answer = Answers(connection).next()
    assert answer is None or (answer[0], answer[1]["code"]) == (400, "incomplete-body")
    assert doors.count_jobs() == before


def test_a_client_that_vanishes_in_mid_body_leaves_nothing_and_blocks_nobody(served: Served, before: int, doors: Doors):
    for _ in range(12):  # three times as many as there are threads
        connection = served.connect()
        connection.sendall(head(served, "Content-Length: 500") + JOB)
        # Reset instead of an orderly end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()
    assert (
        httpx2.post(f"{served.url}{JOBS}", json={"type": "test.echo"}, headers=served.authorization).status_code == 202
    )
    assert doors.count_jobs() == before + 1


def test_a_chunked_body_is_refused_whether_it_ends_or_not(served: Served, doors: Doors, before: int):
    chunk = b"%x\r\n%s\r\n" % (len(JOB), JOB)
    for end in (b"0\r\n\r\n", b"", b"zz\r\n"):
        with served.connect() as connection:
            connection.sendall(head(served, "Transfer-Encoding: chunked") + chunk + end)
            if end != b"0\r\n\r\n":
                connection.shutdown(socket.SHUT_WR)
            answer = Answers(connection).next()
            assert answer is None or answer[0] in {400, 411}
    assert doors.count_jobs() == before


# Bodies that are too large


def large(served: Served) -> httpx2.Response:
    body = b'{"type": "test.echo", "args": {"value": "%s"}}' % (b"x" * 2 * MEBI)
    return httpx2.post(
        f"{served.url}{JOBS}",
        content=body,
        headers={**served.authorization, "Content-Type": "application/json"},
        timeout=DEADLINE,
    )


def test_an_ordinary_client_reads_why_its_large_body_is_refused(served: Served, doors: Doors, before: int):
    for _ in range(10):  # a reset that overtakes the answer would show now and then only
        answer = large(served)
        assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert doors.count_jobs() == before


def test_curl_reads_why_its_large_body_is_refused(served: Served, tmp_path: Path):
    file = tmp_path / "large.json"
    file.write_bytes(b'{"type": "test.echo", "args": {"value": "%s"}}' % (b"x" * 2 * MEBI))
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "-w",
            "\n%{http_code}",
            "-H",
            "Content-Type: application/json",
            "-H",
            f"Authorization: Bearer {served.caller.token}",
            "--data-binary",
            f"@{file}",
            f"{served.url}{JOBS}",
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    document, _, status = done.stdout.rpartition("\n")
    assert (status, json.loads(document)["code"]) == ("413", "body-too-large")


def test_a_body_without_end_is_not_read_to_the_end(served: Served):
    sent = 0
    with served.connect() as connection:
        connection.sendall(head(served, f"Content-Length: {1024 * MEBI}", key=False))
        try:
            while sent < 256 * MEBI:
                connection.sendall(b" " * MEBI)
                sent += MEBI
        except ConnectionError:
            pass
    assert sent < 256 * MEBI


# What follows on the same connection

EARLY = {
    "no key": ({"key": False}, 401),
    "an unknown address": ({"path": "/v1/nothing"}, 404),
    "an unknown job": ({"path": f"{JOBS}/none/cancel"}, 404),
    "a wrong method": ({"method": "PUT"}, 405),
    "a GET with a body": ({"method": "GET"}, 200),
    "a page with a body": ({"method": "GET", "path": "/healthz", "key": False}, 200),
}


@pytest.mark.parametrize(("asked", "status"), EARLY.values(), ids=EARLY.keys())
@pytest.mark.parametrize("size", [len(JOB), 100_000, MEBI])
def test_an_unread_body_is_not_taken_for_the_next_request(
    served: Served, doors: Doors, before: int, asked: dict[str, Any], status: int, size: int
):
    # The body looks like a request itself: a server that goes on at the wrong place would answer it.
    smuggled = head(served, "Content-Length: 21") + JOB
    body = smuggled * (size // len(smuggled)) + b" " * (size % len(smuggled))
    with served.connect() as connection:
        connection.sendall(head(served, f"Content-Length: {len(body)}", **asked) + body)
        replies = Answers(connection)
        first = replies.next()
        assert first is not None
        assert first[0] == status
        connection.sendall(head(served, method="GET", path="/v1/job-types/test.echo"))
        second = replies.next()
    assert second is not None, "the connection was closed although all of the body had been read"
    assert (second[0], second[1]["type"]) == (200, "test.echo")
    assert doors.count_jobs() == before


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (("Content-Length: 2",), b"{}", 400),
        (("Content-Length: 1",), b"{", 400),
    ],
)
def test_a_connection_goes_on_after_a_refused_body(served: Served, headers: tuple[str, ...], body: bytes, status: int):
    with served.connect() as connection:
        replies = Answers(connection)
        for _ in range(3):
            connection.sendall(head(served, *headers) + body)
            refused = replies.next()
            assert refused is not None
            assert refused[0] == status
            connection.sendall(head(served, f"Content-Length: {len(JOB)}") + JOB)
            accepted = replies.next()
            assert accepted is not None
            assert (accepted[0], accepted[1]["type"]) == (202, "test.echo")


def test_a_connection_ends_after_a_body_in_chunks_and_nothing_behind_it_is_read(
    served: Served, doors: Doors, before: int
):
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(JOB), JOB)
    with served.connect() as connection:
        follower = head(served, f"Content-Length: {len(JOB)}") + JOB
        connection.sendall(head(served, "Transfer-Encoding: chunked") + body + follower)
        replies = Answers(connection)
        refused = replies.next()
        assert refused is not None
        assert (refused[0], refused[1]["code"]) == (411, "length-required")
        assert replies.next() is None
    assert doors.count_jobs() == before


def test_requests_sent_all_at_once_are_answered_in_turn(served: Served, doors: Doors, before: int):
    one = head(served, f"Content-Length: {len(JOB)}") + JOB
    refused = head(served, f"Content-Length: {len(JOB)}", key=False) + JOB
    with served.connect() as connection:
        connection.sendall(one + refused + one + refused)
        replies = Answers(connection)
        told = [replies.next() for _ in range(4)]
    assert [answer and answer[0] for answer in told] == [202, 401, 202, 401]
    assert doors.count_jobs() == before + 2


# Slow clients


def test_clients_that_are_slow_to_send_do_not_keep_others_from_writing(served: Served, doors: Doors, before: int):
    slow = [served.connect() for _ in range(3)]  # there are four threads
    for connection in slow:
        connection.sendall(head(served, f"Content-Length: {len(JOB)}") + JOB[:5])
    done = threading.Event()

    def submit() -> None:
        headers = served.authorization
        assert httpx2.post(f"{served.url}{JOBS}", json={"type": "test.echo"}, headers=headers).status_code == 202
        done.set()

    other = threading.Thread(target=submit)
    other.start()
    assert done.wait(4)
    other.join()
    for connection in slow:
        connection.sendall(JOB[5:])
        answer = Answers(connection).next()
        assert answer is not None
        assert answer[0] == 202
        connection.close()
    assert doors.count_jobs() == before + 4


def test_clients_that_stall_are_let_go(served: Served, doors: Doors, before: int):
    stalled = [served.connect() for _ in range(4)]  # all the threads there are
    for connection in stalled:
        connection.sendall(head(served, f"Content-Length: {len(JOB)}") + JOB[:5])
    headers = served.authorization
    accepted = httpx2.post(f"{served.url}{JOBS}", json={"type": "test.echo"}, headers=headers, timeout=DEADLINE)
    assert accepted.status_code == 202
    for connection in stalled:
        answer = Answers(connection).next()
        assert answer is None or (answer[0], answer[1]["code"]) == (400, "incomplete-body")
        connection.close()
    assert doors.count_jobs() == before + 1


def drip(served: Served, begun: bytes, piece: bytes) -> tuple[float, tuple[int, Any] | None]:
    """Send the one, then the other every fifth of a second until there is an answer: after how long, and which."""
    with served.connect() as connection:
        connection.sendall(begun)
        began, replies = time.monotonic(), Answers(connection)
        while not select.select([connection], [], [], 0.2)[0]:
            assert time.monotonic() - began < DEADLINE
            connection.sendall(piece)
        return time.monotonic() - began, replies.next()


def test_a_body_that_drips_is_given_up_in_its_time_as_a_whole(served: Served, doors: Doors, before: int):
    took, answer = drip(served, head(served, "Content-Length: 500"), b" ")
    assert answer is not None
    assert (answer[0], answer[1]["code"]) == (400, "incomplete-body")
    assert STALL_SECONDS - 0.5 < took < STALL_SECONDS + 3
    assert doors.count_jobs() == before


def test_a_head_that_drips_is_given_up_in_its_time_as_a_whole(served: Served):
    took, answer = drip(served, b"GET /healthz HTTP/1.1\r\nHost: jobmill\r\nX-A: ", b"a")
    assert answer is not None
    assert (answer[0], answer[1]["code"]) == (408, "request-timeout")
    assert STALL_SECONDS - 0.5 < took < STALL_SECONDS + 3


def test_clients_that_do_not_close_what_is_over_hold_nobody_up(served: Served):
    idle = [served.connect() for _ in range(4)]
    for connection in idle:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: jobmill\r\nConnection: close\r\n\r\n")
        answer = Answers(connection).next()
        assert answer is not None
        assert answer[0] == 200
    began = time.monotonic()
    assert httpx2.get(f"{served.url}/healthz", timeout=DEADLINE).status_code == 200
    took = time.monotonic() - began
    for connection in idle:
        connection.close()
    assert took < 1


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "+2", "0x15", "21, 21", "99999999999999999999999"])
def test_a_length_that_is_none_is_refused(served: Served, doors: Doors, before: int, length: str):
    with served.connect() as connection:
        connection.sendall(head(served, f"Content-Length: {length}") + JOB)
        connection.shutdown(socket.SHUT_WR)
        answer = Answers(connection).next()
    assert answer is None or 400 <= answer[0] < 500
    assert doors.count_jobs() == before


def test_an_address_may_be_as_long_as_its_parameters_allow(served: Served):
    types = "&".join(f"type={'%C3%A9' * 60}{number}" for number in range(20))
    answer = httpx2.get(f"{served.url}{JOBS}?{types}", headers=served.authorization, timeout=DEADLINE)
    assert len(answer.request.url.raw_path) > 7000
    assert (answer.status_code, answer.json()) == (200, {"data": [], "next_cursor": None})


def asking(port: int, how_many: int) -> list[socket.socket]:
    """Clients that have sent a request each, on connections that the kernel has taken and nobody else yet."""
    clients = [socket.create_connection(("127.0.0.1", port), DEADLINE) for _ in range(how_many)]
    for client in clients:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return clients


def all_are_answered(clients: list[socket.socket]) -> bool:
    begun = [client.recv(15) for client in clients]
    for client in clients:
        client.close()
    return set(begun) == {b"HTTP/1.1 200 OK"}


def is_pending(pid: int, number: int) -> bool:
    """Whether a signal waits for a process that stands still."""
    status = Path(f"/proc/{pid}/status").read_text()
    return any(
        int(mask, 16) >> (number - 1) & 1 for mask in re.findall(r"^(?:Sig|Shd)Pnd:\t(\w+)", status, re.MULTILINE)
    )


def test_who_has_connected_when_the_processes_are_told_to_stop_is_answered(
    doors: Doors, eventually: Callable[..., Any]
):
    server, port = start_gunicorn(doors, grace_seconds=10)  # or it might be killed before it goes on
    eventually(lambda: answers(port), within_seconds=DEADLINE)
    (serving,) = psutil.Process(server.pid).children()
    serving.suspend()
    clients = asking(port, 20)
    server.send_signal(signal.SIGTERM)
    eventually(lambda: is_pending(serving.pid, signal.SIGTERM))
    serving.resume()
    assert all_are_answered(clients)
    assert server.wait(DEADLINE) == 0


def test_who_has_connected_when_the_thread_is_told_to_stop_is_answered(doors: Doors):
    server = EmbeddedServer(settings(port=0, api_threads=4), doors.app)
    clients = asking(int(server.listen().rpartition(":")[2]), 20)
    server.stop()
    assert all_are_answered(clients)


# Connections that are kept

ASK = b"GET /healthz HTTP/1.1\r\nHost: jobmill\r\n\r\n"


@contextmanager
def connected(address: str) -> Iterator[Callable[[int], None]]:
    """A connection; `ask(n)` sends so many requests at once, and returns when all are answered."""
    port = int(address.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE) as connection,
        closing(Answers(connection)) as answers,
    ):

        def ask(times: int = 1) -> None:
            connection.sendall(times * ASK)
            for _ in range(times):
                answer = answers.next()
                assert answer is not None
                assert answer[0] == 200

        yield ask


@contextmanager
def serving(doors: Doors, **given: Any) -> Iterator[tuple[str, HttpWorker]]:
    """An embedded server of its own: its address, and what serves."""
    server = EmbeddedServer(settings(port=0, **given), doors.app)
    address, worker = server.listen(), server.worker
    assert worker is not None
    server.serve()
    try:
        yield address, worker
    finally:
        server.stop()


@pytest.mark.parametrize(("is_busy", "handed_out"), [(True, 0), (False, 3)], ids=["busy", "at rest"])
def test_who_asks_again_at_once_keeps_his_thread_and_who_rests_gives_it_back(
    doors: Doors,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
    is_busy: bool,
    handed_out: int,
):
    times: list[str] = []
    take = HttpWorker.on_client_socket_readable

    def told(self: HttpWorker, *given: Any) -> None:
        times.append("again")
        take(self, *given)

    monkeypatch.setattr(http_worker, "AT_ONCE_SECONDS", DEADLINE if is_busy else 0)
    monkeypatch.setattr(HttpWorker, "on_client_socket_readable", told)
    with serving(doors, api_threads=4) as (address, worker), connected(address) as ask:
        for _ in range(4):
            ask(2 if is_busy else 1)
            if not is_busy:
                eventually(lambda: worker.keepalived_conns)
        assert len(times) == handed_out


def test_busy_clients_leave_half_of_the_threads_to_others(doors: Doors, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_worker, "AT_ONCE_SECONDS", DEADLINE)
    with serving(doors, api_threads=2, api_waiting=0) as (address, _), ExitStack() as connections:
        for _ in range(2):
            first, second, third = (connections.enter_context(connected(address)) for _ in range(3))
            for ask in (first, second, third, second, third):  # each is answered, while the first keeps a thread
                ask(1)
