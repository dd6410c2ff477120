"""On PostgreSQL a fair claim costs what it takes, however many jobs wait beside, and finds few tenants among many."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import lineup, moves
from models.database import Database
from models.states import State
from tests.factories import columns_in, insert_jobs, jobs_in, tenant_id_of
from tests.questions import statements

BACKLOG = 20_000
FEW_TENANTS, MANY_TENANTS = 3, 150
SHARE, PAGES_A_JOB, PAGES_A_PROBE = 10, 60, 12  # a scan of the backlog's index alone is hundreds


@pytest.fixture
def backlog(postgresql_database: Database) -> Database:
    """Twenty thousand jobs of one tenant, a few of each other, with nothing vacuumed and statistics of before."""
    with postgresql_database.transaction() as session:
        session.execute(text("ALTER TABLE jobs SET (autovacuum_enabled = off)"))
        large = tenant_id_of(session, "large")
        insert_jobs(session, [columns_in(State.QUEUED, large) for _ in range(BACKLOG)])
    with postgresql_database.transaction() as session:
        for number in range(MANY_TENANTS - 1):
            jobs_in(session, State.QUEUED, 2, tenant_id=tenant_id_of(session, f"small-{number}"))
    return postgresql_database


def pages(database: Database, ask: Callable[[Session], Any]) -> int:
    """The pages that the one statement of a question touches, explained as the session sends it."""
    with Session(database.engine) as session:
        with statements(session) as seen:
            ask(session)
        session.rollback()
        ((statement, parameters),) = seen
        explained = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement
        plan = session.connection().exec_driver_sql(explained, parameters).scalar_one()[0]["Plan"]
        session.rollback()
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def lane(session: Session) -> lineup.Lane:
    (found,) = lineup.lanes(session, "default")
    return found


def test_whose_jobs_wait_is_found_by_probes(backlog: Database) -> None:
    with backlog.reading() as session:
        default = lane(session)
    few = pages(backlog, lambda session: lineup.waiting_shares(session, default, None, FEW_TENANTS))
    many = pages(backlog, lambda session: lineup.waiting_shares(session, default, None, MANY_TENANTS))

    assert default.shared
    assert few <= FEW_TENANTS * PAGES_A_PROBE
    assert many <= MANY_TENANTS * PAGES_A_PROBE


def test_the_lanes_of_a_backlog_of_many_tenants_are_found_by_probes(backlog: Database) -> None:
    assert pages(backlog, lambda session: lineup.lanes(session, "default")) <= 5 * PAGES_A_PROBE


def test_shares_are_claimed_without_a_walk_through_the_backlog(backlog: Database) -> None:
    with backlog.reading() as session:
        waiting = lineup.waiting_shares(session, lane(session), None, MANY_TENANTS)
    shares: dict[UUID, int] = {one.share_id: SHARE for one in waiting[:FEW_TENANTS]}

    claim = timedelta(seconds=60)
    cost = pages(backlog, lambda session: moves.claim_shares(session, "default", 0, shares, claim))
    assert cost <= FEW_TENANTS * SHARE * PAGES_A_JOB
