"""The API's server is killed while clients hold connections to its processes: the next one serves at once."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psutil
import pytest

from tests.acceptance.installation import Full, Installation, metrics_port
from tests.acceptance.ledger import Ledger
from tests.faults.conftest import Install
from tests.faults.crashing import is_gone
from tests.faults.figures import keep
from tests.faults.invariants import check
from tests.faults.load import Load

pytestmark = pytest.mark.timed

BACK_SECONDS = 10.0
"""Most of it is the start of a process on a busy machine."""
MOST_CLIENTS = 64
"""Whoever accepts first has the connection, and keeps it: among so many there is one for each process."""


@contextmanager
def asking(installation: Installation, enough: Callable[[], bool]) -> Iterator[None]:
    """Clients who keep their connections and ask again at once, whatever comes of it: one more until it is `enough`."""
    over = threading.Event()

    def ask(answered: threading.Event) -> None:
        with httpx2.Client(base_url=installation.address, timeout=20, trust_env=False) as client:
            while not over.wait(0.02):
                try:
                    client.get("/healthz")
                except httpx2.TransportError:
                    continue
                answered.set()

    threads: list[threading.Thread] = []
    try:
        while not enough():
            assert len(threads) < MOST_CLIENTS
            answered = threading.Event()
            threads.append(threading.Thread(target=ask, args=[answered]))
            threads[-1].start()
            assert answered.wait(BACK_SECONDS)
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.fault("killed-at-random", "the API's server alone, whose processes have clients that ask on and on")
def test_the_processes_of_a_killed_api_server_let_go_of_its_ports(install: Install, ledger: Ledger):
    installation = install(Full.mode, JOBMILL_API_PROCESSES="2")
    api = installation.processes["api"]
    api.settings |= metrics_port()
    api.send(signal.SIGTERM)
    api.wait()
    api.start()
    installation.wait_until_ready()
    orphans = psutil.Process(api.pid).children()
    assert len(orphans) == 2
    with (
        asking(installation, lambda: all(_is_asked(orphan) for orphan in orphans)),
        Load(installation, "fault.quick", ledger.args, rate=20) as load,
    ):
        installation.eventually(lambda: load.accepted, BACK_SECONDS)
        os.kill(api.pid, signal.SIGKILL)
        api.wait()
        began = time.monotonic()
        api.start()
        installation.eventually(lambda: _serves(installation, api.pid), BACK_SECONDS)
        keep("killed-at-random", "API server killed, until the next one serves", time.monotonic() - began, "s")
        installation.eventually(lambda: all(is_gone(orphan.pid) for orphan in orphans), BACK_SECONDS)
        accepted = len(load.accepted)
        installation.eventually(lambda: len(load.accepted) > accepted, BACK_SECONDS)
        load.stop()
    check(installation, ledger, load.accepted, faults=0)


def _is_asked(process: psutil.Process) -> bool:
    """Whether a client holds a connection to it."""
    return any(link.status == psutil.CONN_ESTABLISHED for link in _taken(process))


def _taken(process: psutil.Process) -> Iterator[Any]:
    """Its connections that others made."""
    links = process.net_connections("tcp")
    ports = {link.laddr.port for link in links if link.status == psutil.CONN_LISTEN}
    return (link for link in links if link.raddr and link.laddr.port in ports)


def _serves(installation: Installation, pid: int) -> bool:
    assert installation.processes["api"].alive, installation.processes["api"].words[-2000:]
    listens = [link for link in psutil.Process(pid).net_connections("tcp") if link.status == psutil.CONN_LISTEN]
    return len(listens) == 2 and installation.client.get("/readyz").status_code == httpx2.codes.OK
