"""What an operator sees of queues, on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from models import queue, queue_figures, worker
from models.ids import new_id
from models.queue_figures import QueueFigures, figures_of, has_jobs, queue_names
from models.states import State
from tests.factories import ago, jobs_in, tenant_id_of


def only(session: Session, name: str = "default", tenant: str | None = None) -> QueueFigures:
    tenant_id = None if tenant is None else tenant_id_of(session, tenant)
    return figures_of(session, [name], tenant_id)[name]


def add(session: Session, state: State, how_many: int, tenant: str = "blue", **columns) -> None:
    jobs_in(session, state, how_many, tenant_id=tenant_id_of(session, tenant), **columns)


def register(session: Session, *names: str) -> None:
    worker.register(session, new_id(), host="h", pid=1, queues=names, threads=4, version="0")


def test_a_queue_is_there_for_any_of_five_reasons(session: Session):
    queue.pause(session, "said", "x")
    register(session, "served", "served-too")
    for name, state in {"q": State.QUEUED, "d": State.DISPATCHED, "r": State.RUNNING, "x": State.DEAD}.items():
        add(session, state, 2, queue=name)
    add(session, State.SUCCEEDED, 2, queue="past")

    everything = ["d", "q", "r", "said", "served", "served-too", "x"]
    assert queue_names(session, None, None, 100) == everything
    assert queue_names(session, None, "q", 3) == ["r", "said", "served"]
    blue, red = tenant_id_of(session, "blue"), tenant_id_of(session, "red")
    assert queue_names(session, blue, None, 100) == sorted([*everything, "past"])
    assert queue_names(session, red, None, 100) == ["said", "served", "served-too"]
    assert (has_jobs(session, "past", blue), has_jobs(session, "past", red)) == (True, False)


def test_pages_of_queues_leave_none_out(session: Session):
    for number in range(25):
        add(session, State.QUEUED, 1, queue=f"q{number:02}", priority=number % 3)

    found: list[str] = []
    while page := queue_names(session, None, found[-1] if found else None, 4):
        found += page
    assert found == [f"q{number:02}" for number in range(25)]


def test_jobs_are_counted_by_state_for_a_tenant_and_for_all(session: Session):
    for priority in (-3, 0, 7):
        add(session, State.QUEUED, 4, priority=priority)
    add(session, State.QUEUED, 5, "red", priority=7)
    for state in (State.DISPATCHED, State.RUNNING, State.DEAD, State.SUCCEEDED):
        add(session, state, 3)
        add(session, state, 1, "red")
        add(session, state, 9, queue="media")

    counted = {State.DISPATCHED: 3, State.RUNNING: 3, State.DEAD: 3}
    assert only(session, tenant="blue").counts == {State.QUEUED: 12, **counted}
    assert only(session).counts == {State.QUEUED: 17, **{state: count + 1 for state, count in counted.items()}}


def test_more_than_are_counted_are_as_many_as_are_counted(session: Session, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue_figures, "MOST_COUNTED", 10)
    add(session, State.QUEUED, 8)
    assert only(session).counts[State.QUEUED] == 8
    add(session, State.QUEUED, 30, priority=4)
    assert only(session).counts[State.QUEUED] == 10


def test_the_oldest_has_waited_since_it_was_due(session: Session):
    add(session, State.QUEUED, 1, due_at=ago(minutes=-5), priority=9)
    assert only(session).oldest_due is None
    add(session, State.QUEUED, 1, due_at=ago(minutes=2))
    add(session, State.QUEUED, 1, "red", due_at=ago(minutes=9), priority=4)
    add(session, State.QUEUED, 1, due_at=ago(minutes=20), queue="media")

    for tenant, minutes in ((None, 9), ("blue", 2), ("red", 9)):
        waited = only(session, tenant=tenant).oldest_due
        assert waited == pytest.approx(timedelta(minutes=minutes), abs=timedelta(seconds=20))


def test_rates_are_of_the_last_minute(session: Session):
    add(session, State.QUEUED, 30, created_at=ago(seconds=20))
    add(session, State.QUEUED, 30, "red", created_at=ago(seconds=50))
    add(session, State.QUEUED, 30, created_at=ago(seconds=90))
    add(session, State.SUCCEEDED, 12, finished_at=ago(seconds=5))
    add(session, State.DEAD, 6, "red", finished_at=ago(seconds=50))
    add(session, State.SUCCEEDED, 50, finished_at=ago(seconds=70))

    assert only(session).in_per_second == pytest.approx(60 / 60, rel=0.01)
    assert only(session, tenant="blue").in_per_second == pytest.approx(30 / 60, rel=0.01)
    assert only(session).out_per_second == pytest.approx(18 / 60, rel=0.01)
    assert only(session, tenant="red").out_per_second == pytest.approx(6 / 60, rel=0.01)


def test_of_more_than_are_looked_at_the_rate_is_that_of_those(session: Session, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue_figures, "MOST_LOOKED_AT", 20)
    for second in range(40):
        add(session, State.SUCCEEDED, 2, "red" if second % 2 else "blue", finished_at=ago(seconds=second))

    assert only(session).out_per_second == pytest.approx(2, rel=0.2)
    assert only(session, tenant="red").out_per_second == pytest.approx(1, rel=0.2)


def test_workers_that_take_jobs_are_counted(session: Session):
    register(session, "default", "media")
    register(session, "default")

    assert (only(session).workers, only(session, "media").workers, only(session, "x").workers) == (2, 1, 0)
