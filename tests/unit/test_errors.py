"""Which errors of the database pass by themselves."""

import sqlite3

import psycopg
import pytest
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.errors import is_transient

# https://www.postgresql.org/docs/current/errcodes-appendix.html
PASSING = [
    pg.SerializationFailure,
    pg.DeadlockDetected,
    pg.LockNotAvailable,
    pg.QueryCanceled,
    pg.ConnectionFailure,
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.TooManyConnections,
    pg.DiskFull,
    pg.OutOfMemory,
    psycopg.OperationalError,
    psycopg.InterfaceError,
]
LASTING = [
    pg.UniqueViolation,
    pg.CheckViolation,
    pg.NotNullViolation,
    pg.ForeignKeyViolation,
    pg.UndefinedTable,
    pg.SyntaxError,
    pg.InvalidTextRepresentation,
    pg.UntranslatableCharacter,
    pg.NumericValueOutOfRange,
    pg.InsufficientPrivilege,
    pg.InternalError_,
    psycopg.ProgrammingError,
    psycopg.DataError,
]
SQLITE_PASSING = [
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_BUSY_SNAPSHOT,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_LOCKED_SHAREDCACHE,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
]


def _wrapped(error: Exception, driver: type[Exception]) -> DBAPIError:
    """The error as SQLAlchemy hands it on."""
    wrapped = DBAPIError.instance("SELECT 1", {}, error, driver)
    assert isinstance(wrapped, DBAPIError)
    return wrapped


def _sqlite(code: int) -> DBAPIError:
    error = sqlite3.OperationalError("in whatever words")
    error.sqlite_errorcode = code
    return _wrapped(error, sqlite3.Error)


@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_by_itself_on_postgresql_is_tried_again(kind: type[psycopg.Error]) -> None:
    assert is_transient(_wrapped(kind("x"), psycopg.Error))


@pytest.mark.parametrize("kind", LASTING)
def test_what_no_retry_mends_on_postgresql_is_a_bug(kind: type[psycopg.Error]) -> None:
    assert not is_transient(_wrapped(kind("x"), psycopg.Error))


@pytest.mark.parametrize("code", SQLITE_PASSING)
def test_what_passes_by_itself_on_sqlite_is_tried_again(code: int) -> None:
    assert is_transient(_sqlite(code))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM nowhere",
        "SELECT nothing",
        "SELEC 1",
        "INSERT INTO sqlite_master (type) VALUES (1)",
        "SELECT json_extract('{', '$')",
        "SELECT nothing(1)",
        "SELECT abs(1, 2)",
        f"SELECT {','.join(['?'] * 40_000)}",
    ],
    ids=lambda statement: statement[:30],
)
def test_what_no_retry_mends_on_sqlite_is_a_bug(statement: str) -> None:
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError) as raised:
        connection.execute(statement)
    connection.close()

    assert not is_transient(_wrapped(raised.value, sqlite3.Error))


def test_a_value_that_sqlite_cannot_take_is_a_bug() -> None:
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.Error) as raised:
        connection.execute("SELECT ?", [object()])
    connection.close()

    assert not is_transient(_wrapped(raised.value, sqlite3.Error))


def test_a_connection_that_broke_is_tried_again_whatever_the_error() -> None:
    broken = _wrapped(psycopg.ProgrammingError("x"), psycopg.Error)
    broken.connection_invalidated = True

    assert is_transient(broken)


def test_an_exhausted_pool_is_tried_again() -> None:
    assert is_transient(PoolTimeout("x"))


@pytest.mark.parametrize(
    "error", [ValueError("x"), TimeoutError("x"), KeyboardInterrupt(), sqlite3.OperationalError("x")]
)
def test_an_error_that_is_not_the_database_s_is_none_of_ours(error: BaseException) -> None:
    assert not is_transient(error)
