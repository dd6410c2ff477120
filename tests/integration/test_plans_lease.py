"""On PostgreSQL the renewal that tells whether jobs wait costs a few pages, whatever the statistics believe."""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import text, update

from models import lease
from models.database import Database, connect_postgresql
from models.ids import new_id
from models.job import jobs
from models.states import State
from tests.conftest import PostgresqlServer
from tests.factories import ago, jobs_in
from tests.questions import nodes_of, plan_of

BACKLOG = 20_000
FEW_PAGES = 60


@pytest.fixture(scope="module")
def drained(postgresql_server: PostgresqlServer, postgresql_template: str) -> Iterator[Database]:
    """A backlog that was there when statistics were made, and is gone."""
    name = postgresql_server.create(postgresql_template)
    database = connect_postgresql(postgresql_server.url_of(name), "jobmill-tests", pool_size=2)
    with database.transaction() as session:
        session.execute(text("ALTER TABLE jobs SET (autovacuum_enabled = off)"))
        jobs_in(session, State.QUEUED, BACKLOG)
        session.execute(text("ANALYZE jobs"))
    with database.transaction() as session:
        columns = {"state": State.SUCCEEDED, "started_at": ago(), "dispatched_at": ago(), "finished_at": ago()}
        session.execute(update(jobs).values(attempt=1, lease=1, worker_id=new_id(), **columns))
    with psycopg.connect(postgresql_server.url_of(name), autocommit=True) as client:
        client.execute("VACUUM jobs")
    yield database
    database.close()
    postgresql_server.drop(name)


def test_a_renewal_does_not_read_the_table_because_much_waited_once(drained: Database) -> None:
    plan = plan_of(drained, lambda session: lease.lead(session, "dispatcher", new_id(), timedelta(seconds=5)))

    scanned = [node["Relation Name"] for node in nodes_of(plan) if node["Node Type"] == "Seq Scan"]
    assert "jobs" not in scanned
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < FEW_PAGES
