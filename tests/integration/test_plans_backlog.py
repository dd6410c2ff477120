"""On PostgreSQL a sudden backlog, of which the planner's statistics know nothing yet, is not read for each question."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from models.database import connect_postgresql
from models.ids import new_id
from models.states import State
from tests.conftest import PostgresqlServer
from tests.factories import columns_in, insert_jobs, tenant_id_of
from tests.questions import (
    QUESTIONS,
    QUEUES,
    TENANTS,
    TYPES,
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


class Backlog:
    """A database of one tenant's jobs of one type, few of them ended, and of what its statistics know."""

    def __init__(self, server: PostgresqlServer, template: str) -> None:
        self.name = server.create(template)
        self.url = server.url_of(self.name)
        self.database = connect_postgresql(self.url, "jobmill-tests", pool_size=2)
        self.add(State.SUCCEEDED, FINISHED)

    def add(self, state: State, how_many: int, **columns: Any) -> None:
        with self.database.transaction() as session:
            one = columns_in(state, tenant_id_of(session, TENANTS[0]), type=TYPES[0], queue=QUEUES[0], **columns)
            insert_jobs(session, [one | {"id": new_id()} for _ in range(how_many)])

    def tell_statistics(self) -> None:
        """Have them know what there is, and nothing of what comes after."""
        with psycopg.connect(self.url, autocommit=True) as client:
            client.execute("VACUUM (ANALYZE) jobs")
            client.execute("ALTER TABLE jobs SET (autovacuum_enabled = off)")

    def blocks_read(self, question: str) -> tuple[int, list[str]]:
        """How many, and by what."""
        with self.database.reading() as session:
            crowd = crowd_of(session)
        plan = plan_of(self.database, lambda session: QUESTIONS[question](session, crowd))
        used = [node.get("Index Name", node["Node Type"]) for node in nodes_of(plan)]
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], used


@pytest.fixture(scope="module")
def backlog(postgresql_server: PostgresqlServer, postgresql_template: str) -> Iterator[Callable[[], Backlog]]:
    made: list[Backlog] = []

    def make() -> Backlog:
        made.append(Backlog(postgresql_server, postgresql_template))
        return made[-1]

    yield make
    for one in made:
        one.database.close()
        postgresql_server.drop(one.name)


@pytest.fixture(scope="module")
def surprised(backlog: Callable[[], Backlog]) -> Backlog:
    """One that was vacuumed and analysed amid the insertion of a backlog, before its commit.

    What a table knows of itself then is written into the catalogue here: pages as there are, and next to no rows.
    """
    made = backlog()
    made.add(State.QUEUED, 1)
    made.tell_statistics()
    made.add(State.QUEUED, BACKLOG)
    with psycopg.connect(made.url, autocommit=True) as client:
        client.execute(UNHEARD_OF)
    return made


@pytest.fixture(scope="module")
def overtaken(backlog: Callable[[], Backlog]) -> Backlog:
    """One that knows its backlog well, and nothing of the one job of another priority that came since."""
    made = backlog()
    made.add(State.QUEUED, BACKLOG)
    made.tell_statistics()
    made.add(State.QUEUED, 1, priority=10)
    return made


@pytest.mark.parametrize("question", ["lanes", "look of the dispatcher", "claim", "claim shares", "waiting tenants"])
def test_a_job_that_overtakes_a_backlog_is_found_without_reading_that(overtaken: Backlog, question: str) -> None:
    blocks, used = overtaken.blocks_read(question)
    assert blocks < PAGES, used


@pytest.mark.parametrize(
    "question",
    ["lanes", "look of the dispatcher", "claim", "claim shares", "lead", "waiting tenants", "oldest due"],
)
def test_a_dispatcher_asks_for_what_comes_first_and_reads_no_more(surprised: Backlog, question: str) -> None:
    blocks, used = surprised.blocks_read(question)
    assert blocks < PAGES, used
