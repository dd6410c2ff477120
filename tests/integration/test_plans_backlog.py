"""On PostgreSQL a sudden backlog, of which the planner's statistics know nothing yet, is not read for each question."""

from collections.abc import Iterator

import psycopg
import pytest

from models.database import Database, connect_postgresql
from models.ids import new_id
from models.states import State
from tests.conftest import PostgresqlServer
from tests.factories import columns_in, insert_jobs, tenant_id_of
from tests.questions import (
    QUESTIONS,
    QUEUES,
    TENANTS,
    TYPES,
    Crowd,
    crowd_of,
    nodes_of,
    plan_of,
)

FINISHED, BACKLOG = 40, 30_000
UNHEARD_OF = """
    UPDATE pg_class SET relpages = pg_relation_size(oid) / 8192, relallvisible = 0,
        reltuples = CASE relkind WHEN 'i' THEN 2 ELSE 42 END
    WHERE relname = 'jobs' OR relname LIKE 'jobs!_%' ESCAPE '!' AND relkind = 'i'"""
PAGES = 700  # the backlog's own are a thousand, and those of any of its indexes hundreds
"""A claim of fifty jobs touches some pages for each."""


@pytest.fixture(scope="module")
def surprised(postgresql_server: PostgresqlServer, postgresql_template: str) -> Iterator[tuple[Database, Crowd]]:
    """A database that was vacuumed and analysed amid the insertion of a backlog, before its commit.

    What a table knows of itself then is written into the catalogue here: pages as there are, and next to no rows.
    """
    name = postgresql_server.create(postgresql_template)
    database = connect_postgresql(postgresql_server.url_of(name), "jobmill-tests", pool_size=2)
    with database.transaction() as session:
        tenant_id = tenant_id_of(session, TENANTS[0])
        one = {"type": TYPES[0], "queue": QUEUES[0]}
        insert_jobs(session, [columns_in(State.SUCCEEDED, tenant_id, **one) for _ in range(FINISHED)])
        insert_jobs(session, [columns_in(State.QUEUED, tenant_id, **one)])
    with psycopg.connect(postgresql_server.url_of(name), autocommit=True) as client:
        client.execute("VACUUM (ANALYZE) jobs")
        client.execute("ALTER TABLE jobs SET (autovacuum_enabled = off)")
    with database.transaction() as session:
        waiting = columns_in(State.QUEUED, tenant_id, **one)
        insert_jobs(session, [waiting | {"id": new_id()} for _ in range(BACKLOG)])
        crowd = crowd_of(session)
    with psycopg.connect(postgresql_server.url_of(name), autocommit=True) as client:
        client.execute(UNHEARD_OF)
    yield database, crowd
    database.close()
    postgresql_server.drop(name)


@pytest.mark.parametrize(
    "question",
    ["lanes", "lanes of several queues", "claim", "claim shares", "lead", "waiting tenants", "oldest due"],
)
def test_a_dispatcher_asks_for_what_comes_first_and_reads_no_more(
    surprised: tuple[Database, Crowd], question: str
) -> None:
    database, crowd = surprised
    plan = plan_of(database, lambda session: QUESTIONS[question](session, crowd))
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < PAGES, [
        node["Node Type"] for node in nodes_of(plan)
    ]
