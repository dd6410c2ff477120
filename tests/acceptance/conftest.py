"""Installations for the tests: one that is left whole, and one to break."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.acceptance.installation import Embedded, Full, Installation
from tests.acceptance.ledger import Ledger

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


@pytest.fixture(scope="session", params=[Embedded.mode, Full.mode])
def mode(request: pytest.FixtureRequest) -> str:
    """Everything is promised in both."""
    return request.param


@pytest.fixture(scope="session")
def installation(mode: str, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """The installation that tests share; leave it as you found it."""
    with ExitStack() as stack:
        yield Installer(request, stack)(mode)


@pytest.fixture(scope="session")
def _one_thread(mode: str, request: pytest.FixtureRequest) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installer(request, stack)(mode, JOBMILL_THREADS="1")


@pytest.fixture
def breakable(_one_thread: Installation) -> Iterator[Installation]:
    """An installation for tests that stop and kill its worker, which does one job at a time. Nothing else is in it."""
    if not _one_thread.worker.alive:
        _one_thread.start_worker()
    yield _one_thread
    _one_thread.worker.settings.pop("JOBMILL_GRACE_SECONDS", None)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Where the handlers of a test's jobs say when they begin and end; its gate is open at the end in any case."""
    made = Ledger(tmp_path)
    yield made
    made.open_gate()


@pytest.fixture
def unique() -> Callable[[], str]:
    """Names that no other test uses in the shared installation."""
    run, numbers = secrets.token_hex(4), count(1)
    return lambda: f"name-{run}-{next(numbers)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show what the processes said when a test fails."""
    report = yield
    if report.failed:
        for used in getattr(item, "funcargs", {}).values():
            if isinstance(used, Installation):
                report.sections.append((f"the {used.mode} installation in {used.folder}", used.logs()))
    return report
