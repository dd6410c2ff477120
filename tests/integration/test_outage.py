"""What an outage of the database must not do, which is to cost results; and what counts its traces."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.orm import Session

from models import moves
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.errors import Unavailable
from models.ids import new_id
from models.states import State
from tests.mishaps import LosesAnswers
from tests.workbench import Bench, counted, lent_database
from workers.duties.rescue import Rescue


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


LEADS: Any = SimpleNamespace(
    held=True, in_motion=True, wake=threading.Event(), holder=new_id(), listened_seconds=3600.0
)


class Away(Database):
    """Serves nobody until it is back."""

    def __init__(self, database: Database) -> None:
        self.__dict__.update(vars(database))
        self.away = False
        self.refused = threading.Event()

    def _once(self, opened: Callable[[], Any], step: Callable[[Session], Any]) -> Any:
        if self.away:
            self.refused.set()
            raise Unavailable("away")
        return super()._once(opened, step)


def _fail(_context: Any) -> None:
    raise ValueError("x")


@pytest.mark.parametrize(
    ("behave", "state"), [(lambda _: "done", State.SUCCEEDED), (_fail, State.QUEUED)], ids=["success", "failure"]
)
def test_what_a_job_came_to_is_held_until_the_database_is_back(
    database: Database, eventually: Callable[..., Any], behave: Any, state: State
):
    lost = Away(database)
    bench = Bench(lost)

    def then_lose(context: Any) -> Any:
        lost.away = True
        return behave(context)

    ref = bench.plant(then_lose)
    running = threading.Thread(target=bench.executor.run, args=[[ref]])
    running.start()
    assert lost.refused.wait(10)
    assert counted("jobmill_results_held") == 1
    lost.away = False
    running.join(20)
    row = bench.row(ref)
    assert (row["state"], row["attempt"], row["lost"]) == (state, 3, 0)
    assert counted("jobmill_results_held") == 0


def test_a_result_whose_lease_went_to_another_meanwhile_is_stale(database: Database):
    lost = Away(database)
    bench = Bench(lost)

    def then_lose(_context: Any) -> str:
        lost.away = True
        return "done"

    ref = bench.plant(then_lose)
    running = threading.Thread(target=bench.executor.run, args=[[ref]])
    before = counted("jobmill_stale_total", move="finish")
    running.start()
    assert lost.refused.wait(10)
    with database.transaction() as session:
        assert moves.rescue(session, [moves.Ending(ref, error="{}", reason="gone")], "test")
    lost.away = False
    running.join(20)
    assert bench.row(ref)["state"] == State.QUEUED
    assert counted("jobmill_stale_total", move="finish") == before + 1


@pytest.mark.parametrize(("move", "step"), [("start", 1), ("succeed", 2)])
def test_an_answer_that_was_lost_and_looked_up_is_counted(database: Database, move: str, step: int):
    forgetful = LosesAnswers(database)
    bench = Bench(forgetful)

    def behave(_context: Any) -> None:
        forgetful.times = step - 1

    ref = bench.plant(behave)
    before = counted("jobmill_lost_answers_total", step=move)
    retries = counted("jobmill_database_retries_total")
    forgetful.times = 2 - step
    bench.executor.run([ref])
    assert bench.row(ref)["state"] == State.SUCCEEDED
    assert counted("jobmill_lost_answers_total", step=move) == before + 1
    assert counted("jobmill_database_retries_total") == retries + 1


def test_claims_that_were_begun_meanwhile_count_as_stale_releases(database: Database, monkeypatch: pytest.MonkeyPatch):
    bench = Bench(database)
    ref = bench.plant(lambda _: None)
    running = bench.plant(state=State.RUNNING)
    monkeypatch.setattr("workers.duties.rescue.queries.expired_claims", lambda *_: [ref, running])
    before = counted("jobmill_stale_total", move="release"), counted("jobmill_moves_total", move="release")
    Rescue(database, LEADS).run_once()
    assert counted("jobmill_stale_total", move="release") == before[0] + 1
    assert counted("jobmill_moves_total", move="release") == before[1] + 1
