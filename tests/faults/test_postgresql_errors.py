"""Each class of PostgreSQL's errors, provoked on a real server: told apart, counted, done again where that helps."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from models.database import Database, connect_postgresql
from models.errors import LASTING, Trouble, Unavailable, Unstorable, trouble_of
from models.job import Ref
from models.states import State
from tests.acceptance.installation import Full, Installation
from tests.acceptance.ledger import Ledger
from tests.factories import ago, job_in, row_of
from tests.faults.conftest import Install
from tests.faults.evidence import own_tenant
from tests.faults.invariants import check
from tests.workbench import counted

A_WHILE_SECONDS = 3600
"""So long nobody but the test touches its jobs, unless it says so."""
RAISE = "UPDATE jobs SET priority = priority + 1 WHERE id = "


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    return install(Full.mode)


@pytest.fixture
def database(installation: Installation) -> Iterator[Database]:
    """The installation's database, as one of its processes has it."""
    database = connect_postgresql(installation.settings["DATABASE_URL"], "jobmill-tests", pool_size=2)
    yield database
    database.close()


class Other:
    """Somebody else on the same database, and two jobs to meet over."""

    def __init__(self, connection: psycopg.Connection[Any], refs: list[Ref]) -> None:
        self.connection = connection
        self.mine, self.theirs = (f"{RAISE}'{ref.id}'" for ref in refs)

    def does(self, statement: str) -> None:
        self.connection.execute(statement.encode())


def serialization(session: Session, other: Other) -> None:
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    session.execute(text("SELECT count(*) FROM jobs"))
    other.does(other.mine)
    other.connection.commit()
    session.execute(text(other.mine))


def deadlock(session: Session, other: Other) -> None:
    session.execute(text("SET LOCAL deadlock_timeout = '50ms'"))  # so that this side finds out and gives in
    other.does("SET LOCAL deadlock_timeout = '60s'")
    other.does(other.theirs)
    session.execute(text(other.mine))
    waiting = threading.Thread(target=other.does, args=[other.mine])
    waiting.start()
    try:
        session.execute(text(other.theirs))
    finally:
        session.rollback()
        waiting.join(10)


def lock_timeout(session: Session, other: Other) -> None:
    session.execute(text("SET LOCAL lock_timeout = '50ms'"))
    other.does(other.mine)
    session.execute(text(other.mine))


def statement_timeout(session: Session, other: Other) -> None:
    session.execute(text("SET LOCAL statement_timeout = '50ms'"))
    session.execute(text("SELECT pg_sleep(10)"))


def shut_down(session: Session, other: Other) -> None:
    pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
    other.does(f"SELECT pg_terminate_backend({pid}, 5000)")
    session.execute(text("SELECT 1"))


def idle_in_transaction(session: Session, other: Other) -> None:
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '20ms'"))
    pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
    gone = False
    while not gone:
        found = other.connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
        gone = found.fetchone() is None
        other.connection.commit()
    session.execute(text("SELECT 1"))


def read_only(session: Session, other: Other) -> None:
    session.execute(text("SET TRANSACTION READ ONLY"))
    session.execute(text(other.mine))


def out_of_bounds(session: Session, other: Other) -> None:
    session.execute(text("SET LOCAL temp_file_limit = '64kB'"))
    session.execute(text("SET LOCAL work_mem = '64kB'"))
    session.execute(text("SELECT count(*) FROM (SELECT n FROM generate_series(1, 1000000) n ORDER BY -n) AS sorted"))


def nul_character(session: Session, other: Other) -> None:
    session.execute(text("SELECT CAST(:given AS jsonb)"), {"given": r'"\u0000"'})


def lone_surrogate(session: Session, other: Other) -> None:
    session.execute(text("SELECT CAST(:given AS jsonb)"), {"given": r'"\ud800"'})


def too_large(session: Session, other: Other) -> None:
    session.execute(text("SELECT CAST(2147483648 AS integer)"))


def no_such_table(session: Session, other: Other) -> None:
    session.execute(text("SELECT 1 FROM nowhere"))


def nonsense_row(session: Session, other: Other) -> None:
    session.execute(text(other.mine.replace("priority + 1", "1000")))


Provoke = Callable[[Session, Other], None]
CLASSES: dict[Provoke, Trouble] = {
    serialization: Trouble.CONFLICT,
    deadlock: Trouble.CONFLICT,
    lock_timeout: Trouble.TIMEOUT,
    statement_timeout: Trouble.TIMEOUT,
    shut_down: Trouble.CONNECTION,
    idle_in_transaction: Trouble.CONNECTION,
    read_only: Trouble.READ_ONLY,
    out_of_bounds: Trouble.CROWDED,
    nul_character: Trouble.VALUE,
    lone_surrogate: Trouble.VALUE,
    too_large: Trouble.VALUE,
    no_such_table: Trouble.BUG,
    nonsense_row: Trouble.BUG,
}


@pytest.mark.fault(
    "postgresql-error-classes",
    "serialization failure, deadlock, lock and statement timeout, ended backend, idle transaction, read-only, a limit "
    "of the server, values no column holds, bugs: each by two real sessions",
)
@pytest.mark.parametrize(("provoke", "trouble"), CLASSES.items(), ids=[provoke.__name__ for provoke in CLASSES])
def test_each_class_of_errors_is_told_counted_and_done_again_where_that_helps(
    provoke: Provoke, trouble: Trouble, installation: Installation, database: Database, ledger: Ledger
) -> None:
    submitted = [installation.submit("fault.quick", ledger.args, delay_seconds=A_WHILE_SECONDS) for _ in range(2)]
    refs = [Ref(UUID(job["id"]), 0) for job in submitted]
    tenant_id = UUID(own_tenant(installation))
    tries = []
    made: list[Ref] = []

    def step(session: Session) -> None:
        tries.append(1)
        if len(tries) == 1:
            with closing(psycopg.connect(installation.settings["DATABASE_URL"])) as connection:
                provoke(session, Other(connection, refs))
        made.append(
            job_in(
                session, State.QUEUED, type="fault.quick", args=ledger.args, tenant_id=tenant_id, due_at=ago(hours=-1)
            )
        )

    there = _jobs(database)
    before = counted("jobmill_database_errors_total", kind=trouble)
    raised = _raised_by(lambda: database.run(step, patience=timedelta(0)))
    assert _kind(raised) is trouble
    assert counted("jobmill_database_errors_total", kind=trouble) == before + 1
    assert _jobs(database) == there  # nothing of the step is left

    made.clear()
    if trouble not in LASTING:
        tries.clear()
        database.run(step)
        assert len(tries) == 2
        assert _jobs(database) == there + 1
    with database.reading() as session:
        assert row_of(session, refs[1])["priority"] == 0

    submitted += [{"id": str(ref.id)} for ref in made]
    installation.accepted += submitted[len(refs) :]
    installation.sql("UPDATE jobs SET due_at = now() WHERE state = 'queued'")
    check(installation, ledger, submitted, faults=0)


def _raised_by(step: Callable[[], None]) -> Exception:
    try:
        step()
    except (Unavailable, Unstorable, DBAPIError) as error:
        return error
    pytest.fail("the error was not provoked")


def _kind(raised: Exception) -> Trouble | None:
    if isinstance(raised, Unavailable):
        return raised.trouble
    return Trouble.VALUE if isinstance(raised, Unstorable) else trouble_of(raised)


def _jobs(database: Database) -> int:
    with database.reading() as session:
        found: int = session.execute(text("SELECT count(*) FROM jobs")).scalar_one()
        return found
