"""On PostgreSQL no question reads the whole table of jobs, and none costs more for more finished jobs."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.orm import Session

from models import lists, queue_figures
from models.database import connect_postgresql, postgresql_connector
from tests.conftest import PostgresqlServer
from tests.questions import QUESTIONS, Crowd, add_finished, add_live, crowd_of, nodes_of, statements

FEW, MANY = 2_000, 20_000
# What ten times as many rows may cost: a level more in each index a row is in. A scan would cost ten times.
GROWTH, GROWTH_FACTOR = 24, 1.5
LOOKED_AT, PAGES_A_LOOK = 100, 4  # an index of three levels, and the table
ANALYSED_WITHIN = 30
# psycopg prepares what runs often, and PostgreSQL may then settle on one plan for all parameters.
MODES = ("auto", "force_generic_plan")


@dataclass(frozen=True)
class Crowded:
    """A database full of jobs; `session` is rolled back by whoever uses it, `client` explains."""

    session: Session
    client: psycopg.Connection[Any]
    crowd: Crowd


@dataclass(frozen=True)
class Cost:
    """What one question came to: the tables it read from end to end, and the pages it touched.

    One that `looks` does so at a bounded number of jobs, of which there may be fewer in a small crowd.
    """

    looks: bool
    scanned: list[str]
    buffers: int
    plans: str


@pytest.fixture(autouse=True)
def look_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a page look at fewer jobs than the smaller crowd has, so that a page that looks at all is told from it."""
    monkeypatch.setattr(lists, "LOOKED_AT", LOOKED_AT)
    monkeypatch.setattr(queue_figures, "MOST_LOOKED_AT", LOOKED_AT)


@pytest.fixture(scope="module")
def crowded(postgresql_server: PostgresqlServer, postgresql_template: str) -> Iterator[dict[int, Crowded]]:
    names = {FEW: postgresql_server.create(postgresql_template)}
    _fill(postgresql_server.url_of(names[FEW]), 0, FEW)
    names[MANY] = postgresql_server.create(names[FEW])
    _fill(postgresql_server.url_of(names[MANY]), FEW, MANY)
    opened = {size: _open(postgresql_server.url_of(name)) for size, name in names.items()}
    yield opened
    for size, name in names.items():
        opened[size].client.close()
        opened[size].session.get_bind().dispose()  # type: ignore[union-attr]
        postgresql_server.drop(name)


def _fill(url: str, first: int, last: int) -> None:
    database = connect_postgresql(url, "jobmill-tests", pool_size=1)
    with database.transaction() as session:
        add_finished(session, last - first, first)
        if first == 0:
            add_live(session)
    database.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        # Else what the questions leave behind would be cleared away in the smaller one alone, if the run takes a while:
        # where one table is analysed, whatever the others lost meanwhile is still to be seen, and stays.
        for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            connection.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(sql.Identifier(table)))


def _open(url: str) -> Crowded:
    session = Session(connect_postgresql(url, "jobmill-tests", pool_size=1).engine)
    crowd = crowd_of(session)
    session.rollback()
    client = postgresql_connector(url, "jobmill-tests")()  # the planner's settings are the product's
    client.autocommit = True
    client.cursor_factory = psycopg.ClientCursor
    return Crowded(session, client, crowd)


def _tidy(client: psycopg.Connection[Any]) -> None:
    """Clear away what the questions before left: each was rolled back, and its rows stay while somebody may see them.

    Whoever analyses a table of this database may, be it one of the catalogue's, which cannot be kept from it.
    """
    analysing = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'autovacuum worker'"
    deadline = time.monotonic() + ANALYSED_WITHIN
    while client.execute(analysing).fetchall():  # type: ignore[arg-type]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    client.execute("VACUUM (INDEX_CLEANUP ON) jobs")


def _cost(question: str, crowded: Crowded, mode: str) -> Cost:
    _tidy(crowded.client)
    with statements(crowded.session) as asked:
        QUESTIONS[question](crowded.session, crowded.crowd)
    crowded.session.rollback()
    plans = [_plan(crowded.client, statement, parameters, mode) for statement, parameters in asked]
    nodes = [node for plan in plans for node in nodes_of(plan)]
    return Cost(
        looks=any(") AS met" in statement for statement, _ in asked),
        scanned=[node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"],
        buffers=sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans),
        plans=json.dumps([_outline(plan) for plan in plans], indent=1),
    )


def _plan(client: psycopg.Connection[Any], statement: str, parameters: dict[str, Any], mode: str) -> Any:
    """The plan of the statement as a prepared one, after as many executions as make PostgreSQL decide."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement).replace("%%", "%")
    values = [parameters[name] for name in names]
    execute = "EXECUTE asked" + (f"({', '.join(['%s'] * len(values))})" if values else "")
    with client.transaction(force_rollback=True):
        client.execute(f"SET LOCAL plan_cache_mode = {mode}")  # type: ignore[arg-type]
        client.execute("PREPARE asked AS " + numbered)  # type: ignore[arg-type]
        for _ in range(10):
            client.execute("EXPLAIN " + execute, values)  # type: ignore[arg-type]
        answer = client.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + execute, values)  # type: ignore[arg-type]
        plan = answer.fetchall()[0][0][0]["Plan"]
        client.execute("DEALLOCATE asked")
    return plan


def _outline(plan: dict[str, Any]) -> Any:
    told = [str(plan[key]) for key in ("Node Type", "Relation Name", "Index Name", "Actual Rows") if key in plan]
    return [" ".join(told), *(_outline(child) for child in plan.get("Plans", ()))]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_costs_the_same_however_many_jobs_are_finished(
    crowded: dict[int, Crowded], question: str, mode: str
) -> None:
    few, many = (_cost(question, crowded[size], mode) for size in (FEW, MANY))

    assert "jobs" not in many.scanned, many.plans
    assert "job_events" not in many.scanned, many.plans
    growth = GROWTH + LOOKED_AT * PAGES_A_LOOK if many.looks else GROWTH
    assert many.buffers <= few.buffers * GROWTH_FACTOR + growth, (
        f"{few.buffers} -> {many.buffers}\n{few.plans}\n{many.plans}"
    )


def test_a_scan_of_the_whole_table_is_seen_and_grows(crowded: dict[int, Crowded]) -> None:
    statement = "SELECT count(*) FROM jobs WHERE args::text = %(text)s::text"

    few, many = (_plan(crowded[size].client, statement, {"text": "x"}, MODES[0]) for size in (FEW, MANY))

    assert "Seq Scan" in {node["Node Type"] for node in nodes_of(many)}
    assert many["Shared Hit Blocks"] > few["Shared Hit Blocks"] * GROWTH_FACTOR + GROWTH
