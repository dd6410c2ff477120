"""Sets up installations with what each needs of the run's services."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pika
import pytest

from tests.acceptance.installation import Embedded, Full, Installation

QUEUES = tuple(f"{queue}{dead}" for queue in ("default", "webhooks", "redrives") for dead in ("", ".XQ"))


class Installer:
    """Sets up installations of either mode, each with a database, a data directory, queues and a port of its own.

    Their tables are copies of those that were made once for the run, unless they begin `from_nothing`, or on a database
    that the test brings: making them takes a process more, or Alembic within the one, and every revision.
    """

    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack, *, from_nothing: bool = False) -> None:
        self.request = request
        self.stack = stack
        self.from_nothing = from_nothing
        self.factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        self.eventually = request.getfixturevalue("eventually")

    def __call__(self, mode: str, **settings: str) -> Installation:
        """Start one; it ends with the scope that the installer belongs to."""
        folder = self.factory.mktemp(mode)
        made = self._embedded(folder, settings) if mode == Embedded.mode else self._full(folder, settings)
        return self.stack.enter_context(made)

    def _embedded(self, folder: Path, settings: dict[str, str]) -> Embedded:
        if not self.from_nothing:
            (folder / "data").mkdir(mode=0o700)
            shutil.copy(self.request.getfixturevalue("sqlite_template"), folder / "data" / "jobmill.db")
        return Embedded(folder, self.eventually, settings)

    def _full(self, folder: Path, settings: dict[str, str]) -> Full:
        full = Full(folder, self.eventually, self._services(settings) | settings)
        full.tables = not (self.from_nothing or "DATABASE_URL" in settings)
        return full

    def _services(self, given: dict[str, str]) -> dict[str, str]:
        """The services of this run, less those that the test brings itself."""
        services = {"REDIS_URL": self.request.getfixturevalue("redis_url")}
        if "DATABASE_URL" not in given:
            services["DATABASE_URL"] = self.stack.enter_context(self._database())
        if "RABBITMQ_URL" not in given:
            services["RABBITMQ_URL"] = self.request.getfixturevalue("rabbitmq_url")
            services["JOBMILL_QUEUE_PREFIX"] = self.stack.enter_context(_queue_prefix(services["RABBITMQ_URL"]))
        return services

    @contextmanager
    def _database(self) -> Iterator[str]:
        server = self.request.getfixturevalue("postgresql_server")
        name = (
            server.create() if self.from_nothing else server.create(self.request.getfixturevalue("postgresql_template"))
        )
        yield server.url_of(name)
        server.drop(name)


@contextmanager
def _queue_prefix(url: str) -> Iterator[str]:
    prefix = f"jobmilltest_{secrets.token_hex(6)}"
    yield prefix
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.queue_delete(f"{prefix}.{queue}")  # deleting one that is not there is no error
