"""`jobmill webhooks listen` as a process, and what its server makes of requests that are none of Jobmill's."""

import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from cli import webhooks_listen
from cli.received import Receiver
from cli.webhooks_listen import MOST_BYTES, Listener
from jobs import signing

JOBMILL = Path(sys.executable).parent / "jobmill"
DEADLINE = 30
BODY = json.dumps({"type": "job.dead", "data": {"id": "a", "state": "dead"}}).encode()
SECRET, OLD = signing.new_secret(), signing.new_secret()


def headers(body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    return signing.headers([secret], "evt_1", int(time.time()), body)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener(0, Receiver([SECRET])) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def said(listener: Listener, request: bytes) -> bytes:
    """What it answers to these bytes, after which nothing more is sent."""
    with socket.create_connection(("127.0.0.1", listener.server_port), DEADLINE) as peer:
        peer.sendall(request)
        peer.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: peer.recv(64 * 1024), b""))


def test_it_verifies_prints_a_line_for_each_event_and_ends_by_ctrl_c(tmp_path: Path):
    process = subprocess.Popen(
        [JOBMILL, "webhooks", "listen", "--port", "0", "--fail", "1"],
        env={"JOBMILL_WEBHOOK_SECRET": f"{SECRET} {OLD}"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        url = process.stderr.readline().split()[2]
        signers = [SECRET, OLD, signing.new_secret()]
        codes = [httpx2.post(url, content=BODY, headers=headers(secret=secret)).status_code for secret in signers]
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=DEADLINE)
    assert codes == [500, 204, 401]
    told = [line.split(maxsplit=1)[1] for line in stdout.splitlines()]
    assert told == [
        "job.dead  evt_1  a  dead  answered 500",
        "job.dead  evt_1  a  dead",
        "refused with 401: No signature in it was made with this secret over these bytes.",
    ]
    assert (process.returncode, stderr) == (0, "Stopped.\n")


def test_a_port_that_is_taken_is_said_to_be(listener: Listener, tmp_path: Path):
    done = subprocess.run(
        [JOBMILL, "webhooks", "listen", "--port", str(listener.server_port)],
        env={"JOBMILL_WEBHOOK_SECRET": SECRET},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    assert "already in use. Choose another --port." in done.stderr


@pytest.mark.parametrize(("length", "status"), [(MOST_BYTES, 204), (MOST_BYTES + 1, 413)], ids=["just", "over"])
def test_a_body_may_have_a_mebibyte(listener: Listener, length: int, status: int):
    body = b" " * length
    answer = httpx2.post(f"http://127.0.0.1:{listener.server_port}/", content=body, headers=headers(body))
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 411),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nabc", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 401),
        (b"GET / HTTP/1.1\r\n\r\n", 501),
    ],
    ids=["none", "negative", "two", "chunked", "cut", "huge", "unsigned", "get"],
)
def test_what_is_no_event_is_refused(listener: Listener, request_: bytes, status: int):
    assert said(listener, request_).split(b"\r\n")[0].split()[1] == str(status).encode()


def test_who_sends_too_slowly_holds_no_thread(listener: Listener, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webhooks_listen, "READING_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", listener.server_port), DEADLINE) as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        while not select.select([peer], [], [], 0.1)[0]:
            peer.sendall(b"x")
        assert peer.recv(1024).startswith(b"HTTP/1.1 408")
