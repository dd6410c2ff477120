"""Real services for the tests: a database per test on both dialects, RabbitMQ and Redis. None is ever skipped.

PostgreSQL databases are clones of a template that is migrated once a run; their names carry the run and its
beginning, so that runs at the same time do not meet and what a crashed run left is swept by a later one.
"""

import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import count, product
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pika
import pika.exceptions
import psycopg
import pytest
import redis
from psycopg import sql

from models.database import Database, connect_postgresql, connect_sqlite
from models.dialect import POSTGRESQL, SQLITE
from models.migrate import upgrade
from tests.faults import figures
from tests.sharing import pytest_xdist_make_scheduler

__all__ = ["pytest_xdist_make_scheduler"]

POSTGRESQL_URL = os.environ.get("JOBMILL_TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
RABBITMQ_URL = os.environ.get("JOBMILL_TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672/")
REDIS_URL = os.environ.get("JOBMILL_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")

# What is started in the background of a script ignores Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what a test measured that passed."""
    if report.when == "call":
        figures.end(passed=report.passed)


DATABASE_PREFIX = "jobmill_test"
LEFTOVER_AFTER = timedelta(hours=6)
POOL_SIZE = 16  # races use a connection a thread

# AMQP cannot list queues, so those that a test may have made are named here.
QUEUES = ("default", "webhooks", "redrives", "media", "reports", "other")
QUEUE_SUFFIXES = ("", ".DQ", ".XQ")


def _missing(service: str, variable: str, error: Exception) -> NoReturn:
    """Fail, never skip: a run without its services has proved nothing."""
    pytest.fail(
        f"{service} does not answer ({type(error).__name__}). Run: make services, or set {variable}.", pytrace=False
    )


# PostgreSQL


class PostgresqlServer:
    """The server that lends this run its databases."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection = psycopg.connect(url, autocommit=True, connect_timeout=5)
        self._run = f"{DATABASE_PREFIX}_{int(time.time())}_{secrets.token_hex(4)}"
        self._numbers = count(1)

    def url_of(self, name: str) -> str:
        return urlsplit(self._url)._replace(path=f"/{name}").geturl()

    def create(self, template: str = "template0") -> str:
        name = f"{self._run}_{next(self._numbers)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return name

    def drop(self, name: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def end_backends(self, pids: Sequence[int]) -> None:
        """Close connections from the server's side; returns when they are gone."""
        for pid in pids:
            self._connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    def sweep(self) -> None:
        """Drop what runs that crashed long ago left behind."""
        oldest = time.time() - LEFTOVER_AFTER.total_seconds()
        for (name,) in self._connection.execute("SELECT datname FROM pg_database").fetchall():
            made = re.match(rf"{DATABASE_PREFIX}_(\d+)_", name)
            if made and int(made[1]) < oldest:
                self.drop(name)

    def close(self) -> None:
        self._connection.close()

    def _execute(self, statement: str, *names: str) -> None:
        self._connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    try:
        server = PostgresqlServer(POSTGRESQL_URL)
    except psycopg.OperationalError as error:
        _missing("PostgreSQL", "JOBMILL_TEST_DATABASE_URL", error)
    server.sweep()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: PostgresqlServer) -> Iterator[str]:
    name = postgresql_server.create()
    database = connect_postgresql(postgresql_server.url_of(name), "jobmill-tests", pool_size=1)
    upgrade(database)
    database.close()  # a template with a connection cannot be cloned
    yield name
    postgresql_server.drop(name)


@pytest.fixture
def empty_database_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """A PostgreSQL database without tables."""
    name = postgresql_server.create()
    yield postgresql_server.url_of(name)
    postgresql_server.drop(name)


@pytest.fixture
def database_url(postgresql_server: PostgresqlServer, postgresql_template: str) -> Iterator[str]:
    """A fresh, migrated PostgreSQL database for processes that connect by themselves."""
    name = postgresql_server.create(postgresql_template)
    yield postgresql_server.url_of(name)
    postgresql_server.drop(name)


@pytest.fixture
def postgresql_database(database_url: str) -> Iterator[Database]:
    database = connect_postgresql(database_url, "jobmill-tests", POOL_SIZE)
    yield database
    database.close()


# SQLite


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "jobmill.db"
    database = connect_sqlite(path, pool_size=1)
    upgrade(database)
    database.close()
    return path


@pytest.fixture
def sqlite_path(sqlite_template: Path, tmp_path: Path) -> Path:
    """A fresh, migrated SQLite file."""
    return Path(shutil.copy(sqlite_template, tmp_path / "jobmill.db"))


@pytest.fixture
def sqlite_database(sqlite_path: Path) -> Iterator[Database]:
    database = connect_sqlite(sqlite_path, POOL_SIZE)
    yield database
    database.close()


@pytest.fixture(params=[POSTGRESQL, SQLITE])
def database(request: pytest.FixtureRequest) -> Any:
    """A fresh, migrated database; the test runs once on each dialect."""
    return request.getfixturevalue(f"{request.param}_database")


# RabbitMQ and Redis


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    try:
        pika.BlockingConnection(pika.URLParameters(RABBITMQ_URL)).close()
    except (pika.exceptions.AMQPError, OSError) as error:
        _missing("RabbitMQ", "JOBMILL_TEST_RABBITMQ_URL", error)
    return RABBITMQ_URL


@pytest.fixture(scope="session")
def redis_url() -> str:
    client = redis.Redis.from_url(REDIS_URL, socket_timeout=5, socket_connect_timeout=5)
    try:
        client.ping()
    except redis.RedisError as error:
        _missing("Redis", "JOBMILL_TEST_REDIS_URL", error)
    finally:
        client.close()
    return REDIS_URL


@pytest.fixture
def queue_prefix(rabbitmq_url: str) -> Iterator[str]:
    """A prefix for queues that no other test uses; its queues are deleted afterwards."""
    prefix = f"jobmilltest_{secrets.token_hex(6)}"
    yield prefix
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    channel = connection.channel()
    for queue, suffix in product(QUEUES, QUEUE_SUFFIXES):
        channel.queue_delete(f"{prefix}.{queue}{suffix}")  # deleting a queue that is not there is no error
    connection.close()


# Waiting


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """`eventually(condition, within_seconds=10)`: the first true answer of the condition, or a failure."""

    def wait(condition: Callable[[], Any], within_seconds: float = 10, every_seconds: float = 0.02) -> Any:
        deadline = time.monotonic() + within_seconds
        while not (answer := condition()):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {within_seconds} s: {condition!r}; last answer: {answer!r}")
            time.sleep(every_seconds)
        return answer

    return wait
