"""A rolling restart, as docs/operate.md describes an upgrade: two of each kind, restarted one after the other under
load. A client that tries again where no connection was to be had sees no request fail, and no job waits for it.
"""

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

import httpx2
import pytest

from tests.acceptance.installation import Full, Installation
from tests.acceptance.ledger import Ledger
from tests.acceptance.process import Process, free_port
from tests.faults import figures
from tests.faults.beside import beside
from tests.faults.conftest import Install
from tests.faults.invariants import check
from tests.faults.test_signals import children

pytestmark = pytest.mark.timed

RATE = 20
RUN_SECONDS = 0.1
DELAYED_AT_MOST = 1.0
READY_WITHIN = 30
PATIENCE_SECONDS = 10
UNANSWERED = 10
"""How often the API is asked again where nobody listened, before that counts as a failure."""
SLOWEST_ANSWER = 3.0


class Clients:
    """Submit at a steady rate, to either address in turn; where nobody listens, to the other under the same key."""

    def __init__(self, installation: Installation, addresses: list[str], body: Any) -> None:
        self.accepted: list[Any] = []
        self.failed: list[str] = []
        self.again = 0
        self.slowest = 0.0
        self._installation, self._addresses, self._body = installation, addresses, body
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[number]) for number in range(len(addresses))]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS + READY_WITHIN)

    def _run(self, first: int) -> None:
        turn = first
        while not self._over.wait(len(self._addresses) / RATE):
            turn += 1
            began = time.monotonic()
            self._submit(turn)
            self.slowest = max(self.slowest, time.monotonic() - began)

    def _submit(self, turn: int) -> None:
        key = f"rolling-{secrets.token_hex(12)}"
        self._installation.asked.add(key)
        for attempt in range(UNANSWERED):
            try:
                answer = self._post(self._addresses[(turn + attempt) % len(self._addresses)], key)
            except httpx2.ConnectError:
                self.again += 1
                continue
            except httpx2.TransportError as error:  # it was taken, and dropped
                self.failed.append(repr(error))
                return
            if answer.status_code == httpx2.codes.ACCEPTED:
                self._installation.accepted.append(answer.json())
                self.accepted.append(answer.json())
            else:
                self.failed.append(answer.text)
            return
        self.failed.append("no answer")

    def _post(self, address: str, key: str) -> httpx2.Response:
        headers = {"Idempotency-Key": key, "Authorization": f"Bearer {self._installation.key}"}
        with httpx2.Client(base_url=address, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False) as client:
            return client.post("/v1/jobs", json=self._body)


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.fault("rolling-restart", "SIGTERM and a new start, for two of each kind one after the other, 20 jobs/s")
def test_a_rolling_restart_fails_no_request_and_delays_no_job(install: Install, ledger: Ledger):
    full = install(Full.mode)
    port = free_port()
    with ExitStack() as stack:
        for kind, more in {"api": {"PORT": str(port)}, "worker": {}, "dispatcher": {}}.items():
            stack.enter_context(beside(full, kind, **more))
        addresses = [full.address, f"http://127.0.0.1:{port}"]
        _await_both(full, addresses)
        body = {"type": "fault.sleep", "args": ledger.args | {"seconds": RUN_SECONDS}}
        with Clients(full, addresses, body) as clients:
            full.eventually(lambda: len(ledger.ends()) > RATE)
            said = {name: len(process.words) for name, process in full.processes.items()}
            for name, address in zip(("api", "api-2"), addresses, strict=True):
                _restart(full, full.processes[name], lambda: _answers(address))  # noqa: B023 - called at once
            for name in ("worker", "worker-2", "dispatcher", "dispatcher-2"):
                _restart(full, full.processes[name], _there_again(full, full.processes[name]))
            done = len(ledger.ends())
            full.eventually(lambda: len(ledger.ends()) > done + RATE)
        _judge(full, ledger, clients)
        assert all(len(full.processes[name].words) > length for name, length in said.items())


def _restart(full: Installation, process: Process, there: Callable[[], Any]) -> None:
    process.ask_to_end()
    assert process.wait() == 0
    process.start()
    full.eventually(there, READY_WITHIN)


def _answers(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/readyz", trust_env=False).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


def _there_again(full: Installation, process: Process) -> Callable[[], Any]:
    if process.name == "worker":
        return lambda: children(full, process)
    said = len(process.words)
    return lambda: '"publisher_connected"' in process.words[said:]


def _await_both(full: Installation, addresses: list[str]) -> None:
    full.eventually(lambda: all(_answers(address) for address in addresses), READY_WITHIN)
    for name in ("worker", "worker-2"):
        full.eventually(_there_again(full, full.processes[name]), READY_WITHIN)
    full.eventually(lambda: '"publisher_connected"' in full.processes["dispatcher-2"].words, READY_WITHIN)


def _judge(full: Installation, ledger: Ledger, clients: Clients) -> None:
    assert clients.failed == []
    known = check(full, ledger, clients.accepted, faults=0)
    assert {(row.state, row.attempt, row.lost) for row in known.rows_of_test()} == {("succeeded", 1, 0)}
    ((delay, whole),) = full.sql(
        "SELECT max(extract(epoch FROM started_at - due_at)), max(extract(epoch FROM finished_at - due_at))"
        " FROM jobs WHERE type = 'fault.sleep'"
    )
    figures.keep("rolling-restart", "requests sent again to the other API", clients.again, "requests")
    figures.keep("rolling-restart", "slowest answer", clients.slowest, "s")
    figures.keep("rolling-restart", "longest wait of a job for its start", float(delay), "s")
    assert delay < DELAYED_AT_MOST
    assert whole < RUN_SECONDS + DELAYED_AT_MOST
    assert clients.slowest < SLOWEST_ANSWER
