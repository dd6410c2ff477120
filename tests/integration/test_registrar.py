"""What a parent writes of its children, on both databases: heartbeats, and the ends of those that died."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from models import worker
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.errors import Unavailable
from models.ids import new_id
from models.job import Ref, jobs
from models.states import State
from models.worker import workers
from tests.factories import ago, history_of, job_in, row_of
from tests.workbench import counted, lent_database
from workers import registrar as registrar_module
from workers.duties import rescue as rescue_module
from workers.registrar import Gone, Living, Registrar

ACTOR = "parent:h:1"
CAUSE = "its process was killed by SIGKILL"


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


class Bell:
    rung = 0

    def ring(self) -> None:
        self.rung += 1


class Office:
    """A registrar whose steps the test takes, and rows to write on."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.bell = Bell()
        self.registrar = Registrar(database, ACTOR, self.bell, self.register)

    def register(self, session: Session, child: Living) -> None:
        worker.register(
            session,
            child.worker_id,
            host="h",
            pid=child.pid,
            queues=["default"],
            threads=2,
            version="0",
            parent_pid=1,
            consuming=child.consuming,
        )

    def child(self, *, consuming: bool = False) -> Living:
        made = Living(new_id(), 7, consuming)
        self.database.run(lambda session: self.register(session, made))
        return made

    def running(self, child: Living, **columns: Any) -> Ref:
        return self.database.run(lambda session: job_in(session, State.RUNNING, worker_id=child.worker_id, **columns))

    def runs_again(self, ref: Ref, child: Living) -> None:
        runs = update(jobs).where(jobs.c.id == ref.id)
        runs = runs.values(
            state=State.RUNNING, attempt=2, worker_id=child.worker_id, dispatched_at=ago(), started_at=ago()
        )
        self.database.run(lambda session: session.execute(runs))

    def row(self, worker_id: UUID) -> Any:
        with self.database.reading() as session:
            return session.execute(workers.select().where(workers.c.id == worker_id)).mappings().one_or_none()

    def age(self, child: Living) -> None:
        old = update(workers).where(workers.c.id == child.worker_id).values(heartbeat_at=ago(seconds=100))
        self.database.run(lambda session: session.execute(old))

    def job(self, ref: Ref) -> dict[str, Any]:
        with self.database.reading() as session:
            return row_of(session, ref)

    def history(self, ref: Ref) -> list[dict[str, Any]]:
        with self.database.reading() as session:
            return history_of(session, ref)


@pytest.fixture
def office(database: Database) -> Office:
    return Office(database)


# The living


def test_heartbeats_are_written_when_they_are_due_and_not_before(office: Office):
    children = [office.child(), office.child()]
    office.registrar.living(children)
    for now, beats in ((100.0, True), (104.9, False), (105.1, True)):
        for child in children:
            office.age(child)
        assert office.registrar.run_once(now)
        fresh = [office.row(child.worker_id)["heartbeat_at"] > ago(seconds=50) for child in children]
        assert fresh == [beats] * 2


def test_that_a_child_consumes_or_does_not_any_more_is_written_at_once(office: Office):
    child = office.child()
    office.registrar.living([child])
    office.registrar.run_once(100.0)
    assert office.row(child.worker_id)["consuming_at"] is None
    for now, consuming in ((100.1, True), (100.2, False)):
        office.registrar.living([Living(child.worker_id, child.pid, consuming)])
        office.registrar.run_once(now)
        assert (office.row(child.worker_id)["consuming_at"] is not None) is consuming


def test_the_row_of_a_living_child_that_is_gone_is_made_again(office: Office):
    child = office.child(consuming=True)
    office.database.run(lambda session: session.execute(delete(workers).where(workers.c.id == child.worker_id)))
    office.registrar.living([child])
    office.registrar.run_once(100.0)
    assert office.row(child.worker_id)["consuming_at"] is not None


# The dead


def test_the_jobs_of_a_dead_child_are_queued_again_with_the_cause_and_its_row_is_stopped(office: Office):
    dead, alive = office.child(), office.child()
    lost, kept = office.running(dead), office.running(alive)
    cancelled = office.running(dead, cancel_requested_at=ago(seconds=9))
    before = counted("jobmill_moves_total", move="rescue")
    office.registrar.gone(Gone(dead.worker_id, CAUSE))
    assert office.registrar.run_once(100.0)
    assert [office.job(ref)["state"] for ref in (lost, kept, cancelled)] == [
        State.QUEUED,
        State.RUNNING,
        State.CANCELLED,
    ]
    (event,) = office.history(lost)
    assert (event["move"], event["actor"], event["reason"]) == ("rescue", ACTOR, CAUSE)
    assert event["error"] == office.job(lost)["error"]
    assert CAUSE in event["error"]["message"]
    assert office.row(dead.worker_id)["stopped_at"] is not None
    assert office.row(alive.worker_id)["stopped_at"] is None
    assert counted("jobmill_moves_total", move="rescue") == before + 2
    assert office.bell.rung == 1


def test_the_jobs_of_a_child_that_was_killed_because_its_worker_stops_go_back_at_no_cost(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rescue_module, "BATCH", 2)
    dead = office.child()
    given_back = [office.running(dead, lost=2) for _ in range(5)]
    cancelled = office.running(dead, cancel_requested_at=ago(seconds=9))
    office.registrar.gone(Gone(dead.worker_id, CAUSE, asked=True))
    assert office.registrar.run_once(100.0)
    for ref in given_back:
        row = office.job(ref)
        assert (row["state"], row["attempt"], row["lost"]) == (State.QUEUED, 1, 2)
        assert [(event["move"], event["reason"]) for event in office.history(ref)] == [("interrupt", CAUSE)]
    assert office.job(cancelled)["state"] == State.CANCELLED
    assert office.row(dead.worker_id)["stopped_at"] is not None
    assert office.bell.rung > 0


def test_what_had_not_begun_where_others_ran_goes_back_at_no_cost(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rescue_module, "BATCH", 2)
    dead = office.child()
    waiting = [office.running(dead, lost=2) for _ in range(4)]
    ran = office.running(dead)
    cancelled = office.running(dead, cancel_requested_at=ago(seconds=9))
    before = counted("jobmill_moves_total", move="interrupt")
    office.registrar.gone(Gone(dead.worker_id, CAUSE, running=frozenset([ran])))
    assert office.registrar.run_once(100.0)
    for ref in waiting:
        row = office.job(ref)
        assert (row["state"], row["attempt"], row["lost"]) == (State.QUEUED, 1, 2)
        (event,) = office.history(ref)
        assert (event["move"], event["reason"]) == ("interrupt", rescue_module.OTHERS_RAN)
    assert (office.job(ran)["state"], office.job(ran)["lost"]) == (State.QUEUED, 1)
    assert office.job(cancelled)["state"] == State.CANCELLED
    assert office.row(dead.worker_id)["stopped_at"] is not None
    assert counted("jobmill_moves_total", move="interrupt") == before + 4


def test_what_goes_back_so_again_and_again_is_lost_at_last(office: Office):
    ref = office.running(office.child())
    for _ in range(rescue_module.MOST_SPARED + 1):
        dead = office.child()
        office.runs_again(ref, dead)
        office.registrar.gone(Gone(dead.worker_id, CAUSE, running=frozenset([office.running(dead)])))
        assert office.registrar.run_once(100.0)
    assert [event["move"] for event in office.history(ref)] == ["interrupt"] * rescue_module.MOST_SPARED + ["rescue"]
    assert office.job(ref)["lost"] == 1


@pytest.mark.parametrize(("max_attempts", "state", "move"), [(5, State.QUEUED, "retry"), (2, State.DEAD, "bury")])
def test_an_attempt_that_outran_its_time_limit_counts(office: Office, max_attempts: int, state: State, move: str):
    dead = office.child()
    overdue, neighbour = office.running(dead, max_attempts=max_attempts), office.running(dead)
    office.registrar.gone(Gone(dead.worker_id, CAUSE, (overdue,)))
    office.registrar.run_once(100.0)
    row = office.job(overdue)
    assert (row["state"], row["attempt"], row["lost"], row["error"]["code"]) == (state, 2, 0, "timed-out")
    assert [event["move"] for event in office.history(overdue)] == [move]
    assert (office.job(neighbour)["state"], office.job(neighbour)["lost"]) == (State.QUEUED, 1)


def test_one_that_was_to_be_cancelled_is_cancelled(office: Office):
    dead = office.child()
    ref = office.running(dead, cancel_requested_at=ago(seconds=9))
    office.registrar.gone(Gone(dead.worker_id, CAUSE, (ref,)))
    office.registrar.run_once(100.0)
    assert office.job(ref)["state"] == State.CANCELLED


def test_a_job_that_ended_before_its_process_died_stays_as_it_ended(office: Office):
    dead = office.child()
    done = office.database.run(lambda session: job_in(session, State.SUCCEEDED, worker_id=dead.worker_id))
    before = office.job(done)
    office.registrar.gone(Gone(dead.worker_id, CAUSE, (done,)))
    office.registrar.run_once(100.0)
    assert office.job(done) == before


def test_no_heartbeat_raises_the_dead(office: Office):
    child = office.child(consuming=True)
    office.registrar.living([child])
    office.registrar.run_once(100.0)
    office.registrar.living([])
    office.registrar.gone(Gone(child.worker_id, CAUSE))
    for now in (100.1, 110.0, 120.0):
        office.registrar.run_once(now)
    assert office.row(child.worker_id)["stopped_at"] is not None


# Without a database


@contextmanager
def away() -> Iterator[None]:
    raise Unavailable("away")
    yield


def test_what_could_not_be_told_is_told_when_the_database_is_back(
    office: Office, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
):
    monkeypatch.setattr(registrar_module, "AGAIN_SECONDS", 0.01)
    dead, alive = office.child(), office.child()
    ref = office.running(dead)
    office.age(alive)
    tries: list[int] = []

    def missing() -> Any:
        tries.append(1)
        return away()

    with monkeypatch.context() as patch:
        patch.setattr(office.database, "transaction", missing)
        office.registrar.living([alive])
        office.registrar.gone(Gone(dead.worker_id, CAUSE))
        office.registrar.start()
        eventually(lambda: len(tries) > 10)
        assert office.job(ref)["state"] == State.RUNNING
    eventually(lambda: office.job(ref)["state"] == State.QUEUED)
    eventually(lambda: office.row(alive.worker_id)["heartbeat_at"] > ago(seconds=50))
    office.registrar.stop(5)
    assert [event["reason"] for event in office.history(ref)] == [CAUSE]


def test_what_cannot_be_written_of_the_dead_costs_the_living_no_heartbeat(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_args: object) -> Any:
        raise ValueError("a bug")

    dead, alive = office.child(), office.child()
    office.age(alive)
    monkeypatch.setattr(registrar_module, "take_back", broken)
    office.registrar.living([alive])
    office.registrar.gone(Gone(dead.worker_id, CAUSE))
    assert not office.registrar.run_once(100.0)
    assert office.row(alive.worker_id)["heartbeat_at"] > ago(seconds=50)


def test_a_registrar_that_stops_tells_of_the_dead_first(office: Office):
    dead = office.child()
    ref = office.running(dead)
    office.registrar.start()
    office.registrar.gone(Gone(dead.worker_id, CAUSE))
    office.registrar.stop(10)
    assert office.job(ref)["state"] == State.QUEUED
