"""What an outage of the database must not do: make workers look dead, or lose results; and what counts its traces."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from models import moves
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.errors import Unavailable
from models.ids import new_id
from models.states import State
from models.worker import workers
from tests.factories import ago
from tests.mishaps import LosesAnswers
from tests.workbench import Bench, counted, lent_database
from workers.duties import leadership as leadership_module
from workers.duties.leadership import RENEW_EVERY, SETTLING, TERM, Leadership
from workers.duties.rescue import Rescue


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


class Clock:
    """What `time.monotonic` shows the leader."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def pass_in_sight(self, leader: Leadership, seconds: float) -> None:
        """Let time pass while the leader renews its lease as usual."""
        end = self.now + seconds
        while self.now < end:
            self.now += RENEW_EVERY.total_seconds()
            leader.run_once()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(leadership_module, "time", clock)
    return clock


@pytest.fixture
def leader(database: Database, clock: Clock) -> Iterator[Leadership]:
    leader = Leadership(database, new_id())
    leader.run_once()
    yield leader
    leader.resign()


def test_a_dispatcher_that_has_just_begun_to_see_takes_nobody_for_dead(leader: Leadership, clock: Clock):
    assert leader.held
    assert not leader.sees
    clock.pass_in_sight(leader, SETTLING.total_seconds())
    assert leader.sees


def test_after_an_outage_workers_get_the_time_to_beat_again(leader: Leadership, clock: Clock):
    clock.pass_in_sight(leader, SETTLING.total_seconds())
    clock.now += TERM.total_seconds() + 1  # in which it asked in vain, or was frozen
    leader.run_once()
    assert not leader.sees
    clock.pass_in_sight(leader, SETTLING.total_seconds())
    assert leader.sees


def test_an_answer_that_is_late_by_less_than_a_term_is_no_outage(leader: Leadership, clock: Clock):
    clock.pass_in_sight(leader, SETTLING.total_seconds())
    clock.now += TERM.total_seconds() - RENEW_EVERY.total_seconds()
    leader.run_once()
    assert leader.sees


class Sees:
    """A leader of whom the rescue needs to know no more."""

    held, holder = True, new_id()

    def __init__(self, *, sees: bool) -> None:
        self.sees = sees


def test_a_silent_worker_keeps_its_jobs_until_the_dispatcher_sees_clearly(database: Database):
    bench = Bench(database)
    bench.register()
    ref = bench.plant(state=State.RUNNING, worker_id=bench.worker_id)
    with database.transaction() as session:
        _silence(session, bench)
    Rescue(database, Sees(sees=False)).run_once()  # type: ignore[arg-type]
    assert bench.row(ref)["state"] == State.RUNNING
    Rescue(database, Sees(sees=True)).run_once()  # type: ignore[arg-type]
    assert bench.row(ref)["state"] == State.QUEUED


def _silence(session: Session, bench: Bench) -> None:
    session.execute(update(workers).where(workers.c.id == bench.worker_id).values(heartbeat_at=ago(seconds=60)))


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
    Rescue(database, Sees(sees=True)).run_once()  # type: ignore[arg-type]
    assert counted("jobmill_stale_total", move="release") == before[0] + 1
    assert counted("jobmill_moves_total", move="release") == before[1] + 1
