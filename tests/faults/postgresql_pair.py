"""A PostgreSQL primary and its synchronous streaming standby, of the tests' own, to be killed and promoted."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.acceptance.private_services import READY_SECONDS, PrivatePostgresql


class Standby(PrivatePostgresql):
    """Begins as a copy of the primary, and follows it."""

    def __init__(self, eventually: Callable[..., Any], primary: PrivatePostgresql) -> None:
        super().__init__(eventually)
        self.primary = primary
        self.programs = Path()

    def promote(self) -> None:
        """Make it the primary; returns once it takes writes."""
        self._do("pg_ctl", "promote", "-w", "-D", str(self.cluster))

    def _make(self, initdb: str) -> None:
        self.programs = Path(initdb).parent
        source = ["-h", "127.0.0.1", "-p", str(self.primary.port), "-U", "jobmill"]
        self._do("pg_basebackup", *source, "-D", str(self.cluster), "-R", "-X", "stream", "-c", "fast")

    def _do(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.programs / program), *arguments],
            cwd=self.folder,
            capture_output=True,
            timeout=READY_SECONDS,
            check=True,
            **self.user,
        )


class PostgresqlPair:
    """Both of them. What the primary answers as committed, the standby has on its disk."""

    def __init__(self, eventually: Callable[..., Any]) -> None:
        self.eventually = eventually
        self.primary = PrivatePostgresql(eventually)
        self.standby = Standby(eventually, self.primary)

    @property
    def url(self) -> str:
        """Both addresses, as an operator writes them."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (self.primary, self.standby))
        return f"postgresql://jobmill@{hosts}/postgres?target_session_attrs=read-write"

    def start(self) -> None:
        self.primary.start()
        self.standby.start()
        with psycopg.connect(self.primary.url, autocommit=True) as connection:
            # Only now: without a standby each commit would wait for one.
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            self.eventually(lambda: _follows(connection))

    def kill_primary(self) -> None:
        """End every process of it at once, as the loss of its machine does."""
        assert self.primary.process is not None
        postmaster = psutil.Process(self.primary.process.pid)
        for pid in [postmaster.pid, *(child.pid for child in postmaster.children(recursive=True))]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.primary.process.wait()

    def remove(self) -> None:
        self.standby.remove()
        self.primary.remove()


def _follows(connection: psycopg.Connection[Any]) -> bool:
    found = connection.execute("SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')")
    return found.fetchone() == (1,)
