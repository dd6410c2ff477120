"""On PostgreSQL a move over a set of jobs costs what each of them costs: none is compared with every other."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import moves, reports
from models.database import Database, connect_postgresql
from models.ids import new_id
from models.job import Ref
from models.moves import Ending
from models.states import State
from tests.conftest import PostgresqlServer
from tests.factories import jobs_in, tenant_id_of
from tests.questions import nodes_of, plan_of

SET = 200
A_CLAIM = timedelta(seconds=60)
Sets = dict[State, list[Ref]]


@pytest.fixture(scope="module")
def database(postgresql_server: PostgresqlServer, postgresql_template: str) -> Iterator[Database]:
    """A thousand jobs in each of the states that move, of which the statistics know nothing."""
    name = postgresql_server.create(postgresql_template)
    database = connect_postgresql(postgresql_server.url_of(name), "jobmill-tests", pool_size=2)
    with database.transaction() as session:
        session.execute(text("ALTER TABLE jobs SET (autovacuum_enabled = off)"))
    yield database
    database.close()
    postgresql_server.drop(name)


@pytest.fixture(scope="module", params=["statistics of before", "statistics of now"])
def sets(request: pytest.FixtureRequest, database: Database) -> Sets:
    states = (State.QUEUED, State.DISPATCHED, State.RUNNING, State.DEAD)
    with database.transaction() as session:
        found = {state: jobs_in(session, state, 5 * SET)[:SET] for state in states}
        if request.param == "statistics of now":
            session.execute(text("ANALYZE jobs"))
    return found


def endings(sets: Sets) -> list[Ending]:
    return [Ending(ref, result="1", error='{"type":"E","message":"m"}') for ref in sets[State.RUNNING]]


MOVES: dict[str, Callable[[Session, Sets], Any]] = {
    "claim": lambda s, _: moves.claim(s, "default", 0, SET, A_CLAIM),
    "claim shares": lambda s, _: moves.claim_shares(s, "default", 0, {tenant_id_of(s): SET}, A_CLAIM),
    "release": lambda s, sets: moves.release(s, sets[State.DISPATCHED]),
    "release from": lambda s, _: moves.release_from(s, "default", SET),
    "start": lambda s, sets: moves.start(s, sets[State.DISPATCHED], new_id()),
    "succeed": lambda s, sets: moves.succeed_unheard(s, endings(sets)),
    "interrupt": lambda s, sets: moves.interrupt(s, endings(sets), "w"),
    "renew claims": lambda s, sets: reports.renew_claims(s, sets[State.DISPATCHED], A_CLAIM),
}


@pytest.mark.parametrize("move", MOVES)
def test_no_job_of_a_set_is_compared_with_every_other(database: Database, sets: Sets, move: str) -> None:
    plan = plan_of(database, lambda session: MOVES[move](session, sets))
    compared = sum(node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"] for node in nodes_of(plan))

    assert max(node["Actual Rows"] for node in nodes_of(plan)) >= SET
    assert compared <= 2 * SET, plan
