"""`Retry-After` of an unfinished job tells what its type takes, for one bounded question in ten seconds."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from api import pace
from api.pace import Pace
from models import queries
from models.database import Database
from models.errors import Trouble, Unavailable
from models.job import Job
from models.states import State
from tests.doors import JOBS, Caller, Doors
from tests.factories import ago, jobs_in


def ended(database: Database, job_type: str, seconds: float, how_many: int = 3) -> None:
    times = {"due_at": ago(seconds=seconds + 60), "finished_at": ago(seconds=60)}
    database.run(lambda session: jobs_in(session, State.SUCCEEDED, how_many, type=job_type, **times))


def told(answer: Any) -> int:
    return int(answer.headers["Retry-After"])


def within(seconds: int) -> range:
    """As told of a job that ends in so many seconds, while a slow machine may take some of them to ask."""
    return range(seconds - 8, seconds + 2)


def knowing(database: Database) -> Caller:
    """A caller of an API that was told what there is to know."""
    doors = Doors(database)
    doors.services.pace.learn()
    return doors.caller()


def test_an_answer_tells_to_come_again_when_jobs_of_its_type_are_done(database: Database) -> None:
    ended(database, "test.echo", 20, how_many=2)
    ended(database, "test.echo", 2)
    ended(database, "test.echo", 29, how_many=3)
    caller = knowing(database)

    submitted = caller.post(JOBS, {"type": "test.echo"})
    address = submitted.headers["Location"]

    assert told(submitted) in within(20)
    assert told(caller.get(address)) in within(20)
    assert told(caller.post(JOBS, {"type": "test.strict", "args": {"number": 1}})) == 1
    assert "Retry-After" not in caller.post(f"{address}/cancel").headers


def test_a_wait_that_was_in_vain_tells_it_too(database: Database) -> None:
    ended(database, "test.echo", 25)
    caller = knowing(database)
    address = caller.post(JOBS, {"type": "test.echo"}).headers["Location"]

    assert told(caller.get(address, Prefer="wait=1")) in within(25)


def test_a_delayed_job_is_not_looked_at_before_it_is_due(database: Database) -> None:
    caller = Doors(database).caller()

    assert told(caller.post(JOBS, {"type": "test.echo", "delay_seconds": 3600})) == 30
    assert told(caller.post(JOBS, {"type": "test.echo", "delay_seconds": 20})) in within(20)


def test_what_an_answer_did_not_know_is_asked_once_it_has_left(database: Database) -> None:
    ended(database, "test.echo", 20)
    caller = Doors(database).caller()

    first = caller.post(JOBS, {"type": "test.echo"})

    assert told(first) == 1
    assert told(caller.get(first.headers["Location"])) in within(20)


def test_a_final_job_asks_for_no_hint(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.transaction() as session:
        (ref,) = jobs_in(session, State.SUCCEEDED, 1)
    monkeypatch.setattr(queries, "ended_lately", None)

    assert Doors(database).caller(None).get(f"{JOBS}/{ref.id}").status_code == 200


@pytest.mark.parametrize("trouble", [Trouble.TIMEOUT, Trouble.AWAY])
def test_a_hint_that_cannot_be_got_costs_nobody_anything(
    database: Database, monkeypatch: pytest.MonkeyPatch, trouble: Trouble
) -> None:
    asked: list[int] = []

    def unavailable(_session: Session, limit: int) -> None:
        asked.append(limit)
        raise Unavailable("The database did not serve this.", trouble)

    monkeypatch.setattr(queries, "ended_lately", unavailable)
    caller = Doors(database).caller()

    submitted = caller.post(JOBS, {"type": "test.echo"})
    address = submitted.headers["Location"]

    assert (submitted.status_code, told(submitted)) == (202, 1)
    assert caller.get(address).status_code == 200
    assert caller.post(f"{address}/cancel").status_code == 202
    assert asked == [pace.RECENT]


def test_the_database_is_asked_once_in_ten_seconds(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(queries, "ended_lately", lambda _, limit: asked.append(limit) or [])
    now = 100.0
    known = Pace(database, lambda: now)
    for _ in range(50):
        known.learn()
    now += pace.ASKED_EVERY_SECONDS
    known.learn()
    assert asked == [pace.RECENT] * 2


def test_a_type_that_none_ended_of_lately_is_remembered(database: Database) -> None:
    now = 100.0
    known = Pace(database, lambda: now)
    ended(database, "a", 9)
    known.learn()
    ended(database, "b", 4, how_many=pace.RECENT)
    now += pace.ASKED_EVERY_SECONDS
    known.learn()

    assert {name: round(took) for name, took in known._took.items()} == {"a": 9, "b": 4}


def test_types_do_not_fill_the_memory(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MOST_TYPES", 5)
    monkeypatch.setattr(pace, "ASKED_EVERY_SECONDS", 0)
    monkeypatch.setattr(pace, "RECENT", 2)
    known = Pace(database)
    for number in range(12):
        ended(database, f"type-{number}", 1, how_many=2)
        known.learn()

    assert 0 < len(known._took) <= 5


def test_the_api_s_own_clock_does_not_matter(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(database, "test.echo", 20)
    known = Pace(database)
    job: Job | None = None
    with database.transaction() as session:
        (ref,) = jobs_in(session, State.QUEUED, 1, type="test.echo", due_at=ago(seconds=0))
        job = queries.find_job(session, ref.id, None)
    assert job is not None

    class Behind(pace.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return pace.datetime.__mro__[1].now(tz) - pace.timedelta(seconds=15)

    monkeypatch.setattr(pace, "datetime", Behind)
    known.learn()
    assert known.seconds_until(job) in within(20)
