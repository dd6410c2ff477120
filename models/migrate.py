"""Bringing a database's tables to this release, and saying whether they are.

Alembic is imported inside the functions: it is slow to import, and most processes never migrate.
"""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, MetaData, func, inspect, select, text

from models.database import Database
from models.dialect import POSTGRESQL, index_names, of_expression, unseen_expressions
from models.errors import SchemaMismatch, Trouble, Unavailable
from models.migrations import limits

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0019"
"""The revision of this release; a test holds it against the scripts. Revisions sort as text."""

_SCRIPTS = Path(__file__).parent / "migrations"
# Any fixed number will do; it only keeps two migrations from running at once.
_MIGRATION_LOCK = 5_646_455_711
PATIENCE = timedelta(minutes=1)


def upgrade(database: Database) -> str:
    """Bring the tables to this release; gives the revision. Safe to run twice or at once.

    On PostgreSQL each revision is a transaction, and one that fails leaves those before it; on SQLite they all are one.
    Raises SchemaMismatch for tables that no release made, and Unavailable when the database was away, or others kept a
    table or the upgrade itself, for a minute: on PostgreSQL from when the last revision was done.
    """
    found = database.patiently(lambda: current(database), PATIENCE)
    _refuse_unknown(found)
    if found == HEAD:
        return HEAD  # without Alembic, which would be a tenth of each start of `jobmill up`
    if database.dialect == POSTGRESQL:
        while database.patiently(lambda: _one_further(database), PATIENCE):
            pass
    else:
        database.run(lambda session: _upgrade(session.connection(), "head"), PATIENCE)
    return HEAD


def _one_further(database: Database) -> bool:
    """Bring the tables one revision further; whether there was one."""
    # Everyone who wants a table queues behind a migration that waits for it: rather try again than wait long.
    with database.connected(lock_timeout=limits.LOCK_TIMEOUT, statement_timeout="0") as connection:
        with connection.begin():  # ended before Alembic begins its own
            _let_no_other_run(connection)
            revision = _revision_of(connection)
        if revision is not None and revision >= HEAD:
            return False
        _upgrade(connection, "+1")
        return True


def _upgrade(connection: Connection, revision: str) -> None:
    from alembic import command

    command.upgrade(_config(connection), revision)


def _let_no_other_run(connection: Connection) -> None:
    """Keep other upgrades out as long as the connection lives; raises Unavailable when one is at work.

    The lock is the working connection's own: one apart could be lost unseen during a long revision. It is tried, since
    whoever waits within a statement keeps a snapshot, which the other's CREATE INDEX CONCURRENTLY would wait for.
    """
    if not connection.scalar(select(func.pg_try_advisory_lock(_MIGRATION_LOCK))):
        raise Unavailable("Another `jobmill db upgrade` is at work, and was for a minute.", Trouble.TIMEOUT)


def current(database: Database) -> str | None:
    """The revision of the database's tables; None if there are none."""
    with database.reading() as session:
        return _revision_of(session.connection())


def _revision_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def require(database: Database) -> None:
    """Raises SchemaMismatch unless the tables are at this release's revision or a later one; quick, for start-up.

    A later revision is fine: migrations only add, so that old and new code can run side by side.
    """
    revision = current(database)
    if revision is None or revision < HEAD:
        _refuse_unknown(revision)
        raise SchemaMismatch(_behind(revision))


def check(database: Database) -> None:
    """Raises SchemaMismatch unless the tables are exactly those of this release."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from models.tables import metadata

    revision = current(database)
    if revision != HEAD:
        _refuse_unknown(revision)
        raise SchemaMismatch(_behind(revision))
    with database.engine.connect() as connection, unseen_expressions():
        context = MigrationContext.configure(connection, opts={"compare_type": False, "include_object": _compared})
        differences = [*compare_metadata(context, metadata), *_missing_expressions(connection, metadata)]
        if differences:
            raise SchemaMismatch(f"The tables differ from revision {revision}: {differences[:5]}")


def _compared(found: Any, _name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
    return not (kind == "index" and of_expression(found))


def _missing_expressions(connection: Connection, metadata: MetaData) -> list[str]:
    """Indexes of expressions, which reflection does not tell of everywhere: at least they are there."""
    wanted = [(table, index) for table in metadata.sorted_tables for index in table.indexes if of_expression(index)]
    return [f"{one.name} is missing" for table, one in wanted if one.name not in index_names(connection, table.name)]


def _behind(revision: str | None) -> str:
    return f"The database is at revision {revision or 'none'}, this release needs {HEAD}. Run: jobmill db upgrade"


def _refuse_unknown(revision: str | None) -> None:
    """Raises SchemaMismatch unless this release has a way from the revision to its own."""
    if revision is None or revision in _known():
        return
    if revision > HEAD:
        raise SchemaMismatch(
            f"The database is at revision {revision} of a later release; this one's is {HEAD}. Install the later one."
        )
    raise SchemaMismatch(
        f"The database is at revision {revision}, which no release has: a version before the first made its tables, "
        f"and nothing leads from there to {HEAD}. Use an empty database, then run: jobmill db upgrade"
    )


def _known() -> set[str]:
    """The revisions of the scripts, which their files' names begin with."""
    return {path.name.split("_")[0] for path in (_SCRIPTS / "versions").glob("[0-9]*.py")}


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
