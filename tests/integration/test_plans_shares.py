"""On PostgreSQL a fair claim costs what it takes, however many jobs wait beside, and finds few tenants among many."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import lineup, moves
from models.database import Database, connect_postgresql
from models.ids import new_id
from models.job import GATED_QUEUE
from models.states import State
from tests.conftest import PostgresqlServer
from tests.factories import jobs_in, tenant_id_of
from tests.questions import pages_of

BACKLOG = 20_000
FEW_TENANTS, MANY_TENANTS = 3, 150
SHARE, PAGES_A_JOB, PAGES_A_PROBE = 10, 60, 12  # a scan of the backlog's index alone is hundreds


@dataclass(frozen=True)
class Backlog:
    """A database in which jobs of many tenants wait in one queue."""

    database: Database
    queue: str


@pytest.fixture(scope="module", params=["default", GATED_QUEUE])
def backlog(
    request: pytest.FixtureRequest, postgresql_server: PostgresqlServer, postgresql_template: str
) -> Iterator[Backlog]:
    """Twenty thousand jobs of one tenant, a few of each other, with nothing vacuumed and statistics of before.

    In the gated queue those of a tenant wait at one gate, and the last one's at none.
    """
    name = postgresql_server.create(postgresql_template)
    database = connect_postgresql(postgresql_server.url_of(name), "jobmill-tests", pool_size=2)
    gated = request.param == GATED_QUEUE

    def waiting(session: Session, tenant: str, how_many: int, gate_id: UUID | None) -> None:
        columns = {"queue": request.param, "gate_id": gate_id if gated else None}
        jobs_in(session, State.QUEUED, how_many, tenant_id=tenant_id_of(session, tenant), **columns)

    with database.transaction() as session:
        session.execute(text("ALTER TABLE jobs SET (autovacuum_enabled = off)"))
        waiting(session, "large", BACKLOG, new_id())
    with database.transaction() as session:
        for number in range(MANY_TENANTS - 2):
            waiting(session, f"small-{number}", 2, new_id())
        waiting(session, "of no gate", 2, None)
    yield Backlog(database, request.param)
    database.close()
    postgresql_server.drop(name)


def pages(backlog: Backlog, ask: Callable[[Session], Any]) -> int:
    return pages_of(backlog.database, ask)


def lane(backlog: Backlog) -> lineup.Lane:
    with backlog.database.reading() as session:
        (found,) = lineup.lanes(session, backlog.queue)
    return found


def test_whose_jobs_wait_is_found_by_probes(backlog: Backlog) -> None:
    one = lane(backlog)
    few = pages(backlog, lambda session: lineup.waiting_shares(session, one, None, FEW_TENANTS))
    many = pages(backlog, lambda session: lineup.waiting_shares(session, one, None, MANY_TENANTS))

    assert one.shared
    assert few <= FEW_TENANTS * PAGES_A_PROBE
    assert many <= MANY_TENANTS * PAGES_A_PROBE


def test_the_lanes_of_a_backlog_of_many_tenants_are_found_by_probes(backlog: Backlog) -> None:
    assert pages(backlog, lambda session: lineup.lanes(session, backlog.queue)) <= 5 * PAGES_A_PROBE


@pytest.mark.parametrize("backlog", [GATED_QUEUE], indirect=True)
def test_each_tenant_s_first_gate_is_found_by_probes(backlog: Backlog) -> None:
    one = lane(backlog)
    with backlog.database.reading() as session:
        found = lineup.longest_due_gates(session, one, MANY_TENANTS)
    assert len({gate.tenant_id for gate in found}) == len(found) == MANY_TENANTS
    cost = pages(backlog, lambda session: lineup.longest_due_gates(session, one, MANY_TENANTS))
    assert cost <= MANY_TENANTS * PAGES_A_PROBE


def test_shares_are_claimed_without_a_walk_through_the_backlog(backlog: Backlog) -> None:
    with backlog.database.reading() as session:
        waiting = lineup.waiting_shares(session, lane(backlog), None, MANY_TENANTS)
    shares: dict[UUID, int] = {one.share_id: SHARE for one in waiting[:FEW_TENANTS]}

    claim = timedelta(seconds=60)
    cost = pages(backlog, lambda session: moves.claim_shares(session, backlog.queue, 0, shares, claim))
    assert cost <= FEW_TENANTS * SHARE * PAGES_A_JOB
