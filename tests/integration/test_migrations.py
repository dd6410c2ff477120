"""Migrations: twice, at once, from nothing; and tables that are not this release's are noticed."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from models import identity, migrate
from models.database import Database, connect_postgresql, connect_sqlite
from models.dead_groups import list_groups
from models.dead_letters import DeadFilter, list_dead
from models.dialect import POSTGRESQL, SQLITE
from models.errors import SchemaMismatch
from models.fingerprint import fingerprint
from models.identity import tenants
from models.ids import new_id
from models.migrations import online
from models.states import State
from models.tables import metadata
from tests.conftest import POOL_SIZE
from tests.factories import ago, columns_in, insert_jobs


@pytest.fixture(params=[POSTGRESQL, SQLITE])
def connect(request: pytest.FixtureRequest) -> Any:
    """Opens the same empty database as often as it is called."""
    opened: list[Database] = []

    def another() -> Database:
        if request.param == SQLITE:
            database = connect_sqlite(request.getfixturevalue("tmp_path") / "empty.db", POOL_SIZE)
        else:
            database = connect_postgresql(request.getfixturevalue("empty_database_url"), "jobmill-tests", POOL_SIZE)
        opened.append(database)
        return database

    yield another
    for database in opened:
        database.close()


Connect = Callable[[], Database]

UPGRADE = """
import sys
from pathlib import Path
from models import migrate
from models.database import connect_sqlite
print(migrate.upgrade(connect_sqlite(Path(sys.argv[1]), 1)), *sys.modules)
"""


def _secret(database: Database) -> bytes:
    with database.reading() as session:
        return identity.installation_secret(session)


def test_the_revision_of_this_release_is_that_of_its_last_script() -> None:
    assert ScriptDirectory(str(migrate._SCRIPTS)).get_heads() == [migrate.HEAD]


def test_an_empty_database_has_no_revision_and_is_refused(connect: Connect) -> None:
    database = connect()

    assert migrate.current(database) is None
    for check in (migrate.check, migrate.require):
        with pytest.raises(SchemaMismatch, match="jobmill db upgrade"):
            check(database)


def test_an_upgraded_database_is_that_of_this_release(connect: Connect) -> None:
    database = connect()

    assert migrate.upgrade(database) == migrate.HEAD
    assert migrate.current(database) == migrate.HEAD
    migrate.check(database)
    migrate.require(database)


def test_an_upgraded_database_keeps_its_tables_as_they_are_described(postgresql_database: Database) -> None:
    kept = text("SELECT relname, unnest(reloptions) FROM pg_class WHERE relkind = 'r' AND reloptions IS NOT NULL")
    with postgresql_database.reading() as session:
        found = {(name, option) for name, option in session.execute(kept)}

    assert found == {
        (table.name, f"{parameter}={value}")
        for table in metadata.sorted_tables
        for parameter, value in (table.dialect_options["postgresql"]["with"] or {}).items()
    }
    assert ("jobs", "autovacuum_vacuum_scale_factor=0.02") in found


def test_an_upgrade_done_twice_keeps_what_is_there(connect: Connect) -> None:
    database = connect()
    migrate.upgrade(database)
    secret = _secret(database)

    assert migrate.upgrade(database) == migrate.HEAD
    assert _secret(database) == secret
    assert len(secret) == 32


def test_tables_of_this_release_are_left_as_they_are_without_alembic(sqlite_path: Path) -> None:
    command = [sys.executable, "-c", UPGRADE, sqlite_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    revision, *loaded = done.stdout.split()
    assert revision == migrate.HEAD
    assert "alembic" not in loaded


def test_four_upgrades_at_once_make_one(connect: Connect) -> None:
    databases = [connect() for _ in range(4)]

    with ThreadPoolExecutor(4) as threads:
        upgrades = [threads.submit(migrate.upgrade, database) for database in databases]
        assert [upgrade.result(60) for upgrade in upgrades] == [migrate.HEAD] * 4

    migrate.check(databases[0])
    assert len({_secret(database) for database in databases}) == 1


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("ALTER TABLE workers DROP COLUMN version", "version"),
        ("ALTER TABLE jobs ADD COLUMN stray TEXT", "stray"),
        ("DROP INDEX jobs_claim", "jobs_claim"),
        ("DROP TABLE leases", "leases"),
    ],
)
def test_tables_that_were_changed_by_hand_are_noticed(connect: Connect, damage: str, named: str) -> None:
    database = connect()
    migrate.upgrade(database)
    with database.transaction() as session:
        session.execute(text(damage))

    with pytest.raises(SchemaMismatch, match=named):
        migrate.check(database)


def test_the_tables_of_a_later_release_are_served_and_not_called_this_ones(connect: Connect) -> None:
    database = connect()
    migrate.upgrade(database)

    database_says(database, "9999")
    migrate.require(database)
    with pytest.raises(SchemaMismatch, match="9999 of a later release"):
        migrate.check(database)


def test_the_tables_of_a_version_before_the_first_release_are_refused_for_what_they_are(connect: Connect) -> None:
    database = connect()
    migrate.upgrade(database)
    database_says(database, "0005")

    for refused in (migrate.check, migrate.require, migrate.upgrade):
        with pytest.raises(SchemaMismatch, match=r"revision 0005, which no release has.*empty database"):
            refused(database)


def database_says(database: Database, revision: str) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})


def test_an_upgrade_that_fails_leaves_nothing_behind(connect: Connect) -> None:
    database = connect()
    with database.transaction() as session:
        session.execute(text("CREATE TABLE job_events (in_the_way INTEGER)"))

    with pytest.raises(Exception, match="job_events"):
        migrate.upgrade(database)

    assert migrate.current(database) is None
    with database.transaction() as session:
        session.execute(text("DROP TABLE job_events"))
    assert migrate.upgrade(database) == migrate.HEAD


def _tenant_of_then(session: Session) -> UUID:
    """A tenant with the columns that the first release had."""
    made = {"id": new_id(), "name": "default", "created_at": ago()}
    return session.execute(insert(tenants).values(made).returning(tenants.c.id)).scalar_one()


def test_jobs_that_died_before_there_were_groups_are_in_one(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch at a time, and those alone."""
    database, first = connect(), tmp_path / "first"
    shutil.copytree(migrate._SCRIPTS, first, ignore=shutil.ignore_patterns("001[1-9]*"))
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "_SCRIPTS", first)
        patch.setattr(migrate, "HEAD", "0010")
        migrate.upgrade(database)
    with database.transaction() as session:
        tenant_id = _tenant_of_then(session)
        later = {"error_type", "fingerprint", "gate_id", "webhook"}
        rows = [columns_in(state, tenant_id) for state in (State.DEAD, State.DISCARDED) for _ in range(20)]
        insert_jobs(session, [{name: row[name] for name in row.keys() - later} for row in rows])

    monkeypatch.setattr(online, "BATCH", 7)
    migrate.upgrade(database)

    with database.reading() as session:
        [group] = list_groups(session, tenant_id, None, 10)
        assert (group.count, group.mark.fingerprint) == (20, fingerprint(rows[0]["error"]))
        assert len(list_dead(session, DeadFilter(tenant_id, error_type="ValueError"), None, 50).jobs) == 20
