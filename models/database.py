"""The connection to the truth: an engine per dialect, and the one place where transactions begin and end."""

import fcntl
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session
from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from models import engines, metrics
from models.connection import Connector
from models.engines import Engines
from models.errors import LASTING, Trouble, Unavailable, Unstorable, trouble_of
from models.pulse import Pulse

Answer = TypeVar("Answer")

RETRIED_FOR = timedelta(seconds=5)
AS_LONG_AS_IT_TAKES = timedelta.max
NO_TROUBLE: frozenset[Trouble] = frozenset()
PULSE_LIMIT_SECONDS = 0.5
CHECK_SECONDS = 1.2


class Database:
    """One process's way to the database. `path` is set on SQLite only, `pulse` where a request waits for answers."""

    def __init__(self, pools: Engines, *, path: Path | None = None, pulse: Pulse | None = None) -> None:
        self.pools = pools
        self.engine = pools.transactions
        self.path = path
        self.pulse = pulse

    @property
    def dialect(self) -> str:
        """`postgresql` or `sqlite`."""
        return self.engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads: on SQLite it waits for no writer. Raises Unavailable like `transaction`."""
        with self._session(self.pools.reads) as session:
            yield session

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session in one transaction: committed when the block ends, rolled back when it raises.

        This is the only place that commits. Driver errors that may pass by themselves come out as
        Unavailable; a COMMIT among them may have succeeded, so look again before acting. A value that
        no column can hold comes out as Unstorable.
        """
        with self._session(self.engine) as session:
            yield session

    @contextmanager
    def single(self) -> Iterator[Session]:
        """A session for a step that writes by one statement only, which is a transaction of its own.

        Each job costs at least three such steps, so the round trips that this spares are most of its cost.
        """
        with self._session(self.pools.single) as session:
            yield session

    @contextmanager
    def together(self) -> Iterator[Session]:
        """Like `single`, for what several ask at once: none of them shall wait long for a lock that another waits for.

        On PostgreSQL it raises Unavailable (TIMEOUT) after 0.3 s of that; SQLite has one lock, which all wait for.
        """
        with self._session(self.pools.together) as session:
            yield session

    @contextmanager
    def heart(self) -> Iterator[Session]:
        """Like `single`, on connections kept for heartbeats, leases and claims, with less patience."""
        with self._session(self.pools.heart) as session:
            yield session

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        if self.pulse is not None:
            self.pulse.admit()
        with self._told_apart(), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def connected(self, **settings: str) -> Iterator[Connection]:
        """A connection to PostgreSQL that begins and ends its own transactions, for migrations; closed afterwards.

        It has those settings, and waits for answers as long as they let it. Raises like `transaction`.
        """
        with self._told_apart(), self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.limited(math.inf)
            driver.autocommit = True
            for name, value in settings.items():
                driver.execute("SELECT set_config(%s, %s, false)", (name, value))
            driver.autocommit = False
            try:
                yield connection
            finally:
                connection.invalidate()

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        """Have errors of the driver come out as ours."""
        try:
            yield
        except Exception as error:
            trouble = trouble_of(error)
            if trouble is None:
                raise
            self._count(trouble)
            if trouble is Trouble.VALUE:
                raise Unstorable(f"The database cannot hold one of the values: {type(error).__name__}") from error
            if trouble in LASTING:
                raise
            raise Unavailable(f"The database did not serve this: {type(error).__name__}", trouble) from error

    def _count(self, trouble: Trouble) -> None:
        metrics.errors.labels(trouble).inc()
        if self.pulse is not None and trouble is Trouble.CONNECTION:
            self.pulse.doubt()

    def run(
        self,
        step: Callable[[Session], Answer],
        patience: timedelta = RETRIED_FOR,
        *,
        unless: Collection[Trouble] = NO_TROUBLE,
    ) -> Answer:
        """Do a whole step in one transaction, and again from its beginning while the database is unavailable.

        The step must bear being done twice, since a lost answer may hide a commit. `unless` it is such a trouble, of
        which the first is raised.
        """
        return _patiently(patience, lambda: self._once(self.transaction, step), unless)

    def run_single(
        self,
        step: Callable[[Session], Answer],
        patience: timedelta = RETRIED_FOR,
        *,
        unless: Collection[Trouble] = NO_TROUBLE,
    ) -> Answer:
        """Like `run`, for a step that writes by one statement only."""
        return _patiently(patience, lambda: self._once(self.single, step), unless)

    def run_together(
        self,
        step: Callable[[Session], Answer],
        patience: timedelta = RETRIED_FOR,
        *,
        unless: Collection[Trouble] = NO_TROUBLE,
    ) -> Answer:
        """Like `run_single`, by the way of `together`."""
        return _patiently(patience, lambda: self._once(self.together, step), unless)

    def read(self, step: Callable[[Session], Answer], patience: timedelta = RETRIED_FOR) -> Answer:
        """Like `run`, for a step that only reads."""
        return _patiently(patience, lambda: self._once(self.reading, step))

    def patiently(self, step: Callable[[], Answer], patience: timedelta) -> Answer:
        """Like `run`, for a step that opens what it needs by itself."""
        return _patiently(patience, step)

    def _once(self, opened: Callable[[], AbstractContextManager[Session]], step: Callable[[Session], Answer]) -> Answer:
        with opened() as session:
            return step(session)

    def ping(self) -> None:
        """Ask the database anything; raises Unavailable."""
        if self.pulse is not None:
            self.pulse.check(CHECK_SECONDS)
        else:
            with self.reading() as session:
                session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        if self.pulse is not None:
            self.pulse.stop()
        self.pools.close()


def postgresql_connector(url: str, application_name: str) -> Connector:
    """Opens single connections; `url` as platforms give it, several hosts allowed."""
    return Connector(url, application_name)


def connect_postgresql(
    url: str, application_name: str, pool_size: int, transactions: int | None = None, *, prompt: bool = False
) -> Database:
    """A PostgreSQL database: at most `pool_size` connections serve single statements, `transactions` the rest.

    With `prompt`, whoever waits for an answer is told within a second that the database is away.
    """
    connector = Connector(url, application_name)
    pulse = Pulse(lambda: connector(autocommit=True).limited(PULSE_LIMIT_SECONDS)) if prompt else None
    pools = engines.postgresql(connector, pool_size, transactions or pool_size, pulse)
    if pulse is not None:
        pulse.start()
    return Database(pools, pulse=pulse)


def connect_sqlite(path: Path, pool_size: int) -> Database:
    """A SQLite database."""
    return Database(engines.sqlite(path, pool_size), path=path)


def _patiently(patience: timedelta, step: Callable[[], Answer], unless: Collection[Trouble] = NO_TROUBLE) -> Answer:
    """Do the step, again while it finds the database unavailable; the first try counts towards the patience."""
    lasting = {Trouble.AWAY, *unless}
    began = time.monotonic()
    try:
        return step()
    except Unavailable as error:
        left = patience.total_seconds() - (time.monotonic() - began)
        if left <= 0 or error.trouble in lasting:
            raise
    attempts = Retrying(
        before=lambda _state: metrics.retries.inc(),
        retry=retry_if_exception(lambda error: isinstance(error, Unavailable) and error.trouble not in lasting),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=stop_before_delay(left),
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
