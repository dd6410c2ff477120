"""The database for commands that work on it directly, in both modes; the embedded one also while `jobmill up` runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from models import migrate
from models.database import Database, connect_postgresql, connect_sqlite
from models.errors import SchemaMismatch
from settings import Settings

DATABASE_FILE = "jobmill.db"


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The database of these settings; raises SchemaMismatch unless its tables are those of this release."""
    database = connect(settings)
    try:
        migrate.require(database)
        yield database
    finally:
        database.close()


def connect(settings: Settings, connections: int = 1) -> Database:
    """The database, whatever tables it has. Raises SchemaMismatch when the file of the embedded mode is not there."""
    if settings.database_url is not None:
        return connect_postgresql(settings.database_url.get_secret_value(), "jobmill-cli", connections)
    path = settings.data_dir / DATABASE_FILE
    if not path.is_file():
        # Connecting would make an empty one.
        raise SchemaMismatch(f"There is no database at {path} yet. Run: jobmill db upgrade")
    return connect_sqlite(path, connections)
