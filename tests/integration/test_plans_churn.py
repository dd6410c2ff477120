"""On PostgreSQL a worker's moves cost the same however many jobs have passed through the states before."""

from uuid import uuid4

from models import moves
from models.database import Database
from models.ids import new_id
from models.job import Ref
from models.moves import Ending
from models.states import State
from tests.factories import jobs_in
from tests.questions import pages_of

PASSED_THROUGH = 2_000
MOST_PAGES = 80  # the row's own page and a few of each index; a walk over the dead entries takes hundreds


def test_starting_a_job_does_not_walk_the_dead_entries_of_those_started_before(
    postgresql_database: Database,
) -> None:
    ref = _after_churn(postgresql_database)

    assert pages_of(postgresql_database, lambda session: moves.start(session, [ref], uuid4())) < MOST_PAGES


def test_ending_a_job_does_not_walk_the_dead_entries_of_those_ended_before(
    postgresql_database: Database,
) -> None:
    ref = _after_churn(postgresql_database)
    with postgresql_database.transaction() as session:
        moves.start(session, [ref], uuid4())

    ending = Ending(ref, result="null")
    assert pages_of(postgresql_database, lambda session: moves.succeed_unheard(session, [ending])) < MOST_PAGES


def _after_churn(database: Database) -> Ref:
    """A dispatched job behind thousands that were dispatched and running, with nothing vacuumed in between."""
    worker_id = new_id()
    with database.transaction() as session:
        session.connection().exec_driver_sql("ALTER TABLE jobs SET (autovacuum_enabled = off)")
        passed = jobs_in(session, State.DISPATCHED, PASSED_THROUGH)
    with database.transaction() as session:
        moves.start(session, passed, worker_id)
    with database.transaction() as session:
        moves.succeed(session, [Ending(ref, result="null") for ref in passed])
        (ref,) = jobs_in(session, State.DISPATCHED, 1)
    return ref
