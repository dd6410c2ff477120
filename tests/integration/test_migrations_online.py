"""How later revisions run: each in a transaction of its own, and those for large tables without holding anybody up."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from models import engines, migrate
from models.connection import Patient
from models.database import Database, connect_postgresql
from models.errors import Unavailable
from models.states import State
from tests.factories import columns_in, insert_jobs, tenant_id_of

Add = Callable[[str, str], None]
JOBS = 250
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE starts_with(query, '{}') AND wait_event_type = 'Lock' AND datname = current_database()
"""
ENDED = "SELECT pg_terminate_backend(pg_backend_pid())"
HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
IMPATIENCE = 0.4


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "PATIENCE", timedelta(seconds=IMPATIENCE))


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """Adds a revision to those of this release: its number and the body of its `upgrade`."""
    scripts = tmp_path / "migrations"
    shutil.copytree(migrate._SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrate, "_SCRIPTS", scripts)

    def added(revision: str, body: str) -> None:
        (scripts / "versions" / f"{revision}_added.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import op\nfrom models.migrations import online\n"
            f"revision, down_revision = {revision!r}, {migrate.HEAD!r}\n"
            f"def upgrade():\n    {body}\n"
        )
        monkeypatch.setattr(migrate, "HEAD", revision)

    return added


def _fill(database: Database) -> None:
    with database.transaction() as session:
        tenant_id = tenant_id_of(session, "blue")
        insert_jobs(session, [columns_in(State.SUCCEEDED, tenant_id) for _ in range(JOBS)])


def _ask(database: Database, statement: str) -> Any:
    with database.reading() as session:
        return session.execute(text(statement)).scalar_one()


def test_a_revision_that_fails_leaves_those_before_it(postgresql_database: Database, add: Add) -> None:
    add("0100", 'op.add_column("tenants", sa.Column("good", sa.Text()))')
    add("0101", 'op.execute("ALTER TABLE tenants ADD bad text; ALTER TABLE nobodys ADD bad text")')

    with pytest.raises(Exception, match="nobodys"):
        migrate.upgrade(postgresql_database)

    assert migrate.current(postgresql_database) == "0100"
    assert _ask(postgresql_database, "SELECT count(good) FROM tenants") == 0
    assert not _ask(
        postgresql_database,
        "SELECT count(*) FROM information_schema.columns WHERE table_name = 'tenants' AND column_name = 'bad'",
    )


def _upgrade_behind(
    holder: psycopg.Connection, database: Database, statement: str, eventually: Callable[..., Any]
) -> None:
    """Upgrade while that statement of it has to wait for the holder's transaction, and others go on meanwhile."""
    with ThreadPoolExecutor(1) as threads:
        upgrading = threads.submit(migrate.upgrade, database)
        eventually(lambda: _ask(database, WAITING.format(statement)))
        began = time.monotonic()
        _fill(database)
        took = time.monotonic() - began
        assert not upgrading.done()
        holder.commit()
        assert upgrading.result(20) == "0100"
    assert took < 2


@pytest.mark.timed
def test_an_index_on_a_large_table_is_made_while_others_write_to_it(
    postgresql_database: Database, database_url: str, add: Add, eventually: Callable[..., Any]
) -> None:
    _fill(postgresql_database)
    add("0100", 'online.create_index("jobs_added", "jobs", ["request_id"], where="request_id IS NOT NULL")')

    with psycopg.connect(database_url) as holder:
        holder.execute("UPDATE jobs SET request_id = 'held'")
        _upgrade_behind(holder, postgresql_database, "CREATE INDEX CONCURRENTLY", eventually)

    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'jobs_added'::regclass"
    assert _ask(postgresql_database, valid) is True


@pytest.mark.timed
def test_storage_parameters_are_set_once_a_vacuum_is_over_while_others_read_and_write(
    postgresql_database: Database, database_url: str, add: Add, eventually: Callable[..., Any]
) -> None:
    add("0100", 'online.set_storage("jobs", "autovacuum_vacuum_cost_delay = 5")')

    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE jobs IN SHARE UPDATE EXCLUSIVE MODE")  # as VACUUM does
        _upgrade_behind(holder, postgresql_database, "ALTER TABLE", eventually)

    set_now = "SELECT 'autovacuum_vacuum_cost_delay=5' = ANY (reloptions) FROM pg_class WHERE relname = 'jobs'"
    assert _ask(postgresql_database, set_now) is True


def test_an_index_that_an_upgrade_left_half_made_is_made_anew(postgresql_database: Database, add: Add) -> None:
    with postgresql_database.transaction() as session:
        session.execute(text("CREATE INDEX jobs_added ON jobs (lost)"))
        session.execute(text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'jobs_added'::regclass"))
    add("0100", 'online.create_index("jobs_added", "jobs", ["request_id"])')

    migrate.upgrade(postgresql_database)

    made = "SELECT indisvalid AND pg_get_indexdef(indexrelid) LIKE '%(request_id)' FROM pg_index"
    assert _ask(postgresql_database, f"{made} WHERE indexrelid = 'jobs_added'::regclass") is True


def test_a_backfill_reaches_every_row_a_batch_a_transaction(database: Database, add: Add) -> None:
    _fill(database)
    statement = "UPDATE jobs SET request_id = 'filled' WHERE id > :after AND id <= :upto"
    add("0100", f"online.in_batches({statement!r}, 'jobs', 100)")

    migrate.upgrade(database)

    assert _ask(database, "SELECT count(*) FROM jobs WHERE request_id = 'filled'") == JOBS
    if database.path is None:
        assert _ask(database, "SELECT count(DISTINCT xmin::text) FROM jobs") == 3


def test_an_index_of_a_later_revision_is_made_on_sqlite_too(sqlite_database: Database, add: Add) -> None:
    add("0100", 'online.create_index("jobs_added", "jobs", ["request_id"])')

    assert migrate.upgrade(sqlite_database) == "0100"
    assert _ask(sqlite_database, "SELECT count(*) FROM sqlite_master WHERE name = 'jobs_added'") == 1


def test_a_statement_of_a_revision_may_take_longer_than_one_of_a_request(
    database_url: str, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LIMIT_SECONDS", 0.5)
    database = connect_postgresql(database_url, "jobmill-tests", 2)
    add("0100", 'op.execute("SELECT pg_sleep(1)")')

    assert migrate.upgrade(database) == "0100"
    database.close()


def test_an_upgrade_says_that_another_keeps_it_waiting(
    postgresql_database: Database, database_url: str, add: Add, impatient: None
) -> None:
    add("0100", 'op.execute("SELECT 1")')

    with psycopg.connect(database_url) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [migrate._MIGRATION_LOCK])
        with pytest.raises(Unavailable, match="Another `jobmill db upgrade`"):
            migrate.upgrade(postgresql_database)
    assert migrate.upgrade(postgresql_database) == "0100"


def test_a_revision_is_tried_again_however_long_those_before_it_took(
    postgresql_database: Database, tmp_path: Path, add: Add, impatient: None
) -> None:
    flag = tmp_path / "tried"
    add("0100", f'op.execute("SELECT pg_sleep({2 * IMPATIENCE})")')
    once = f"flag.exists() or flag.touch() or op.execute({ENDED!r})"
    add("0101", f"import pathlib; flag = pathlib.Path({str(flag)!r}); {once}")

    assert migrate.upgrade(postgresql_database) == "0101"
    assert flag.exists()


def test_an_upgrade_waits_for_a_database_that_is_not_there_yet(
    database_url: str, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("0100", 'op.execute("SELECT 1")')
    connect, refusals = Patient.connect, iter(range(5))

    def refused(*given: Any, **options: Any) -> Any:
        if next(refusals, None) is not None:
            raise psycopg.OperationalError("connection refused")
        return connect(*given, **options)

    monkeypatch.setattr(Patient, "connect", refused)
    database = connect_postgresql(database_url, "jobmill-tests", 2)

    assert migrate.upgrade(database) == "0100"
    assert next(refusals, None) is None
    database.close()


def test_the_lock_between_upgrades_is_the_working_connection_s_own(postgresql_database: Database, add: Add) -> None:
    add("0100", f'op.execute("CREATE TABLE held AS {HELD}")')

    migrate.upgrade(postgresql_database)

    assert _ask(postgresql_database, "SELECT count FROM held") == 1


@pytest.mark.timed
@pytest.mark.fault(
    "postgresql-migration", "a transaction that has read the table is open while an upgrade wants to alter it"
)
def test_an_upgrade_that_waits_for_an_old_transaction_lets_others_work_meanwhile(
    postgresql_database: Database, database_url: str, add: Add
) -> None:
    add("0100", 'op.add_column("tenants", sa.Column("added", sa.Text()))')

    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("SELECT count(*) FROM tenants")
        upgrading = threads.submit(migrate.upgrade, postgresql_database)
        waits = [_read_a_tenant(postgresql_database) for _ in range(40)]
        assert not upgrading.done()
        holder.rollback()
        assert upgrading.result(10) == "0100"

    assert max(waits) < 1
    assert _ask(postgresql_database, "SELECT count(added) FROM tenants") == 0


def _read_a_tenant(database: Database) -> float:
    began = time.monotonic()
    with database.reading() as session:
        session.execute(text("SELECT count(*) FROM tenants"))
    took = time.monotonic() - began
    time.sleep(0.05)
    return took
