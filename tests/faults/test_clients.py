"""Clients that send half of what they announced, or do not wait for the answer: a job is there whole, or not at all."""

import json
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.acceptance.installation import Embedded, Full, Installation, Json
from tests.acceptance.ledger import Ledger
from tests.faults.conftest import Install
from tests.faults.crashing import await_freeze, frozen, kill_family, let_time_pass, start_armed
from tests.faults.evidence import rows
from tests.faults.invariants import check

MODES = [Embedded.mode, Full.mode]
"""The same server, in processes and on a thread."""
RESET = struct.pack("ii", 1, 0)
ANSWERED_SECONDS = 5
CLIENTS = 50


@pytest.fixture(params=MODES)
def installation(request: pytest.FixtureRequest, install: Install) -> Installation:
    return install(request.param)


def keyed(installation: Installation) -> str:
    key = f"client-{secrets.token_hex(8)}"
    installation.asked.add(key)
    return key


def request_of(installation: Installation, body: Json, key: str) -> bytes:
    """A submission as it goes over the wire."""
    content = json.dumps(body).encode()
    head = [
        "POST /v1/jobs HTTP/1.1",
        f"Host: {urlsplit(installation.address).netloc}",
        f"Authorization: Bearer {installation.key}",
        "Content-Type: application/json",
        f"Idempotency-Key: {key}",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + content


@contextmanager
def connected(installation: Installation) -> Iterator[socket.socket]:
    parts = urlsplit(installation.address)
    with socket.create_connection((parts.hostname, parts.port), timeout=ANSWERED_SECONDS) as connection:
        yield connection


def keys(installation: Installation) -> list[str | None]:
    return [row.key for row in rows(installation)]


def post(installation: Installation, body: Json, key: str) -> httpx2.Response:
    return installation.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})


def again(installation: Installation, body: Json, key: str) -> Json:
    answer = post(installation, body, key)
    assert answer.status_code == 202, answer.text
    installation.accepted.append(answer.json())
    return answer.json()


@pytest.mark.fault("client-short-body", "the sending side closed at each of many places of a submission, both modes")
def test_a_body_cut_short_is_refused_and_leaves_nothing(installation: Installation, ledger: Ledger):
    body, key = {"type": "fault.quick", "args": ledger.args}, keyed(installation)
    whole = request_of(installation, body, key)
    head = whole.index(b"\r\n\r\n") + 4
    for kept in (head, head + 1, (head + len(whole)) // 2, len(whole) - 1):
        with connected(installation) as connection:
            connection.sendall(whole[:kept])
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while b"incomplete-body" not in answer:
                piece = connection.recv(65536)
                assert piece, (kept, answer)
                answer += piece
        assert answer.startswith(b"HTTP/1.1 400 "), (kept, answer)
        assert key not in keys(installation)
    check(installation, ledger, [again(installation, body, key)], faults=0)


@pytest.mark.fault("client-short-body", "the connection reset at each of many places of a submission, both modes")
def test_a_client_that_breaks_off_while_sending_leaves_nothing(installation: Installation, ledger: Ledger):
    body, key = {"type": "fault.quick", "args": ledger.args}, keyed(installation)
    whole = request_of(installation, body, key)
    for kept in range(20, len(whole), len(whole) // 12):
        with connected(installation) as connection:
            connection.sendall(whole[:kept])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    check(installation, ledger, [], faults=0)
    assert key not in keys(installation)
    check(installation, ledger, [again(installation, body, key)], faults=0)


@pytest.mark.fault("client-disconnects", "the connection reset at a random moment after a whole submission, both modes")
def test_a_client_that_leaves_before_the_answer_finds_its_job_under_its_key(installation: Installation, ledger: Ledger):
    body = {"type": "fault.quick", "args": ledger.args}
    left = [keyed(installation) for _ in range(30)]
    for number, key in enumerate(left):
        with connected(installation) as connection:
            connection.sendall(request_of(installation, body, key))
            time.sleep(0.001 * number)  # any moment will do; the ones that matter are certain in the test below
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    jobs = {key: again(installation, body, key)["id"] for key in left}
    recorded = [row for row in rows(installation) if row.key in jobs]
    assert {row.key: row.id for row in recorded} == jobs
    assert len(recorded) == len(left)
    check(installation, ledger, [{"id": job_id} for job_id in jobs.values()], faults=0)


@pytest.mark.fault(
    "client-disconnects",
    "the connection reset while the submission stands before its commit, and after it, both modes",
)
@pytest.mark.parametrize("point", ["submit.before_commit", "submit.after_commit"])
def test_one_that_leaves_while_its_submission_stands_at(installation: Installation, ledger: Ledger, point: str):
    body, key = {"type": "fault.quick", "args": ledger.args}, keyed(installation)
    server = installation.worker if installation.mode == Embedded.mode else installation.processes["api"]
    let_time_pass(installation, kill_family(server))
    reached = start_armed(server, f"{point}=stop")
    installation.wait_until_ready()
    with connected(installation) as connection:
        connection.sendall(request_of(installation, body, key))
        with frozen([await_freeze(installation, reached, point)]):
            assert unanswered(connection)
            assert (key in keys(installation)) == (point == "submit.after_commit")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
    installation.eventually(lambda: key in keys(installation))
    (recorded,) = [row.id for row in rows(installation) if row.key == key]
    assert again(installation, body, key)["id"] == recorded
    check(installation, ledger, [{"id": recorded}], faults=0)


def unanswered(connection: socket.socket) -> bool:
    """Whether nothing has come of the answer yet."""
    return not select.select([connection], [], [], 0)[0]


@pytest.mark.fault(
    "client-identical", "50 threads at once, the same key and body, again and again until each is answered"
)
def test_many_identical_submissions_at_once_are_one_job(installation: Installation, ledger: Ledger):
    body, key = {"type": "fault.quick", "args": ledger.args}, keyed(installation)

    def submit(_number: int) -> str:
        while (answer := post(installation, body, key)).status_code == httpx2.codes.CONFLICT:
            assert "idempotency-key-in-use" in answer.text
            time.sleep(0.05)
        assert answer.status_code == httpx2.codes.ACCEPTED, answer.text
        return str(answer.json()["id"])

    with ThreadPoolExecutor(CLIENTS) as clients:
        told = set(clients.map(submit, range(CLIENTS)))
    assert told == {row.id for row in rows(installation) if row.key == key}
    (job_id,) = told
    installation.accepted.append({"id": job_id})
    for name, held in installation.at_rest.items():  # a thread for each of so many, which the server keeps
        installation.at_rest[name] = replace(held, threads=held.threads + CLIENTS)
    check(installation, ledger, [{"id": job_id}], faults=0)
