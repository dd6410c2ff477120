"""What can go wrong with the truth, and which of it passes by itself.

    Unavailable        the database cannot be reached, or not in time
    SchemaMismatch     the database's tables are not those of this release

Driver errors that are worth another try are named here and nowhere else.
"""

import sqlite3

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# https://www.postgresql.org/docs/current/errcodes-appendix.html
SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"
_PASSING = {SERIALIZATION_FAILURE, DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE, QUERY_CANCELED}
_CONNECTION_CLASSES = ("08", "57P", "53")


class Unavailable(Exception):  # noqa: N818
    """The database cannot be reached, or did not answer in time; a COMMIT may have succeeded."""


class SchemaMismatch(Exception):  # noqa: N818
    """The database's tables are not those of this release. Run: jobmill db upgrade."""


def is_transient(error: BaseException) -> bool:
    """Whether the same step, done again from its beginning, may succeed."""
    if isinstance(error, PoolTimeout | InterfaceError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        return isinstance(error, OperationalError) and _primary_code(error.orig) != sqlite3.SQLITE_ERROR
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError)  # psycopg gives no SQLSTATE when the connection broke
    return state in _PASSING or state.startswith(_CONNECTION_CLASSES)


def _primary_code(error: sqlite3.Error) -> int:
    # https://www.sqlite.org/rescode.html: BUSY, LOCKED, FULL, IOERR and their like have codes of their own;
    # ERROR is what is wrong with the statement, and no retry mends it.
    return error.sqlite_errorcode & 0xFF
