"""What can go wrong with the truth, and which of it passes by itself.

    Unavailable        the database cannot be reached, or not in time
    SchemaMismatch     the database's tables are not those of this release

Driver errors that are worth another try are named here and nowhere else.
"""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# https://www.postgresql.org/docs/current/errcodes-appendix.html
SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"
_CONNECTION_CLASSES = ("08", "57P", "53")


class Unavailable(Exception):  # noqa: N818
    """The database cannot be reached, or did not answer in time. Nothing was decided; try again."""


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
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        # psycopg gives no SQLSTATE when the connection broke; SQLite gives none at all, and says BUSY in words.
        return isinstance(error, OperationalError) and _is_passing(str(error.orig))
    return state in {SERIALIZATION_FAILURE, DEADLOCK_DETECTED} or state.startswith(_CONNECTION_CLASSES)


def _is_passing(message: str) -> bool:
    # "no such table" and its like are OperationalErrors of SQLite too, and no retry mends them.
    return not any(sign in message for sign in ("no such", "syntax error", "has no column"))
