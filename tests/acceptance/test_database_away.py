"""PostgreSQL away in each of the ways it can be: every request is told within a second, and none has to be mended."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import httpx2
import psutil
import psycopg
import pytest

from tests.acceptance.installation import Full
from tests.acceptance.private_services import PrivatePostgresql
from tests.proxy import Proxy

TOLD_SECONDS = 1.0
READY_SECONDS = 2.0
BACK_SECONDS = 10.0
AT_ONCE = 12
THREADS = 8
TRANSACTIONS = THREADS // 2
"""So many connections of an API process serve what takes several statements."""
BODY = {"type": "demo.echo", "args": {"value": 1}}


class Doors(Full):
    """The API alone, over a PostgreSQL of its own that is reached through a proxy."""

    def __init__(self, postgresql: PrivatePostgresql, proxy: Proxy, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.postgresql = postgresql
        self.proxy = proxy
        self.processes = {"api": self.processes["api"]}

    def start(self) -> None:
        self.prepare()
        self.processes["api"].start()
        self.eventually(self.ready, 40)

    def ready(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False

    def ask(self, method: str = "POST", path: str = "/v1/jobs") -> tuple[httpx2.Response, float]:
        """An answer, and the seconds it took."""
        began = time.monotonic()
        answer = self.client.request(method, path, json=BODY if (method, path) == ("POST", "/v1/jobs") else None)
        return answer, time.monotonic() - began

    def ask_many(self) -> list[tuple[httpx2.Response, float]]:
        asked = [
            ("POST", "/v1/jobs"),
            ("GET", "/v1/jobs"),
            ("POST", "/v1/jobs/00000000-0000-0000-0000-000000000000/cancel"),
        ]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return [one.result() for one in [threads.submit(self.ask, *asked[n % 3]) for n in range(AT_ONCE)]]

    def accepts(self) -> bool:
        return self.ask()[0].status_code == httpx2.codes.ACCEPTED


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory, eventually: Callable[..., Any]) -> Iterator[Doors]:
    with ExitStack() as stack:
        postgresql = PrivatePostgresql(eventually)
        stack.callback(postgresql.remove)
        postgresql.start()
        proxy = Proxy(postgresql.url)
        stack.callback(proxy.close)
        folder = tmp_path_factory.mktemp("away")
        settings = {"DATABASE_URL": proxy.url, "JOBMILL_API_THREADS": str(THREADS)}
        yield stack.enter_context(Doors(postgresql, proxy, folder, eventually, settings))


@contextmanager
def stopped(doors: Doors) -> Iterator[None]:
    """Nobody listens any more."""
    doors.postgresql.stop()
    try:
        yield
    finally:
        doors.postgresql.start()


def swallowed(doors: Doors) -> AbstractContextManager[None]:
    """Whatever is sent is taken and goes nowhere, that of new connections too; the old ones stay half-open for ever."""
    return doors.proxy.black_hole()


def held_back(doors: Doors) -> AbstractContextManager[None]:
    """Nothing arrives, until later."""
    return doors.proxy.frozen()


@contextmanager
def backends_frozen(doors: Doors) -> Iterator[None]:
    """Those that serve connections have them still, and do nothing."""
    with frozen(client_backends(doors)):
        yield


@contextmanager
def server_frozen(doors: Doors) -> Iterator[None]:
    """The whole server: the kernel still takes connections for it."""
    assert doors.postgresql.process is not None
    whole = psutil.Process(doors.postgresql.process.pid)
    with frozen([whole.pid, *(child.pid for child in whole.children())]):
        yield


def client_backends(doors: Doors) -> list[int]:
    with psycopg.connect(doors.postgresql.url) as connection:
        found = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'jobmill%'")
        return [pid for (pid,) in found]


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.timed
@pytest.mark.parametrize("away", [stopped, swallowed, held_back, server_frozen])
def test_whoever_asks_is_told_within_a_second_and_everything_goes_on_by_itself(
    doors: Doors,
    away: Callable[[Doors], AbstractContextManager[None]],
    record_property: Callable[[str, object], None],
):
    doors.eventually(doors.accepts, BACK_SECONDS)
    assert all(answer.status_code < 500 for answer, _ in doors.ask_many())
    pid = doors.processes["api"].pid
    with away(doors):
        slowest = 0.0
        for _ in range(4):  # the first meet the fault, the others a process that knows of it
            answers = doors.ask_many()
            slowest = max(slowest, *(seconds for _, seconds in answers))
            for answer, _ in answers:
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
        assert slowest < TOLD_SECONDS
        answer, seconds = doors.ask("GET", "/healthz")
        assert (answer.status_code, seconds < TOLD_SECONDS) == (200, True)
        doors.eventually(lambda: not doors.ready(), READY_SECONDS)
        answer, seconds = doors.ask("GET", "/readyz")
        assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "down")
        assert seconds < READY_SECONDS
    began = time.monotonic()
    doors.eventually(doors.accepts, BACK_SECONDS)
    record_property("told_seconds", round(slowest, 2))
    record_property("back_seconds", round(time.monotonic() - began, 2))
    assert all(answer.status_code < 500 for answer, _ in doors.ask_many())
    doors.eventually(doors.ready, BACK_SECONDS)
    assert doors.processes["api"].pid == pid
    assert doors.processes["api"].alive


def test_backends_that_are_frozen_are_left_for_new_ones(doors: Doors):
    doors.eventually(doors.accepts, BACK_SECONDS)
    doors.ask_many()
    with backends_frozen(doors):
        answer, seconds = doors.ask()  # alone, so that it gets a connection that was there before
        assert (answer.status_code, seconds < TOLD_SECONDS) == (503, True)
        doors.eventually(doors.accepts, BACK_SECONDS)  # on a connection made meanwhile
    assert doors.accepts()


@pytest.mark.timed
@pytest.mark.fault("postgresql-pool-exhausted", "requests that wait for a row's lock hold every connection of the API")
def test_when_every_connection_is_taken_the_next_is_told_within_a_second_and_others_are_served(doors: Doors):
    doors.eventually(doors.accepts, BACK_SECONDS)
    job_id = doors.ask()[0].json()["id"]
    with ExitStack() as stack:
        holder = stack.enter_context(psycopg.connect(doors.postgresql.url))
        holder.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", [job_id])
        threads = stack.enter_context(ThreadPoolExecutor(TRANSACTIONS))
        waiting = [threads.submit(doors.ask, "POST", f"/v1/jobs/{job_id}/cancel") for _ in range(TRANSACTIONS)]
        doors.eventually(lambda: waits_for_locks(doors) == TRANSACTIONS)
        answer, seconds = doors.ask("POST", f"/v1/jobs/{job_id}/cancel")
        assert (answer.status_code, seconds < TOLD_SECONDS) == (503, True)
        for answer, seconds in (doors.ask(), doors.ask("GET"), doors.ask("GET", "/readyz")):
            assert (answer.status_code < 300, seconds < TOLD_SECONDS) == (True, True)
        holder.rollback()
        # A wait that is only long is no silence: whoever waited for the lock is served once it is let go.
        assert {one.result()[0].status_code for one in waiting} <= {202, 409}


def waits_for_locks(doors: Doors) -> int:
    with psycopg.connect(doors.postgresql.url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
        return found[0] if found else 0
