"""Clients that wait, over real sockets and on both servers."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.serving import EmbeddedServer
from models.database import connect_sqlite
from models.states import State
from tests.doors import JOBS, Caller, Doors, settings
from tests.factories import job_in

DEADLINE = 20.0

GUNICORN = """
import sys
from pathlib import Path
from api import following
from cli.serving import Gunicorn
from models.database import connect_sqlite
from tests.doors import Doors, settings

following.STALL_SECONDS = 1
chosen = settings(port=int(sys.argv[2]), api_threads=2, api_waiting=4, grace_seconds=20)
Gunicorn(chosen, lambda: Doors(connect_sqlite(Path(sys.argv[1]), 8), api_threads=2, api_waiting=4).app).run()
"""


class Server:
    """A running server; `stop` gives how long it took to end."""

    def __init__(self, port: int, caller: Caller, stop: Callable[[], None]) -> None:
        self.port = port
        self.caller = caller
        self._stop = stop

    def get(self, path: str, **headers: str) -> httpx2.Response:
        sent = {"Authorization": f"Bearer {self.caller.token}", **headers}
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}", headers=sent, timeout=60, trust_env=False)

    def stop(self) -> float:
        began = time.monotonic()
        self._stop()
        return time.monotonic() - began


@pytest.fixture
def doors(sqlite_path: Path) -> Iterator[Doors]:
    database = connect_sqlite(sqlite_path, 8)
    yield Doors(database, api_threads=2, api_waiting=4)
    database.close()


@pytest.fixture(params=["processes", "thread"])
def server(request: pytest.FixtureRequest, doors: Doors, eventually: Any) -> Iterator[Server]:
    made: Server = _gunicorn(doors) if request.param == "processes" else _embedded(doors)
    eventually(lambda: _answers(made), within_seconds=DEADLINE)
    yield made
    made.stop()


def _answers(server: Server) -> bool:
    try:
        return server.get("/healthz").status_code == 200
    except httpx2.TransportError:
        return False


def _gunicorn(doors: Doors) -> Server:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", GUNICORN, str(doors.database.path), str(port)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )

    def stop() -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE)

    return Server(port, doors.caller(), stop)


def _embedded(doors: Doors) -> Server:
    running = EmbeddedServer(settings(port=0, api_threads=2, api_waiting=4), doors.app)
    address = running.listen()
    running.serve()
    return Server(int(address.rpartition(":")[2]), doors.caller(), running.stop)


def plant(doors: Doors, server: Server, **columns: Any) -> str:
    planted = doors.database.run(
        lambda session: job_in(session, State.RUNNING, tenant_id=server.caller.tenant_id, **columns)
    )
    return f"{JOBS}/{planted.id}"


def test_a_server_that_stops_answers_those_that_wait(server: Server, doors: Doors) -> None:
    path = plant(doors, server)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(server.get, path, Prefer="wait=60")
        reading = pool.submit(server.get, f"{path}/stream")
        time.sleep(0.5)  # so that they surely wait; were they late, they would be answered at once as well

        took = server.stop()

        assert waiting.result(5).json()["state"] == "running"
        assert "event: job" in reading.result(5).text
    # Neither the grace period of 20 s nor the wait of 60; a connection without a request alone may cost gunicorn 5.
    assert took < 15


def test_more_clients_may_wait_than_requests_are_served_at_once(server: Server, doors: Doors) -> None:
    path = plant(doors, server)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(server.get, path, Prefer="wait=3") for _ in range(4)]
        time.sleep(0.5)
        began = time.monotonic()
        assert server.get(path).status_code == 200
        assert time.monotonic() - began < 2
        assert not any(one.done() for one in waiting)
        assert {one.result(10).headers.get("Preference-Applied") for one in waiting} == {"wait=3"}
