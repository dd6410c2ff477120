"""Which errors of the database pass by themselves."""

import sqlite3

import psycopg
import pytest
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.errors import Trouble, is_transient, trouble_of

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


KINDS = [
    (pg.SerializationFailure, Trouble.CONFLICT),
    (pg.DeadlockDetected, Trouble.CONFLICT),
    (pg.LockNotAvailable, Trouble.TIMEOUT),
    (pg.QueryCanceled, Trouble.TIMEOUT),
    (pg.ReadOnlySqlTransaction, Trouble.READ_ONLY),
    (pg.DiskFull, Trouble.FULL),
    (pg.TooManyConnections, Trouble.CROWDED),
    (pg.OutOfMemory, Trouble.CROWDED),
    (pg.AdminShutdown, Trouble.CONNECTION),  # 57P01
    (pg.CrashShutdown, Trouble.CONNECTION),  # 57P02
    (pg.CannotConnectNow, Trouble.CONNECTION),  # 57P03
    (pg.DatabaseDropped, Trouble.CONNECTION),  # 57P04
    (pg.IdleSessionTimeout, Trouble.CONNECTION),  # 57P05
    (pg.ConnectionFailure, Trouble.CONNECTION),
    (psycopg.OperationalError, Trouble.CONNECTION),
    (pg.NumericValueOutOfRange, Trouble.VALUE),
    (pg.UntranslatableCharacter, Trouble.VALUE),
    (pg.InvalidTextRepresentation, Trouble.VALUE),
    (psycopg.DataError, Trouble.VALUE),
    (pg.UniqueViolation, Trouble.BUG),
    (pg.UndefinedTable, Trouble.BUG),
    (pg.InFailedSqlTransaction, Trouble.BUG),
]


@pytest.mark.fault("postgresql-error-classes", "errors of each class as the driver raises them")
@pytest.mark.parametrize(("kind", "trouble"), KINDS)
def test_each_class_of_errors_of_postgresql_is_told_apart(kind: type[psycopg.Error], trouble: Trouble) -> None:
    assert trouble_of(_wrapped(kind("x"), psycopg.Error)) is trouble


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Trouble.CROWDED),
        (sqlite3.SQLITE_FULL, Trouble.FULL),
        (sqlite3.SQLITE_READONLY, Trouble.READ_ONLY),
        (sqlite3.SQLITE_IOERR_WRITE, Trouble.STORAGE),
        (sqlite3.SQLITE_ERROR, Trouble.BUG),
    ],
)
def test_each_class_of_errors_of_sqlite_is_told_apart(code: int, trouble: Trouble) -> None:
    assert trouble_of(_sqlite(code)) is trouble


def test_a_server_that_turned_read_only_is_told_from_a_connection_that_broke() -> None:
    dropped = _wrapped(pg.ReadOnlySqlTransaction("x"), psycopg.Error)
    dropped.connection_invalidated = True  # as the pool is told to

    assert trouble_of(dropped) is Trouble.READ_ONLY


def test_what_is_none_of_the_database_s_has_no_kind() -> None:
    assert trouble_of(ValueError("x")) is None
