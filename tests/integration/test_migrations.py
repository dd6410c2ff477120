"""Migrations: twice, at once, from nothing; and tables that are not this release's are noticed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from models import identity, migrate, worker
from models.database import Database, connect_postgresql, connect_sqlite
from models.dialect import POSTGRESQL, SQLITE
from models.errors import SchemaMismatch
from tests.conftest import POOL_SIZE


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


def test_an_upgrade_done_twice_keeps_what_is_there(connect: Connect) -> None:
    database = connect()
    migrate.upgrade(database)
    secret = _secret(database)

    assert migrate.upgrade(database) == migrate.HEAD
    assert _secret(database) == secret
    assert len(secret) == 32


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


def test_the_tables_of_an_older_release_are_refused_and_those_of_a_later_one_served(connect: Connect) -> None:
    database = connect()
    migrate.upgrade(database)

    _say_revision(database, "0000")
    with pytest.raises(SchemaMismatch, match="0000"):
        migrate.require(database)
    _say_revision(database, "9999")
    migrate.require(database)
    with pytest.raises(SchemaMismatch, match="9999"):
        migrate.check(database)


def _say_revision(database: Database, revision: str) -> None:
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


def test_a_worker_of_the_release_before_counts_as_one_that_consumes(empty_database_url: str) -> None:
    database = connect_postgresql(empty_database_url, "jobmill-tests", POOL_SIZE)
    migrate.upgrade(database)
    told = "id, host, pid, queues, threads, version, started_at, heartbeat_at"
    values = "gen_random_uuid(), 'h', 1, '[\"default\"]', 3, '0.0.9', now(), now()"
    with database.transaction() as session:
        session.execute(text(f"INSERT INTO workers ({told}) VALUES ({values})"))  # noqa: S608 - all of it is above

    with database.reading() as session:
        assert worker.capacities(session)["default"].threads == 3
    database.close()


@pytest.mark.fault(
    "postgresql-migration", "a transaction that has read the table is open while an upgrade wants to alter it"
)
def test_an_upgrade_that_waits_for_an_old_transaction_lets_others_work_meanwhile(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        database = stack.enter_context(closing(connect_postgresql(empty_database_url, "jobmill-tests", POOL_SIZE)))
        migrate.upgrade(database)
        config = migrate._config

        def alters(connection: Connection) -> Any:
            connection.execute(text("ALTER TABLE tenants ADD COLUMN added text"))
            return config(connection)

        monkeypatch.setattr(migrate, "_config", alters)
        holder = stack.enter_context(psycopg.connect(empty_database_url))
        holder.execute("SELECT count(*) FROM tenants")
        threads = stack.enter_context(ThreadPoolExecutor(1))
        upgrading = threads.submit(migrate.upgrade, database)
        waits = [_read_a_tenant(database) for _ in range(40)]
        assert not upgrading.done()
        holder.rollback()
        assert upgrading.result(10) == migrate.HEAD
    assert max(waits) < 1


def _read_a_tenant(database: Database) -> float:
    began = time.monotonic()
    with database.reading() as session:
        session.execute(text("SELECT count(*) FROM tenants"))
    took = time.monotonic() - began
    time.sleep(0.05)
    return took
