"""Transactions, their edges, and what comes out when the database goes away in the middle."""

import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models.connection import CONNECT_TIMEOUT, SESSION_SETTINGS, Connector
from models.database import (
    AlreadyOpen,
    Database,
    connect_postgresql,
    connect_sqlite,
    lock_directory,
)
from models.dialect import now
from models.errors import Trouble, Unavailable, Unstorable
from models.job import Ref, jobs
from models.states import State
from tests.conftest import PostgresqlServer
from tests.factories import job_in, jobs_in, row_of, tenant_id_of
from tests.proxy import Proxy
from tests.workbench import counted

NOT_AT_ALL = timedelta(0)


def _count(database: Database) -> int:
    with database.reading() as session:
        return session.execute(select(func.count()).select_from(jobs)).scalar_one()


# Transactions


def test_a_transaction_is_committed_when_its_block_ends(database: Database) -> None:
    with database.transaction() as session:
        job_in(session, State.QUEUED)

    assert _count(database) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_transaction_whose_block_raises_leaves_nothing(database: Database, error: type[BaseException]) -> None:
    def step(session: Session) -> None:
        job_in(session, State.QUEUED)
        raise error

    with pytest.raises(error):
        database.run(step)
    assert _count(database) == 0


def test_nobody_sees_what_is_not_committed(database: Database) -> None:
    with database.transaction() as session:
        job_in(session, State.QUEUED)
        assert _count(database) == 0


def test_a_bug_comes_out_as_it_is(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as session:
        job_in(session, State.QUEUED, priority=1000)


def test_a_step_that_fails_for_good_is_done_once(database: Database) -> None:
    calls = []

    def step(session: Session) -> None:
        calls.append(1)
        job_in(session, State.QUEUED, priority=1000)

    with pytest.raises(IntegrityError):
        database.run(step)
    assert calls == [1]


def test_the_clock_stands_still_within_a_statement_and_goes_on_after_it(database: Database) -> None:
    with database.transaction() as session:
        jobs_in(session, State.QUEUED, 500)
        within = session.execute(select(func.count(now().distinct())).select_from(jobs)).scalar_one()
        first, second = (session.execute(select(now())).scalar_one() for _ in range(2))

    assert within == 1
    assert first < second


def test_an_exhausted_pool_is_unavailable_within_seconds(database_url: str) -> None:
    with closing(connect_postgresql(database_url, "jobmill-tests", pool_size=1)) as database:
        with database.transaction() as session:
            session.execute(text("SELECT 1"))
            with pytest.raises(Unavailable):
                database.run(tenant_id_of, patience=NOT_AT_ALL)
        database.run(tenant_id_of, patience=NOT_AT_ALL)


def test_a_connection_that_is_given_back_after_the_end_is_closed(database_url: str) -> None:
    database = connect_postgresql(database_url, "jobmill-tests", pool_size=1)
    with database.transaction() as session:
        connection = session.connection().connection.driver_connection
        database.close()
        assert session.execute(text("SELECT 1")).scalar_one() == 1
    assert connection.closed


# PostgreSQL going away


def _end_own_backend(session: Session) -> None:
    session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_a_connection_that_is_cut_is_unavailable(postgresql_database: Database) -> None:
    with pytest.raises(Unavailable), postgresql_database.transaction() as session:
        _end_own_backend(session)

    postgresql_database.ping()


def test_a_step_whose_connection_is_cut_is_done_again_from_its_beginning(postgresql_database: Database) -> None:
    seen = []

    def step(session: Session) -> None:
        seen.append(session.execute(select(func.count()).select_from(jobs)).scalar_one())
        job_in(session, State.QUEUED)
        if len(seen) < 3:
            _end_own_backend(session)

    postgresql_database.run(step)

    assert seen == [0, 0, 0]
    assert _count(postgresql_database) == 1


def _cut_every_idle_connection(database: Database, server: PostgresqlServer) -> None:
    """Leave two connections in the pool, and have the server close both."""
    with database.transaction() as one, database.transaction() as other:
        pids = [session.execute(text("SELECT pg_backend_pid()")).scalar_one() for session in (one, other)]
    server.end_backends(pids)


def test_connections_that_were_cut_while_idle_are_replaced_unnoticed(
    postgresql_database: Database, postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.engines.TRUSTED_SECONDS", 0)
    _cut_every_idle_connection(postgresql_database, postgresql_server)

    with postgresql_database.transaction() as one, postgresql_database.transaction() as other:
        one.execute(text("SELECT 1"))
        other.execute(text("SELECT 1"))


def test_a_step_that_meets_a_connection_cut_just_now_is_done_again(
    postgresql_database: Database, postgresql_server: PostgresqlServer
) -> None:
    _cut_every_idle_connection(postgresql_database, postgresql_server)

    postgresql_database.run(tenant_id_of)


def test_an_idle_transaction_that_the_server_ended_is_unavailable(
    postgresql_database: Database, eventually: Callable[..., Any]
) -> None:
    def idle(session: Session) -> None:
        pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '10ms'"))
        eventually(lambda: not _alive(postgresql_database, pid))
        session.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        postgresql_database.run(idle, patience=NOT_AT_ALL)


def _alive(database: Database, pid: int) -> bool:
    with database.reading() as session:
        found = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        return bool(session.execute(found, {"pid": pid}).scalar_one())


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
def test_a_statement_that_takes_too_long_is_unavailable(postgresql_database: Database, setting: str) -> None:
    ref = postgresql_database.run(partial(job_in, state=State.QUEUED))
    change = update(jobs).where(jobs.c.id == ref.id).values(priority=1)

    def wait_briefly(session: Session) -> None:
        session.execute(text(f"SET LOCAL {setting} = '50ms'"))
        session.execute(change)

    with postgresql_database.transaction() as holder:
        holder.execute(change)
        with pytest.raises(Unavailable):
            postgresql_database.run(wait_briefly, patience=NOT_AT_ALL)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with closing(connect_postgresql("postgresql://nobody@127.0.0.1:1/none", "jobmill-tests", 1)) as database:
        with pytest.raises(Unavailable):
            database.ping()
        with pytest.raises(Unavailable):
            database.run(tenant_id_of, patience=NOT_AT_ALL)


def test_a_table_that_is_not_there_is_a_bug(database: Database) -> None:
    with pytest.raises(Exception, match="nowhere") as raised, database.transaction() as session:
        session.execute(text("SELECT * FROM nowhere"))
    assert not isinstance(raised.value, Unavailable)


def test_every_connection_has_the_product_s_settings(postgresql_database: Database) -> None:
    with postgresql_database.reading() as session:
        shown = {name: session.execute(text(f"SHOW {name}")).scalar_one() for name in SESSION_SETTINGS}
        shown |= {"name": session.execute(text("SHOW application_name")).scalar_one()}

    assert shown == {**SESSION_SETTINGS, "idle_in_transaction_session_timeout": "1min", "name": "jobmill-tests"}


def test_an_url_as_platforms_give_it_is_understood(database_url: str) -> None:
    several = database_url.replace("postgresql://", "postgres://").replace("@", "@127.0.0.1:1,")

    with closing(connect_postgresql(several, "jobmill-tests", 1)) as database:
        database.ping()


def test_a_deadlock_is_resolved_and_both_steps_are_done(postgresql_database: Database) -> None:
    refs = [postgresql_database.run(partial(job_in, state=State.QUEUED)) for _ in range(2)]
    both_hold_one = threading.Barrier(2, timeout=10)
    met: set[int] = set()

    def raise_priorities(session: Session, first: int) -> None:
        _raise_priority(session, refs[first])
        if first not in met:
            met.add(first)
            both_hold_one.wait()
        _raise_priority(session, refs[1 - first])

    with ThreadPoolExecutor(2) as threads:
        steps = [threads.submit(postgresql_database.run, partial(raise_priorities, first=n)) for n in range(2)]
        for step in steps:
            step.result(30)

    with postgresql_database.reading() as session:
        assert [row_of(session, ref)["priority"] for ref in refs] == [2, 2]


def _raise_priority(session: Session, ref: Ref) -> None:
    session.execute(update(jobs).where(jobs.c.id == ref.id).values(priority=jobs.c.priority + 1))


@pytest.mark.fault("postgresql-error-classes", "a session that the server turned read-only, as one of a lost primary")
def test_a_server_that_does_not_write_any_more_is_left(postgresql_database: Database) -> None:
    for opened in (postgresql_database.transaction, postgresql_database.single, postgresql_database.heart):
        with opened() as session:
            before = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
            session.execute(text("SET default_transaction_read_only = on"))
            session.commit()
        counted_before = counted("jobmill_database_errors_total", kind="read-only")
        with pytest.raises(Unavailable), opened() as session:
            job_in(session, State.QUEUED)
        assert counted("jobmill_database_errors_total", kind="read-only") == counted_before + 1
        with opened() as session:
            assert session.execute(text("SELECT pg_backend_pid()")).scalar_one() != before
            job_in(session, State.QUEUED)


def test_a_step_that_meets_a_read_only_server_is_done_on_the_next_connection(postgresql_database: Database) -> None:
    with postgresql_database.transaction() as session:
        session.execute(text("SET default_transaction_read_only = on"))

    postgresql_database.run(partial(job_in, state=State.QUEUED))

    assert _count(postgresql_database) == 1


@pytest.mark.fault(
    "postgresql-pool-exhausted", "sessions left open hold every connection; heartbeats and claims have their own"
)
def test_heartbeats_and_claims_have_connections_when_everyone_else_s_are_taken(database_url: str) -> None:
    with closing(connect_postgresql(database_url, "jobmill-tests", pool_size=1)) as database, ExitStack() as stack:
        for opened in (database.transaction, database.single):
            stack.enter_context(opened()).execute(text("SELECT 1"))
        began = time.monotonic()
        with database.heart() as session:
            session.execute(text("SELECT 1"))
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("value", ["a\0b", 2**70], ids=["nul", "huge"])
def test_a_value_that_no_column_holds_is_unstorable_and_tried_once(
    postgresql_database: Database, value: str | int
) -> None:
    column = {str: "type", int: "max_attempts"}[type(value)]
    calls = []

    def step(session: Session) -> None:
        calls.append(1)
        job_in(session, State.QUEUED, **{column: value})

    with pytest.raises(Unstorable):
        postgresql_database.run(step)
    assert (calls, _count(postgresql_database)) == ([1], 0)


def test_the_first_try_counts_towards_the_patience(database_url: str) -> None:
    calls = []

    def slow(_session: Session) -> None:
        calls.append(1)
        time.sleep(0.2)
        raise Unavailable("slow")

    with closing(connect_postgresql(database_url, "jobmill-tests", 1)) as database, pytest.raises(Unavailable):
        database.run(slow, patience=timedelta(seconds=0.1))
    assert calls == [1]


# Silence


def test_a_server_that_says_nothing_is_given_up_when_the_limit_is_over(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.engines.LIMIT_SECONDS", 0.3)
    proxy = Proxy(database_url)
    with closing(proxy), closing(connect_postgresql(proxy.url, "jobmill-tests", 1)) as database:
        database.ping()
        began = time.monotonic()
        with proxy.frozen(), pytest.raises(Unavailable):
            database.run_single(tenant_id_of, patience=NOT_AT_ALL)
        assert time.monotonic() - began < 2
        database.run_single(tenant_id_of)


def test_a_slow_answer_is_no_silence(database_url: str) -> None:
    with closing(connect_postgresql(database_url, "jobmill-tests", 1, prompt=True)) as database:
        with database.single() as session:
            session.execute(text("SELECT pg_sleep(1.5)"))
        assert database.pulse is not None
        assert database.pulse.away_since is None


def test_while_the_server_is_silent_who_asks_is_told_at_once(database_url: str, eventually: Callable[..., Any]) -> None:
    proxy = Proxy(database_url)
    with closing(proxy), closing(connect_postgresql(proxy.url, "jobmill-tests", 2, prompt=True)) as database:
        database.run_single(tenant_id_of)
        took = []
        with proxy.black_hole():
            for _ in range(30):
                began = time.monotonic()
                with pytest.raises(Unavailable):
                    database.run_single(tenant_id_of, patience=NOT_AT_ALL)
                took.append(time.monotonic() - began)
        assert max(took) < 1
        assert sorted(took)[len(took) // 2] < 0.05
        eventually(lambda: _serves(database), within_seconds=5)
        database.run(tenant_id_of, patience=NOT_AT_ALL)  # not on a connection that is half-open since


def test_whoever_waits_behind_others_for_a_thread_is_told_within_a_second_as_well(database_url: str) -> None:
    threads, callers = 4, 40
    proxy = Proxy(database_url)
    with closing(proxy), closing(connect_postgresql(proxy.url, "jobmill-tests", threads, prompt=True)) as database:
        with ThreadPoolExecutor(threads) as warm:
            list(warm.map(lambda _: database.run_single(_slowly), range(threads)))
        with proxy.black_hole(), ThreadPoolExecutor(threads) as pool:
            began = time.monotonic()
            told = [pool.submit(_moment_of_refusal, run) for run in _both_pools(database, callers)]
            assert max(one.result() for one in told) - began < 1


def _slowly(session: Session) -> None:
    session.execute(text("SELECT pg_sleep(0.05)"))


def _both_pools(database: Database, count: int) -> list[Callable[..., Any]]:
    return [database.run_single, database.run] * (count // 2)


def _moment_of_refusal(run: Callable[..., Any]) -> float:
    with pytest.raises(Unavailable):
        run(tenant_id_of, timedelta(seconds=0.3))
    return time.monotonic()


def _serves(database: Database) -> bool:
    try:
        database.run_single(tenant_id_of, patience=NOT_AT_ALL)
    except Unavailable:
        return False
    return True


def test_of_several_hosts_the_one_that_served_is_asked_first(database_url: str) -> None:
    mute = socket.create_server(("127.0.0.1", 0))
    several = database_url.replace("@", f"@127.0.0.1:{mute.getsockname()[1]},")
    with closing(mute):
        connector = Connector(several, "jobmill-tests")
        connector().close()  # after it waited for the mute one
        began = time.monotonic()
        connector().close()
    assert time.monotonic() - began < CONNECT_TIMEOUT / 2


# SQLite

ADDERS, ADDITIONS = 4, 25


def test_no_update_is_lost_when_many_read_and_then_write(sqlite_database: Database) -> None:
    ref = sqlite_database.run(partial(job_in, state=State.QUEUED))

    def add(session: Session) -> None:
        found = row_of(session, ref)["max_attempts"]
        session.execute(update(jobs).where(jobs.c.id == ref.id).values(max_attempts=found + 1))

    def add_all() -> None:
        for _ in range(ADDITIONS):
            with sqlite_database.transaction() as session:
                add(session)

    with ThreadPoolExecutor(ADDERS) as threads:
        for adder in [threads.submit(add_all) for _ in range(ADDERS)]:
            adder.result(60)

    with sqlite_database.reading() as session:
        assert row_of(session, ref)["max_attempts"] == 5 + ADDERS * ADDITIONS


def test_a_transaction_that_will_write_holds_the_write_lock_from_its_beginning(sqlite_database: Database) -> None:
    path = str(sqlite_database.path)
    with sqlite_database.transaction() as session, closing(sqlite3.connect(path, timeout=0)) as other:
        session.execute(select(func.count()).select_from(jobs))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")


def test_readers_do_not_wait_for_a_writer_and_see_what_was_committed(sqlite_database: Database) -> None:
    sqlite_database.run(partial(job_in, state=State.QUEUED))

    with sqlite_database.transaction() as session:
        job_in(session, State.QUEUED)
        with ThreadPoolExecutor(1) as threads:
            assert threads.submit(_count, sqlite_database).result(1) == 1
    assert _count(sqlite_database) == 2


def test_a_writer_does_not_wait_for_a_reader(sqlite_database: Database) -> None:
    with sqlite_database.reading() as reader:
        before = reader.execute(select(func.count()).select_from(jobs)).scalar_one()
        sqlite_database.run(partial(job_in, state=State.QUEUED), patience=NOT_AT_ALL)
        assert reader.execute(select(func.count()).select_from(jobs)).scalar_one() == before


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("busy_timeout", 5000), ("foreign_keys", 1)]
)
def test_every_sqlite_connection_is_durable_and_patient(sqlite_database: Database, pragma: str, value: Any) -> None:
    with sqlite_database.transaction() as first, sqlite_database.reading() as second:
        for session in (first, second):
            assert session.execute(text(f"PRAGMA {pragma}")).scalar_one() == value


def test_many_that_open_a_new_file_at_once_all_can(tmp_path: Path) -> None:
    with closing(connect_sqlite(tmp_path / "new.db", 8)) as database, ThreadPoolExecutor(8) as threads:
        for ping in [threads.submit(database.ping) for _ in range(8)]:
            ping.result(30)


def test_a_full_disk_is_unavailable_and_goes_on_once_there_is_room(sqlite_database: Database) -> None:
    with sqlite_database.reading() as session:
        pages = session.execute(text("PRAGMA page_count")).scalar_one()
    big = {"tags": {"note": "x" * 100_000}}

    def fill(session: Session) -> None:
        session.execute(text(f"PRAGMA max_page_count = {pages}"))
        job_in(session, State.QUEUED, **big)

    with pytest.raises(Unavailable) as raised:
        sqlite_database.run(fill, patience=NOT_AT_ALL)
    assert raised.value.trouble is Trouble.FULL
    assert _count(sqlite_database) == 0

    with sqlite_database.transaction() as session:
        session.execute(text("PRAGMA max_page_count = 1000000"))
    sqlite_database.run(lambda session: job_in(session, State.QUEUED, **big), patience=NOT_AT_ALL)


def test_a_writer_that_finds_another_at_work_for_too_long_is_unavailable(sqlite_database: Database) -> None:
    path = Path(str(sqlite_database.path))
    with sqlite_database.transaction() as writer, closing(connect_sqlite(path, 1)) as other:
        job_in(writer, State.QUEUED)
        with other.reading() as session:
            session.connection().exec_driver_sql("PRAGMA busy_timeout=50")
        with pytest.raises(Unavailable) as raised:
            other.run(partial(job_in, state=State.QUEUED), patience=NOT_AT_ALL)
    assert raised.value.trouble is Trouble.CROWDED


_COMMIT_FOR_EVER = """
import sys
from pathlib import Path
from models.database import connect_sqlite
from models.states import State
from tests.factories import jobs_in
database = connect_sqlite(Path(sys.argv[1]), 1)
while True:
    with database.transaction() as session:
        jobs_in(session, State.QUEUED, 7)
    print("committed", flush=True)
"""


@pytest.mark.fault("sqlite-killed", "a process killed (-9) in the middle of its commits, five times")
def test_a_process_killed_in_its_commits_leaves_a_whole_file_with_all_that_was_committed(sqlite_path: Path) -> None:
    committed = 0
    for round_number in range(5):
        command = [sys.executable, "-c", _COMMIT_FOR_EVER, str(sqlite_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as writer:
            assert writer.stdout is not None
            for _ in range(10 + 7 * round_number):
                assert writer.stdout.readline()
            writer.kill()
            committed += 10 + 7 * round_number + len(writer.stdout.readlines())

    with closing(connect_sqlite(sqlite_path, 1)) as database, database.reading() as session:
        assert session.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        found = session.execute(select(func.count()).select_from(jobs)).scalar_one()
    assert found % 7 == 0
    assert committed <= found // 7 <= committed + 5  # the last of each may have been committed before it was said


# The data directory

_TRY_TO_LOCK = """
import sys
from pathlib import Path
from models.database import AlreadyOpen, lock_directory
try:
    lock_directory(Path(sys.argv[1]))
except AlreadyOpen as error:
    sys.exit(f"refused: {error}")
"""


def _lock_in_another_process(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _TRY_TO_LOCK, str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_second_process_on_a_data_directory_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    with lock_directory(tmp_path):
        second = _lock_in_another_process(tmp_path)

    assert second.returncode == 1
    assert str(tmp_path) in second.stderr
    assert "JOBMILL_DATA_DIR" in second.stderr


def test_a_second_opener_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with lock_directory(tmp_path), pytest.raises(AlreadyOpen):
        lock_directory(tmp_path)


def test_a_data_directory_that_was_let_go_can_be_taken(tmp_path: Path) -> None:
    lock_directory(tmp_path).close()

    assert _lock_in_another_process(tmp_path).returncode == 0


def test_a_data_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "data"
    lock_directory(directory).close()

    assert directory.stat().st_mode & 0o777 == 0o700
