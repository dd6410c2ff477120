"""Who is alive, who is silent, and what they could take."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from models import worker
from models.ids import new_id
from models.states import State
from models.worker import DEAD_AFTER, Capacity, workers
from tests.factories import ago, job_in

SILENT = DEAD_AFTER + timedelta(seconds=1)
BARELY_ALIVE = DEAD_AFTER - timedelta(seconds=5)
AN_HOUR = timedelta(hours=1)


def _worker(session: Session, *, threads: int = 4, queues: tuple[str, ...] = ("default",), **columns: datetime) -> UUID:
    worker_id = new_id()
    worker.register(session, worker_id, host="h1", pid=17, queues=queues, threads=threads, version="1.2")
    if columns:
        session.execute(update(workers).where(workers.c.id == worker_id).values(columns))
    return worker_id


def _shown(session: Session) -> dict[UUID, str]:
    return {shown.id: shown.state for shown in worker.list_workers(session)}


def test_a_registered_worker_is_shown_with_what_it_said(session: Session) -> None:
    worker_id = _worker(session, threads=8, queues=("media", "default"))

    (shown,) = worker.list_workers(session)

    told = {"id": worker_id, "host": "h1", "pid": 17, "queues": ("media", "default"), "threads": 8, "version": "1.2"}
    assert {name: getattr(shown, name) for name in told} == told
    assert (shown.state, shown.busy) == ("live", 0)
    assert abs(shown.heartbeat_at - ago()) < timedelta(seconds=5)


def test_workers_are_shown_newest_first(session: Session) -> None:
    made = [_worker(session) for _ in range(3)]

    assert [shown.id for shown in worker.list_workers(session)] == made[::-1]
    assert [shown.id for shown in worker.list_workers(session, limit=1)] == made[-1:]


@pytest.mark.parametrize(
    ("ages", "state"),
    [
        ({}, "live"),
        ({"heartbeat_at": BARELY_ALIVE}, "live"),
        ({"heartbeat_at": SILENT}, "silent"),
        ({"draining_at": AN_HOUR}, "draining"),
        ({"draining_at": AN_HOUR, "heartbeat_at": SILENT}, "silent"),
        ({"draining_at": AN_HOUR, "stopped_at": SILENT}, "stopped"),
        ({"heartbeat_at": 9 * AN_HOUR}, "silent"),
        ({"stopped_at": AN_HOUR, "heartbeat_at": AN_HOUR + SILENT}, None),
    ],
)
def test_a_worker_s_state_is_what_its_row_says(session: Session, ages: dict[str, timedelta], state: str | None) -> None:
    worker_id = _worker(session, **{column: ago() - age for column, age in ages.items()})

    assert _shown(session).get(worker_id) == state


def test_a_worker_that_lives_and_does_not_consume_is_told_apart_and_has_no_capacity(session: Session) -> None:
    worker_id = _worker(session)

    worker.beat(session, worker_id, consuming=False)
    assert _shown(session) == {worker_id: "connecting"}
    assert worker.capacities(session) == {}

    worker.beat(session, worker_id, consuming=True)
    assert _shown(session) == {worker_id: "live"}
    assert worker.capacities(session) == {"default": Capacity(4, 4)}


def test_since_when_a_worker_consumes_is_kept_until_it_does_not(session: Session) -> None:
    since = ago(hours=1)
    worker_id = _worker(session, consuming_at=since)

    worker.beat(session, worker_id)

    assert session.scalars(workers.select().with_only_columns(workers.c.consuming_at)).one() == since


def test_to_register_twice_is_to_register_once(session: Session) -> None:
    worker_id = _worker(session)
    for threads in (4, 5):
        worker.register(session, worker_id, host="h2", pid=18, queues=(), threads=threads, version="2")

    (shown,) = worker.list_workers(session)
    assert (shown.host, shown.threads) == ("h1", 4)


def test_workers_that_stopped_and_still_have_jobs_are_found(session: Session) -> None:
    stopped, emptied, alive = (_worker(session) for _ in range(3))
    worker.mark_stopped(session, [stopped, emptied])
    job_in(session, State.RUNNING, worker_id=stopped)
    job_in(session, State.SUCCEEDED, worker_id=emptied)
    job_in(session, State.RUNNING, worker_id=alive)

    assert worker.stopped_with_jobs(session, 10) == [stopped]
    assert worker.stopped_with_jobs(session, 0) == []


def test_a_heartbeat_keeps_a_worker_alive(session: Session) -> None:
    worker_id = _worker(session, heartbeat_at=ago(minutes=5))
    assert worker.silent(session, 10) == [worker_id]

    assert worker.beat(session, worker_id)

    assert worker.silent(session, 10) == []
    assert _shown(session) == {worker_id: "live"}


def test_a_worker_that_was_given_up_and_beats_again_is_alive(session: Session) -> None:
    worker_id = _worker(session, heartbeat_at=ago(minutes=5))
    worker.mark_stopped(session, [worker_id])

    assert worker.beat(session, worker_id)

    assert _shown(session) == {worker_id: "live"}


def test_a_worker_whose_row_is_gone_is_told_so(session: Session) -> None:
    assert not worker.beat(session, new_id())


def test_silent_workers_are_those_that_stopped_without_a_word(session: Session) -> None:
    lost = _worker(session, heartbeat_at=ago(seconds=SILENT.seconds))
    _worker(session, heartbeat_at=ago(seconds=BARELY_ALIVE.seconds))
    _worker(session, heartbeat_at=ago(minutes=5), stopped_at=ago(minutes=4))

    assert worker.silent(session, 10) == [lost]
    assert worker.silent(session, 0) == []


def test_unstopped_workers_are_all_that_never_said_so(session: Session) -> None:
    unstopped = {_worker(session), _worker(session, heartbeat_at=ago(days=9))}
    worker.mark_stopped(session, [_worker(session)])

    assert set(worker.unstopped(session, 10)) == unstopped
    assert len(worker.unstopped(session, 1)) == 1


def test_a_stop_is_dated_once(session: Session) -> None:
    stopped_at = ago(minutes=9)
    worker_id = _worker(session, stopped_at=stopped_at)

    worker.mark_stopped(session, [worker_id])
    worker.mark_stopped(session, [])

    row = session.execute(workers.select().where(workers.c.id == worker_id)).mappings().one()
    assert row["stopped_at"] == stopped_at


def test_busy_is_what_a_worker_runs_now(session: Session) -> None:
    worker_id = _worker(session)
    for state in (State.RUNNING, State.RUNNING, State.SUCCEEDED, State.DEAD):
        job_in(session, state, worker_id=worker_id)
    job_in(session, State.RUNNING)

    assert [shown.busy for shown in worker.list_workers(session)] == [2]


def test_capacity_is_that_of_the_live_workers_of_a_queue(session: Session) -> None:
    busy = _worker(session, threads=4, queues=("default", "media"))
    _worker(session, threads=2)
    worker.mark_draining(session, _worker(session, threads=64))
    _worker(session, threads=64, heartbeat_at=ago(minutes=5))
    for seconds in (0.5, 0.5, 1.5):
        job_in(session, State.RUNNING, worker_id=busy, started_at=ago(seconds=seconds))

    found = worker.capacities(session)
    assert found == {"default": Capacity(6, 3, long=1), "media": Capacity(4, 1, long=1)}
    assert {name: one.quick for name, one in found.items()} == {"default": 5, "media": 3}


def test_a_worker_that_runs_more_than_its_threads_has_none_free(session: Session) -> None:
    worker_id = _worker(session, threads=1)
    for _ in range(3):
        job_in(session, State.RUNNING, worker_id=worker_id)

    found = worker.capacities(session)["default"]
    assert (found.threads, found.free, found.quick) == (1, 0, 0)


def test_workers_that_stopped_long_ago_and_run_nothing_are_forgotten(session: Session) -> None:
    long_ago = {"stopped_at": ago(days=2)}
    _worker(session, **long_ago)
    kept = {_worker(session), _worker(session, stopped_at=ago(hours=1)), _worker(session, **long_ago)}
    job_in(session, State.RUNNING, worker_id=max(kept))

    assert worker.forget(session, timedelta(days=1), limit=10) == 1
    assert set(session.scalars(workers.select().with_only_columns(workers.c.id))) == kept


def test_no_more_workers_are_forgotten_at_once_than_the_limit(session: Session) -> None:
    for _ in range(3):
        _worker(session, stopped_at=ago(days=2))

    assert worker.forget(session, timedelta(days=1), limit=2) == 2
