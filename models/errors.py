"""What can go wrong with the truth, and which of it passes by itself.

    Unavailable        the database cannot be reached, or not in time; the same step may succeed later
    Unstorable         a value that the database holds in no column; nothing was stored
    SchemaMismatch     the database's tables are not those of this release

Every error of a driver is told apart here and nowhere else. What is none of these is a bug.
"""

import sqlite3
from enum import StrEnum

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

READ_ONLY_TRANSACTION = "25006"


class Trouble(StrEnum):
    """What kind of thing went wrong; the label of `jobmill_database_errors_total`."""

    CONNECTION = "connection"
    """It broke, was refused, or was ended by the server: the next try makes a new one."""
    READ_ONLY = "read-only"
    """This server may not write (any more): the next try asks for one that may."""
    CONFLICT = "conflict"
    """Two transactions stood in each other's way, and this one gave in."""
    TIMEOUT = "timeout"
    """A lock or a statement took too long."""
    FULL = "full"
    """The disk is full."""
    CROWDED = "crowded"
    """There are too many of us: connections, memory, writers."""
    STORAGE = "storage"
    """The file cannot be read or written."""
    AWAY = "away"
    """It was not asked, since it has not answered for a while."""
    VALUE = "value"
    """A value that no column can hold."""
    BUG = "bug"
    """Anything else: no retry mends it."""


LASTING = {Trouble.VALUE, Trouble.BUG}
OF_ONE = frozenset({Trouble.TIMEOUT, Trouble.CONFLICT})
"""What one row may bring about for all that a statement is about: somebody holds it."""

# https://www.postgresql.org/docs/current/errcodes-appendix.html: a code, or the class that begins it. Longest first.
_BY_SQLSTATE = {
    "40001": Trouble.CONFLICT,  # serialization_failure
    "40P01": Trouble.CONFLICT,  # deadlock_detected
    "55P03": Trouble.TIMEOUT,  # lock_not_available
    "57014": Trouble.TIMEOUT,  # query_canceled
    READ_ONLY_TRANSACTION: Trouble.READ_ONLY,
    "53100": Trouble.FULL,  # disk_full
    "57P": Trouble.CONNECTION,  # shutdowns, crashes, cannot_connect_now, idle_session_timeout
    "08": Trouble.CONNECTION,
    "53": Trouble.CROWDED,  # too_many_connections, out_of_memory
    "22": Trouble.VALUE,
}

# https://www.sqlite.org/rescode.html; ERROR is what is wrong with the statement.
_BY_SQLITE_CODE = {
    sqlite3.SQLITE_ERROR: Trouble.BUG,
    sqlite3.SQLITE_BUSY: Trouble.CROWDED,
    sqlite3.SQLITE_LOCKED: Trouble.CROWDED,
    sqlite3.SQLITE_NOMEM: Trouble.CROWDED,
    sqlite3.SQLITE_INTERRUPT: Trouble.TIMEOUT,
    sqlite3.SQLITE_READONLY: Trouble.READ_ONLY,
    sqlite3.SQLITE_FULL: Trouble.FULL,
}


class Unavailable(Exception):  # noqa: N818
    """The database cannot be reached, or did not answer in time; a COMMIT may have succeeded."""

    def __init__(self, message: str, trouble: Trouble = Trouble.CONNECTION) -> None:
        super().__init__(message)
        self.trouble = trouble


class Unstorable(Exception):  # noqa: N818
    """The database cannot hold one of the values, such as a text with a NUL character; nothing was stored."""


class SchemaMismatch(Exception):  # noqa: N818
    """The database's tables are not those of this release. Run: jobmill db upgrade."""


def trouble_of(error: BaseException) -> Trouble | None:
    """What kind of trouble with the database an error is; None if it is none of the database's."""
    if isinstance(error, PoolTimeout):
        return Trouble.CROWDED
    if not isinstance(error, DBAPIError):
        return None
    state = getattr(error.orig, "sqlstate", None)
    if state == READ_ONLY_TRANSACTION:
        return Trouble.READ_ONLY  # its connection was dropped for it
    if error.connection_invalidated:
        return Trouble.CONNECTION
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_trouble(error, error.orig)
    return _postgresql_trouble(error) if state is None else _sqlstate_trouble(state)


def is_transient(error: BaseException) -> bool:
    """Whether the same step, done again from its beginning, may succeed."""
    trouble = trouble_of(error)
    return trouble is not None and trouble not in LASTING


def _postgresql_trouble(error: DBAPIError) -> Trouble:
    """What psycopg itself says: it gives no SQLSTATE when the connection broke, or for what it does not send."""
    if isinstance(error, DataError):
        return Trouble.VALUE
    return Trouble.CONNECTION if isinstance(error, OperationalError | InterfaceError) else Trouble.BUG


def _sqlstate_trouble(state: str) -> Trouble:
    return next((trouble for begin, trouble in _BY_SQLSTATE.items() if state.startswith(begin)), Trouble.BUG)


def _sqlite_trouble(error: DBAPIError, cause: sqlite3.Error) -> Trouble:
    if isinstance(error, DataError):
        return Trouble.VALUE
    if isinstance(error, InterfaceError):
        return Trouble.CONNECTION
    if not isinstance(error, OperationalError):
        return Trouble.BUG
    return _BY_SQLITE_CODE.get(cause.sqlite_errorcode & 0xFF, Trouble.STORAGE)
