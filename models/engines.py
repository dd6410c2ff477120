"""The pools of connections to each database, and how their connections are set up and looked after."""

import os
import select
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

import orjson
from psycopg.types.json import set_json_dumps, set_json_loads
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool, PoolProxiedConnection, QueuePool

from models import metrics
from models.connection import LIMIT_SECONDS, Connector, Patient, impatient
from models.dialect import POSTGRESQL, dialect_of
from models.errors import READ_ONLY_TRANSACTION
from models.pulse import Pulse

TRUSTED_SECONDS = 1.0
POOL_SECONDS = 2.0
HEART_CONNECTIONS = 2
HEART_LIMIT_SECONDS = 5.0
"""A heartbeat that hangs for longer than this is better sent again: workers are given up after 20 s."""
TOGETHER_CONNECTIONS = 1
"""One statement of several is out at a time; what comes meanwhile goes into the next."""
TOGETHER_LOCK_TIMEOUT = "300ms"

# Where whoever asks is to be told within a second that nobody is there.
PROMPT_POOL_SECONDS = 0.5
PROMPT_CONNECT_SECONDS = 0.5


@dataclass(frozen=True)
class Engines:
    """The ways to the database: transactions, reads, single statements, statements of several, and what must not wait.

    A statement of several gives up soon where one of them waits for a lock. What must not wait are heartbeats and
    claims: a burst of requests, or handlers that hold sessions of their own, may take every other connection, and must
    not make a worker look dead or the queue stand still.
    """

    transactions: Engine
    reads: Engine
    single: Engine
    together: Engine
    heart: Engine

    def close(self) -> None:
        """Close every connection, those that are in use as soon as they are given back."""
        for engine in {self.transactions, self.reads, self.single, self.together, self.heart}:
            event.listen(engine.pool, "checkin", _close_given_back)
            engine.dispose()


def _close_given_back(connection: Any, _record: Any) -> None:
    if connection is not None:  # else it was found broken, and is closed already
        connection.close()


class TimedPool(QueuePool):
    """A pool that tells how long one waited for a connection."""

    __module__ = "sqlalchemy.pool"  # so that it logs where its kind does, which is quiet

    def connect(self) -> PoolProxiedConnection:
        """A connection, as soon as there is one."""
        with metrics.connection_wait.time():
            return super().connect()


_opened: WeakSet[Engine] = WeakSet()
_inherited: list[Pool] = []
"""Kept from being collected, which would close connections of another process: SQLite's locks do not bear that."""


def _begin_anew() -> None:
    """In a forked process: leave every connection to the parent, whose it is, without a word to the database."""
    for engine in _opened:
        _inherited.append(engine.pool)
        engine.dispose(close=False)


# SQLAlchemy's pools know nothing of processes, and a handler may fork as it likes.
os.register_at_fork(after_in_child=_begin_anew)


_BY_ITSELF: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
"""A read, and a write of one statement, need neither BEGIN nor COMMIT, which are two round trips of four."""


def postgresql(connector: Connector, single: int, transactions: int, pulse: Pulse | None) -> Engines:
    """The pools of a PostgreSQL database, of so many connections. With a pulse nobody waits for one for long."""

    def connect() -> Patient:
        return connector().limited(LIMIT_SECONDS, pulse)

    def connect_hasty() -> Patient:
        return connector(lock_timeout=TOGETHER_LOCK_TIMEOUT).limited(LIMIT_SECONDS, pulse)

    def connect_heart() -> Patient:
        return connector().limited(HEART_LIMIT_SECONDS)

    opened: Callable[[], Patient] = connect
    hasty, seconds = connect_hasty, POOL_SECONDS
    if pulse is not None:
        opened, hasty = (impatient(one, PROMPT_CONNECT_SECONDS, pulse) for one in (connect, connect_hasty))
        seconds = PROMPT_POOL_SECONDS
    statements = _postgresql_engine(opened, single, pool_timeout=seconds, **_BY_ITSELF)
    return Engines(
        _postgresql_engine(opened, transactions, pool_timeout=seconds),
        reads=statements,
        single=statements,
        together=_postgresql_engine(hasty, TOGETHER_CONNECTIONS, pool_timeout=seconds, **_BY_ITSELF),
        heart=_postgresql_engine(connect_heart, HEART_CONNECTIONS, pool_timeout=POOL_SECONDS, **_BY_ITSELF),
    )


def give_in_soon(session: Session) -> None:
    """Have this transaction wait for a lock no longer than a statement of several does; SQLite has none of rows."""
    if dialect_of(session) == POSTGRESQL:
        limit = {"limit": TOGETHER_LOCK_TIMEOUT}
        session.execute(text("SELECT set_config('lock_timeout', :limit, true)"), limit)


def _postgresql_engine(connect: Callable[[], Patient], pool_size: int, **options: Any) -> Engine:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=connect,
        poolclass=TimedPool,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # they are customers' data, and errors are logged
        **options,
    )
    _opened.add(engine)
    event.listen(engine, "connect", _speak_orjson)
    event.listen(engine, "checkout", _refuse_dead)
    event.listen(engine, "handle_error", _leave_read_only)
    return engine


def _speak_orjson(connection: Any, _record: Any) -> None:
    """SQLAlchemy hands its two JSON functions on only to connections that it opens by itself."""
    set_json_dumps(orjson.dumps, connection)
    set_json_loads(orjson.loads, connection)


def _leave_read_only(context: ExceptionContext) -> None:
    """Have the pool drop every connection to a server that is not, or no more, the one that writes."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY_TRANSACTION:
        context.is_disconnect = True


def _refuse_dead(connection: Patient, _record: Any, _proxy: Any) -> None:
    """Have the pool replace a connection that the server closed while it lay idle.

    An idle connection has nothing to read; if it has, that is the server's farewell. SQLAlchemy's own
    pool_pre_ping asks the server instead, at the price of a round trip for each transaction.
    """
    if connection.pulse is not None and connection.heard_at < connection.pulse.back_at:
        raise DisconnectionError("the server was away, and may know nothing of this connection any more")
    if time.monotonic() - connection.heard_at < TRUSTED_SECONDS:
        return  # a step that meets a connection lost this lately is tried again as a whole
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    if connection.closed or poller.poll(0):
        raise DisconnectionError("the server closed this connection")


def sqlite(path: Path, pool_size: int) -> Engines:
    """The pools of a SQLite database. Without these settings transactions begin too late and lose updates."""
    # Kept in the file from now on. Each connection for itself could find it locked by another that does the same:
    # no timeout applies to this pragma.
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    engine = _sqlite_engine(path, pool_size)
    reads = engine.execution_options(jobmill_reads_only=True)
    return Engines(engine, reads=reads, single=engine, together=engine, heart=_sqlite_engine(path, HEART_CONNECTIONS))


def _sqlite_engine(path: Path, pool_size: int) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": 5},
        poolclass=TimedPool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        hide_parameters=True,  # they are customers' data, and errors are logged
        json_serializer=_dumps,
        json_deserializer=orjson.loads,
    )
    _opened.add(engine)

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

    return engine


def _microseconds() -> int:
    return time.time_ns() // 1000


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()
