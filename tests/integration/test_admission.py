"""Queues that are too far behind take no more, where the operator wants it so."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from api.backlog import Backlog
from models import backlog
from models.database import Database
from models.states import State
from tests.doors import JOBS, Doors, assert_problem
from tests.factories import ago, job_in, unique
from tests.workbench import statements

BATCH = f"{JOBS}/batch"


@pytest.fixture
def queue() -> str:
    return unique("q").replace("_", "-")


def behind(database: Database, queue: str, minutes: float, state: State = State.QUEUED) -> None:
    database.run(lambda session: job_in(session, state, queue=queue, due_at=ago(minutes=minutes)))


def submit(doors: Doors, queue: str) -> Callable[[], int]:
    caller = doors.caller()
    return lambda: caller.post(JOBS, {"type": "test.echo", "queue": queue}).status_code


def test_a_queue_that_is_too_far_behind_takes_no_more(database: Database, queue: str):
    doors = Doors(database, backlog_limit_seconds=300)
    caller = doors.caller()
    behind(database, queue, minutes=6)
    before = doors.count_jobs()
    answer = caller.post(JOBS, {"type": "test.echo", "queue": queue})
    assert queue in assert_problem(answer, 503, "backlog-too-old")["detail"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert doors.count_jobs() == before
    assert caller.post(JOBS, {"type": "test.echo", "queue": f"{queue}2"}).status_code == 202


def test_a_job_that_was_accepted_is_answered_again_however_far_its_queue_is_behind(database: Database, queue: str):
    doors = Doors(database, backlog_limit_seconds=300)
    caller = doors.caller()
    body, key = {"type": "test.echo", "queue": queue}, {"Idempotency-Key": unique("key")}
    first = caller.post(JOBS, body, **key)
    doors.services.backlog._seldom._asked_at.clear()
    behind(database, queue, minutes=6)
    again = caller.post(JOBS, body, **key)
    assert (again.status_code, again.json["id"]) == (202, first.json["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert_problem(caller.post(JOBS, body), 503, "backlog-too-old")


def test_a_batch_asks_once_which_of_its_jobs_were_accepted_before(database: Database, queue: str):
    doors = Doors(database, backlog_limit_seconds=300)
    caller = doors.caller()
    known = {"type": "test.echo", "queue": queue, "idempotency_key": unique("key")}
    first = caller.post(BATCH, {"jobs": [known]}).json["data"][0]["job"]
    doors.services.backlog._seldom._asked_at.clear()
    behind(database, queue, minutes=6)
    new = [{**known, "idempotency_key": unique("key")} for _ in range(20)]
    elsewhere = {"type": "test.echo", "queue": f"{queue}2"}
    with statements() as asked:
        items = caller.post(BATCH, {"jobs": [new[0], known, elsewhere, *new[1:]]}).json["data"]
    assert [item["status"] for item in items] == [503, 202, 202] + [503] * 19
    assert items[1]["job"]["id"] == first["id"]
    # Once for admission, and once to answer the job that is known.
    assert sum("idempotency_key IN" in statement for statement in asked) == 2
    assert len(asked) < len(new)


def test_what_is_not_due_or_not_waiting_is_no_backlog(database: Database, queue: str):
    behind(database, queue, minutes=4)
    behind(database, queue, minutes=-60)
    behind(database, queue, minutes=600, state=State.RUNNING)
    behind(database, queue, minutes=600, state=State.SUCCEEDED)
    assert submit(Doors(database, backlog_limit_seconds=300), queue)() == 202


def test_nothing_is_refused_or_asked_unless_a_bound_is_set(
    database: Database, queue: str, monkeypatch: pytest.MonkeyPatch
):
    behind(database, queue, minutes=6000)
    monkeypatch.setattr(backlog, "oldest_due", None)
    assert submit(Doors(database), queue)() == 202


def test_a_queue_is_asked_for_once_a_second(database: Database, queue: str, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(backlog, "oldest_due", lambda _, name: asked.append(name) or timedelta(minutes=6))
    now = 100.0
    known = Backlog(lambda: now)
    with database.reading() as session:
        ages = [known.age(session, queue) for _ in range(50)]
        known.age(session, "another")
        now += 1
        known.age(session, queue)
    assert set(ages) == {timedelta(minutes=6)}
    assert asked == [queue, "another", queue]


def test_names_that_clients_make_up_do_not_fill_the_memory(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backlog, "oldest_due", lambda *_: timedelta(0))
    known = Backlog()
    with database.reading() as session:
        for number in range(2500):
            known.age(session, f"q{number}")
    assert len(known._age) <= 1000


def test_the_oldest_of_all_priorities_counts(session: Session, queue: str):
    assert backlog.oldest_due(session, queue) == timedelta(0)
    for priority, minutes in ((5, 1), (0, 9), (-5, 3)):
        job_in(session, State.QUEUED, queue=queue, priority=priority, due_at=ago(minutes=minutes))
    assert abs(backlog.oldest_due(session, queue) - timedelta(minutes=9)) < timedelta(seconds=5)
