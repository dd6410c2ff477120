"""The moves in any order, on both databases, beside the reference: see `tests.model.machine`."""

import pytest

from models.dialect import POSTGRESQL, SQLITE
from models.states import Move
from tests.model.runs import LONG, LONGEST_SECONDS, run
from tests.model.world import World

EVERY_MOVE = {str(move) for move in Move if move != Move.CANCEL} | {f"{Move.CANCEL} of a running job"}
EVERYTHING = (
    EVERY_MOVE
    | {f"{Move.RESCUE} to {state}" for state in ("queued", "dead", "cancelled")}
    | {f"stale {move}" for move in (Move.START, Move.RELEASE, Move.RESCUE, Move.REDRIVE, Move.DISCARD)}
    | {f"stale {outcome}" for outcome in ("Succeeded", "Failed")}
    | {
        "crash",
        "alone",
        "stale renewal",
        "put off",
        "duplicate",
        "key reused",
        "not unique",
        "replayed",
        "cancel of a final job",
    }
)


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(f"{request.param}_model")
    return found


# SQLite does four steps while PostgreSQL does one or two.
EXAMPLES = {SQLITE: 60, POSTGRESQL: 25}


@pytest.mark.timeout(400)  # so much work takes 40 s of a core here, and three times as long on a slow and busy machine
def test_whatever_happens_the_rows_are_as_they_should_be_and_every_job_comes_to_its_end(world: World):
    reached = run(world, EXAMPLES[world.database.dialect])
    assert set(reached) >= (EVERYTHING if world.database.dialect == SQLITE else EVERY_MOVE), "a run that shows little"


@pytest.mark.parametrize("world", [SQLITE], indirect=True)
def test_every_end_is_told_once_to_whoever_listens(world: World):
    with world.listening():
        run(world, 12)


@pytest.mark.long
@pytest.mark.timeout(LONGEST_SECONDS)
def test_and_so_it_is_in_many_more_runs_that_nobody_has_seen_before(world: World):
    run(world, LONG, anew=True)


@pytest.mark.long
@pytest.mark.timeout(LONGEST_SECONDS)
def test_and_so_is_every_end_in_many_more(world: World):
    with world.listening():
        run(world, LONG // 5, anew=True)
