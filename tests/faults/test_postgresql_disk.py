"""The disk of PostgreSQL full: first for a table, then for its log of transactions, over which the server gives up."""

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import psycopg
import pytest

from tests.acceptance.installation import Full, Installation
from tests.acceptance.ledger import Ledger
from tests.acceptance.private_services import PrivatePostgresql
from tests.faults import figures
from tests.faults.conftest import Install
from tests.faults.under_load import under_load

pytestmark = [pytest.mark.timed, pytest.mark.long, pytest.mark.timeout(240)]

FAULT = "postgresql-disk-full"
NO_SPACE = "No space left on device"
LITTLE_LOG = "max_wal_size = 32MB\nmin_wal_size = 32MB\n"


class SmallDisk(PrivatePostgresql):
    """A server whose data lie on a disk of its own, of 160 MB in memory."""

    def __init__(self, eventually: Callable[..., Any]) -> None:
        super().__init__(eventually)
        self.disk = self.folder / "disk"
        self.disk.mkdir()
        if os.geteuid() != 0:
            pytest.fail("A small disk has to be mounted: run this test as root.", pytrace=False)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=777", "tmpfs", str(self.disk)], check=True)
        self.cluster = self.disk / "cluster"
        self.ballast = self.disk / "ballast"

    def fill(self) -> None:
        """Leave not a byte."""
        with self.ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        assert os.statvfs(self.disk).f_bavail < 100  # pages; the server may have given some back

    def make_room(self) -> None:
        self.ballast.unlink()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def remove(self) -> None:
        self.stop()
        subprocess.run(["umount", "--lazy", str(self.disk)], check=True)
        super().remove()

    def _make(self, initdb: str) -> None:
        super()._make(initdb)
        with (self.cluster / "postgresql.conf").open("a") as file:
            file.write(LITTLE_LOG)


@pytest.fixture(scope="module")
def postgresql(eventually: Callable[..., Any]) -> Iterator[SmallDisk]:
    server = SmallDisk(eventually)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def full(postgresql: SmallDisk, install: Install) -> Installation:
    return install(Full.mode, DATABASE_URL=postgresql.url, JOBMILL_THREADS="4")


def answers(full: Installation, size: int = 1) -> int:
    """What a client is told; nothing but 202 and 503 is right."""
    body = {"type": "demo.echo", "args": {"value": secrets.token_hex(size)}}
    answer = full.client.post("/v1/jobs", json=body)
    assert answer.status_code in {202, 503}, answer.text
    if answer.status_code == httpx2.codes.ACCEPTED:
        full.accepted.append(answer.json())
    return answer.status_code


@pytest.mark.fault("postgresql-disk-full", "a tmpfs filled to the last byte under load: no table can grow")
def test_while_no_table_can_grow_clients_are_told_and_all_goes_on_once_there_is_room(
    full: Installation, postgresql: SmallDisk, ledger: Ledger
):
    with under_load(full, ledger, FAULT) as trial:
        spoken = len(postgresql.said())
        postgresql.fill()
        full.eventually(lambda: answers(full, 50_000) == 503, 20)
        assert full.client.get("/healthz").status_code == 200
        assert full.client.get("/v1/jobs").status_code == 200  # what is there can be read
        assert NO_SPACE in postgresql.said()[spoken:]
        postgresql.make_room()
        back = time.monotonic()
        full.eventually(lambda: answers(full, 50_000) == 202, 10)
        trial.submit_until(1)
    figures.keep(FAULT, "from room on the disk to the next 202", time.monotonic() - back, "s")


@pytest.mark.fault(
    "postgresql-disk-full", "no room for the next file of its log: the server panics, and is started again"
)
def test_a_server_that_gave_up_over_a_full_disk_comes_back_with_all_that_was_accepted(
    full: Installation, postgresql: SmallDisk, ledger: Ledger
):
    with under_load(full, ledger, FAULT):
        spoken = len(postgresql.said())
        postgresql.fill()
        with contextlib.suppress(psycopg.Error), psycopg.connect(postgresql.url, autocommit=True) as writer:
            for _ in range(100):
                writer.execute("SELECT pg_logical_emit_message(false, 'jobmill', repeat('x', 1000000))")
        full.eventually(lambda: "PANIC" in postgresql.said()[spoken:], 20)
        assert NO_SPACE in postgresql.said()[spoken:]
        full.eventually(lambda: answers(full) == 503, 20)
        assert full.client.get("/healthz").status_code == 200
        postgresql.make_room()
        postgresql.stop()  # if it has not given up by itself
        postgresql.start()
