"""Bringing a database's tables to this release, and saying whether they are.

Alembic is imported inside the functions: it is slow to import, and most processes never migrate.
"""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.orm import Session

from models.database import Database
from models.dialect import POSTGRESQL
from models.errors import SchemaMismatch

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0005"
"""The revision of this release; a test holds it against the scripts. Revisions sort as text."""

_SCRIPTS = Path(__file__).parent / "migrations"
# Any fixed number will do; it only keeps two migrations from running at once.
_MIGRATION_LOCK = 5_646_455_711
_WAITS_FOR = "500ms"
PATIENCE = timedelta(minutes=1)


def upgrade(database: Database) -> str:
    """Bring the tables to this release in one transaction; gives the revision. Safe to run twice or at once.

    Raises Unavailable when a transaction of somebody else's kept a table for a minute.
    """
    database.run(lambda session: _upgrade(database, session), PATIENCE)
    return HEAD


def _upgrade(database: Database, session: Session) -> None:
    from alembic import command

    connection = session.connection()
    if database.dialect == POSTGRESQL:
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        # Everyone who wants a table queues behind a migration that waits for it: rather try again than wait long.
        connection.execute(text(f"SET LOCAL lock_timeout = '{_WAITS_FOR}'"))
    command.upgrade(_config(connection), "head")


def current(database: Database) -> str | None:
    """The revision of the database's tables; None if there are none."""
    with database.reading() as session:
        if not inspect(session.connection()).has_table("alembic_version"):
            return None
        found: str | None = session.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return found


def require(database: Database) -> None:
    """Raises SchemaMismatch unless the tables are at this release's revision or a later one; quick, for start-up.

    A later revision is fine: migrations only add, so that old and new code can run side by side.
    """
    revision = current(database)
    if revision is None or revision < HEAD:
        raise SchemaMismatch(
            f"The database is at revision {revision or 'none'}, this release needs {HEAD}. Run: jobmill db upgrade"
        )


def check(database: Database) -> None:
    """Raises SchemaMismatch unless the tables are exactly those of this release."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from models.tables import metadata

    revision = current(database)
    if revision != HEAD:
        raise SchemaMismatch(
            f"The database is at revision {revision or 'none'}, this release needs {HEAD}. Run: jobmill db upgrade"
        )
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        if differences := compare_metadata(context, metadata):
            raise SchemaMismatch(f"The tables differ from revision {revision}: {differences[:5]}")


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
