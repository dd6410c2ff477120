"""The connection to the truth: an engine per dialect, and the one place where transactions begin and end."""

import fcntl
import select
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

import orjson
import psycopg
from psycopg.types.json import set_json_dumps, set_json_loads
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from models.errors import Unavailable, is_transient

Answer = TypeVar("Answer")

# On PostgreSQL, seconds: a request must fail fast, and nothing of ours legitimately holds a lock for long.
CONNECT_TIMEOUT = 3
SESSION_SETTINGS = {
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    # As on any SSD. At the default of 4 the planner would rather walk the newest jobs of everyone than ask the
    # index of one tenant's jobs in a state, and walks on through every finished one when there are none.
    "random_page_cost": "1.1",
}
TRUSTED_SECONDS = 1.0
RETRIED_FOR = timedelta(seconds=5)


class Database:
    """One process's way to the database. `path` is set on SQLite only."""

    def __init__(self, engine: Engine, *, reader: Engine, single: Engine, path: Path | None = None) -> None:
        self.engine = engine
        self.path = path
        self._reader = reader
        self._single = single

    @property
    def dialect(self) -> str:
        """`postgresql` or `sqlite`."""
        return self.engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads: on SQLite it waits for no writer. Raises Unavailable like `transaction`."""
        with self._session(self._reader) as session:
            yield session

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session in one transaction: committed when the block ends, rolled back when it raises.

        This is the only place that commits. Driver errors that may pass by themselves come out as
        Unavailable; a COMMIT among them may have succeeded, so look again before acting.
        """
        with self._session(self.engine) as session:
            yield session

    @contextmanager
    def single(self) -> Iterator[Session]:
        """A session for a step that writes by one statement only, which is a transaction of its own.

        Each job costs at least three such steps, so the round trips that this spares are most of its cost.
        """
        with self._session(self._single) as session:
            yield session

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except Exception as error:
            if is_transient(error):
                raise Unavailable(f"The database did not serve this: {type(error).__name__}") from error
            raise

    def run(self, step: Callable[[Session], Answer], patience: timedelta = RETRIED_FOR) -> Answer:
        """Do a whole step in one transaction, and again from its beginning while the database is unavailable.

        The step must bear being done twice, since a lost answer may hide a commit.
        """
        return _patiently(patience, lambda: self._once(self.transaction, step))

    def run_single(self, step: Callable[[Session], Answer], patience: timedelta = RETRIED_FOR) -> Answer:
        """Like `run`, for a step that writes by one statement only."""
        return _patiently(patience, lambda: self._once(self.single, step))

    def read(self, step: Callable[[Session], Answer], patience: timedelta = RETRIED_FOR) -> Answer:
        """Like `run`, for a step that only reads."""
        return _patiently(patience, lambda: self._once(self.reading, step))

    def _once(self, opened: Callable[[], AbstractContextManager[Session]], step: Callable[[Session], Answer]) -> Answer:
        with opened() as session:
            return step(session)

    def ping(self) -> None:
        """Ask the database anything; raises Unavailable."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        for engine in (self.engine, self._reader, self._single):
            engine.dispose()


def postgresql_connector(url: str, application_name: str) -> Callable[[], psycopg.Connection[Any]]:
    """Opens single connections; `url` as platforms give it, several hosts allowed, read by libpq itself."""
    return partial(
        psycopg.connect,
        "postgresql://" + url.split("://", 1)[1],
        application_name=application_name,
        connect_timeout=CONNECT_TIMEOUT,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=15000,
        options=" ".join(f"-c {name}={value}" for name, value in SESSION_SETTINGS.items()),
    )


def connect_postgresql(url: str, application_name: str, pool_size: int, transactions: int | None = None) -> Database:
    """A PostgreSQL database behind two pools.

    At most `pool_size` connections serve single statements, and `transactions` (default: as many) the rest.

    A read, and a write of one statement, need neither BEGIN nor COMMIT, which are two round trips of four.
    """
    connect = postgresql_connector(url, application_name)
    engine = _postgresql_engine(connect, transactions or pool_size)
    single = _postgresql_engine(connect, pool_size, isolation_level="AUTOCOMMIT", pool_reset_on_return=None)
    return Database(engine, reader=single, single=single)


def _postgresql_engine(connect: Callable[[], Any], pool_size: int, **options: Any) -> Engine:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=2,
        hide_parameters=True,  # they are customers' data, and errors are logged
        **options,
    )
    event.listen(engine, "connect", _speak_orjson)
    event.listen(engine, "checkout", _refuse_dead)
    return engine


def _speak_orjson(connection: Any, _record: Any) -> None:
    """SQLAlchemy hands its two JSON functions on only to connections that it opens by itself."""
    set_json_dumps(orjson.dumps, connection)
    set_json_loads(orjson.loads, connection)


def _refuse_dead(connection: Any, record: Any, _proxy: Any) -> None:
    """Have the pool replace a connection that the server closed while it lay idle.

    An idle connection has nothing to read; if it has, that is the server's farewell. SQLAlchemy's own
    pool_pre_ping asks the server instead, at the price of a round trip for each transaction.
    """
    now, last_used = time.monotonic(), record.info.get("used_at", 0.0)
    record.info["used_at"] = now
    if now - last_used < TRUSTED_SECONDS:
        return  # a step that meets a connection lost this lately is tried again as a whole
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    if connection.closed or poller.poll(0):
        raise DisconnectionError("the server closed this connection")


def connect_sqlite(path: Path, pool_size: int) -> Database:
    """A SQLite database. Without these settings SQLAlchemy's transactions begin too late and lose updates."""
    # Kept in the file from now on. Each connection for itself could find it locked by another that does the same:
    # no timeout applies to this pragma.
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": 5},
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        hide_parameters=True,  # they are customers' data, and errors are logged
        json_serializer=_dumps,
        json_deserializer=orjson.loads,
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        for pragma in ("synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        # `deterministic` is SQLite's word for: called once a statement.
        connection.create_function("jobmill_now", 0, _microseconds, deterministic=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # IMMEDIATE takes the write lock at once: a transaction that read first and wrote later would fail
        # with SQLITE_BUSY, or write what it read before another's commit.
        reads_only = connection.get_execution_options().get("jobmill_reads_only")
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return Database(engine, reader=engine.execution_options(jobmill_reads_only=True), single=engine, path=path)


def _patiently(patience: timedelta, step: Callable[[], Answer]) -> Answer:
    try:
        return step()
    except Unavailable:
        if not patience:
            raise
    attempts = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, Unavailable)),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=stop_after_delay(patience.total_seconds()),
        reraise=True,
    )
    answer: Answer = attempts(step)
    return answer


class AlreadyOpen(Exception):  # noqa: N818
    """Another process runs on this data directory; two would each dispatch the same jobs."""


def lock_directory(directory: Path) -> IO[str]:
    """Keep the data directory for this process until the returned file is closed; raises AlreadyOpen."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = (directory / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise AlreadyOpen(
            f"Another jobmill runs on {directory}. Stop it, or set JOBMILL_DATA_DIR to another directory."
        ) from None
    return lock


def _microseconds() -> int:
    return time.time_ns() // 1000


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()
