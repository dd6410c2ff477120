"""Two sets of jobs that share keys, sent at once in opposite orders: neither may wait for what the other waits for.

A trigger stops each transaction before its second row, until both have come as far as they can.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from jobs import submit
from jobs.submit import NotUnique, Recorded, Refused
from models.database import Database
from models.errors import Trouble, Unavailable
from models.ids import new_id
from models.job import NewJob
from models.moves import record
from tests.factories import new_job

BARRIER = 4711
STOP_BEFORE_THE_SECOND_ROW = f"""
    CREATE FUNCTION stop_before_the_second_row() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF coalesce(current_setting('tests.rows', true), '') = '1' THEN
            PERFORM pg_advisory_xact_lock_shared({BARRIER});
        END IF;
        PERFORM set_config('tests.rows', '1', true);
        RETURN NEW;
    END $$;
    CREATE TRIGGER stop BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION stop_before_the_second_row();
"""
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO jobs%'
"""


@pytest.fixture
def barrier(postgresql_database: Database, database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Holds up every transaction before its second row, until `pg_advisory_unlock_all`."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(STOP_BEFORE_THE_SECOND_ROW)
        connection.execute("SELECT pg_advisory_lock(%s)", [BARRIER])
        yield connection


def _two(database: Database, member: str) -> list[NewJob]:
    keys = {"idempotency_key": (None, None), "unique_key": (None, None)} | {member: ("k1", "k2")}
    unique, idempotent = keys["unique_key"], keys["idempotency_key"]
    with database.transaction() as session:
        return [
            new_job(session, id=new_id(), unique_key=unique[at], idempotency_key=idempotent[at], request_hash=b"same")
            for at in range(2)
        ]


def _at_once(
    database: Database,
    barrier: psycopg.Connection[Any],
    eventually: Callable[..., Any],
    step: Callable[..., Any],
    sets: list[list[NewJob]],
) -> list[Any]:
    with ThreadPoolExecutor(2) as threads:
        running = [
            threads.submit(database.run, lambda session, new=new: step(session, new), timedelta(0)) for new in sets
        ]
        try:
            eventually(lambda: barrier.execute(WAITING).fetchone() == (2,))
        finally:
            barrier.execute("SELECT pg_advisory_unlock_all()")
        return [one.exception(20) or one.result() for one in running]


@pytest.mark.parametrize("member", ["unique_key", "idempotency_key"])
def test_batches_that_share_keys_in_opposite_orders_do_not_wait_for_each_other(
    postgresql_database: Database, barrier: psycopg.Connection[Any], eventually: Callable[..., Any], member: str
) -> None:
    sets = [_two(postgresql_database, member), _two(postgresql_database, member)[::-1]]

    answers = _at_once(postgresql_database, barrier, eventually, submit.record_all, sets)

    kinds = sorted(_kind(answer) for answers_of_one in answers for answer in answers_of_one)
    assert (
        kinds
        == {
            "unique_key": ["new", "new", "not unique", "not unique"],
            "idempotency_key": ["new", "new", "replayed", "replayed"],
        }[member]
    )


def _kind(answer: Recorded | Refused) -> str:
    if isinstance(answer, NotUnique):
        return "not unique"
    assert isinstance(answer, Recorded), answer
    return "replayed" if answer.replayed else "new"


@pytest.mark.parametrize("member", ["unique_key", "idempotency_key"])
def test_without_their_order_they_would(
    postgresql_database: Database, barrier: psycopg.Connection[Any], eventually: Callable[..., Any], member: str
) -> None:
    sets = [_two(postgresql_database, member), _two(postgresql_database, member)[::-1]]

    answers = _at_once(postgresql_database, barrier, eventually, record, sets)

    (given_up,) = (answer for answer in answers if isinstance(answer, Unavailable))
    assert given_up.trouble is Trouble.CONFLICT
