"""Sets up installations with what each needs of the run's services."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pika
import pytest

from tests.acceptance.installation import Embedded, Full, Installation

QUEUES = ("default", "default.XQ", "webhooks", "webhooks.XQ")


class Installer:
    """Sets up installations of either mode, each with a database, a data directory, queues and a port of its own."""

    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        self.request = request
        self.stack = stack
        self.factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        self.eventually = request.getfixturevalue("eventually")

    def __call__(self, mode: str, **settings: str) -> Installation:
        """Start one; it ends with the scope that the installer belongs to."""
        folder = self.factory.mktemp(mode)
        if mode == Embedded.mode:
            return self.stack.enter_context(Embedded(folder, self.eventually, settings))
        services = self._services(settings)
        return self.stack.enter_context(Full(folder, self.eventually, services | settings))

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
        name = server.create()
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
