"""The next release's migration under load: old processes go on beside it, and are replaced one by one by new ones."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from models import migrate
from tests.acceptance.installation import Full, Installation
from tests.acceptance.ledger import Ledger
from tests.acceptance.process import jobmill
from tests.faults import figures
from tests.faults.conftest import Install
from tests.faults.crashing import revive
from tests.faults.health import HealthWatch
from tests.faults.invariants import check
from tests.faults.load import Load

FAULT = "postgresql-migration"
ROOT = Path(__file__).parents[2]
PARTS = ("api", "cli", "jobs", "models", "workers")
REVISION = "9999"
HELD_SECONDS = 5
ANSWERED_SECONDS = 3.0
FIRST = f'''"""What a release may do: add."""

import sqlalchemy as sa
from alembic import op

revision = "9998"
down_revision = "{migrate.HEAD}"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("added", sa.Text(), server_default="as it was", nullable=False))
    op.add_column("workers", sa.Column("added", sa.Integer()))
    op.create_table("added", sa.Column("id", sa.Uuid(), primary_key=True))
'''
SECOND = f'''"""What it may do to a large table."""

from models.migrations import online

revision = "{REVISION}"
down_revision = "9998"


def upgrade() -> None:
    online.in_batches("UPDATE jobs SET added = added WHERE id > :after AND id <= :upto", "jobs", 10)
    online.create_index("ix_jobs_added", "jobs", ["added", "id"])
'''  # noqa: S608 - no input


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """This release with two revisions more."""
    folder = tmp_path / "next"
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ("settings.py", "setting_forms.py"):
        shutil.copy(ROOT / module, folder)
    versions = folder / "models/migrations/versions"
    (versions / "9998_first.py").write_text(FIRST)
    (versions / "9999_second.py").write_text(SECOND)
    source = folder / "models/migrate.py"
    source.write_text(source.read_text().replace(f'HEAD = "{migrate.HEAD}"', f'HEAD = "{REVISION}"'))
    return folder


@pytest.fixture
def full(install: Install) -> Installation:
    return install(Full.mode, JOBMILL_THREADS="4")


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.fault(
    "postgresql-migration",
    "a copy of the product with two revisions more upgrades the tables under load while a transaction holds them, "
    "then takes over process by process",
)
def test_a_migration_under_load_is_not_noticed_and_old_and_new_processes_work_side_by_side(
    full: Installation, next_release: Path, ledger: Ledger, eventually: Callable[..., Any]
):
    newer = full.settings | {"PYTHONPATH": f"{next_release}:{full.settings['PYTHONPATH']}"}
    refused = jobmill("dispatcher", settings=newer, folder=full.folder)
    assert refused.returncode
    assert f"this release needs {REVISION}" in refused.stderr + refused.stdout
    with (
        HealthWatch(full.address) as watch,
        Load(full, "fault.quick", ledger.args, rate=30) as load,
        ThreadPoolExecutor(1) as threads,
    ):
        eventually(lambda: len(ledger.ends()) > 30)
        with psycopg.connect(full.settings["DATABASE_URL"]) as holder:
            holder.execute("SELECT count(*) FROM jobs")
            upgrading = threads.submit(jobmill, "db", "upgrade", settings=newer, folder=full.folder)
            eventually(lambda: waits(full), 20)
            time.sleep(HELD_SECONDS)  # not a hope: as long as a report may take
            assert not upgrading.done()
        assert REVISION in upgrading.result().stdout
        slowest = max(answered.after for answered in load.answered)
        goes_on(ledger, eventually)  # the old processes, on the new tables
        for name in ("worker", "dispatcher", "api"):
            process = full.processes[name]
            process.ask_to_end()
            process.end()
            process.settings["PYTHONPATH"] = newer["PYTHONPATH"]
            revive(full)
            goes_on(ledger, eventually)
        load.stop()
    assert slowest < ANSWERED_SECONDS
    check(full, ledger, load.accepted, faults=0, watch=watch)
    assert full.sql("SELECT DISTINCT added FROM jobs") == [("as it was",)]
    figures.keep(FAULT, "slowest 202 while it waited for an old transaction", slowest, "s")


def waits(full: Installation) -> bool:
    found = full.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'")
    return bool(found)


def goes_on(ledger: Ledger, eventually: Callable[..., Any]) -> None:
    ended = len(ledger.ends())
    eventually(lambda: len(ledger.ends()) > ended + 30, 30)
