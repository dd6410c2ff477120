"""What is read to tell why a job does not run: who goes before it, who could run it, and what was said of its queue."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from models import lease, moves, queries, queue, standing, worker
from models.ids import new_id
from models.job import Ref
from models.moves import Ending
from models.standing import Ahead, Standing
from models.states import State
from tests.factories import ago, job_in, jobs_in, tenant_id_of


def stands(session: Session, ref: Ref) -> Standing:
    job = queries.find_job(session, ref.id, None)
    assert job is not None
    known = standing.standing_of(session, job)
    assert known is not None
    return known


def register(session: Session, *queues: str, **columns: Any) -> Any:
    worker_id = new_id()
    worker.register(session, worker_id, host="h", pid=1, queues=queues, threads=4, version="1", **columns)
    return worker_id


def test_those_go_before_a_job_that_are_due_and_of_a_higher_priority_or_due_longer(session: Session):
    ref = job_in(session, State.QUEUED, due_at=ago(minutes=10))
    jobs_in(session, State.QUEUED, 2, priority=5, due_at=ago(minutes=1))
    jobs_in(session, State.QUEUED, 1, priority=7, due_at=ago(minutes=1))
    jobs_in(session, State.QUEUED, 3, due_at=ago(minutes=11))
    jobs_in(session, State.QUEUED, 4, due_at=ago(minutes=11), tenant_id=tenant_id_of(session, "other"))
    for columns in (
        {"priority": 9, "due_at": ago(minutes=-1)},
        {"due_at": ago(minutes=9)},
        {"priority": -1, "due_at": ago(hours=1)},
        {"queue": "media", "due_at": ago(hours=1)},
    ):
        job_in(session, State.QUEUED, **columns)
    job_in(session, State.DISPATCHED, due_at=ago(hours=1))
    found = stands(session, ref)
    assert found.ahead == Ahead(higher=3, same=7, own=3)
    assert sorted(tenant.weight for tenant in found.tenants) == [1, 1]
    assert {tenant.share_id for tenant in found.tenants} == {
        tenant_id_of(session, name) for name in ("default", "other")
    }


def test_of_two_that_are_due_at_one_moment_the_older_goes_before(session: Session):
    at = ago(minutes=10)
    first, second = (job_in(session, State.QUEUED, due_at=at) for _ in range(2))
    assert stands(session, first).ahead == Ahead(0, 0, 0)
    assert stands(session, second).ahead == Ahead(0, 1, 1)
    assert not stands(session, second).tenants


def test_nobody_counts_further_than_that_there_are_more(session: Session, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(standing, "MOST_AHEAD", 3)
    ref = job_in(session, State.QUEUED, due_at=ago(minutes=10))
    for priority in (0, 1, 2):
        jobs_in(session, State.QUEUED, 3, priority=priority, due_at=ago(minutes=11))
    jobs_in(session, State.QUEUED, 9, due_at=ago(minutes=12))
    assert stands(session, ref).ahead == Ahead(4, 4, 4)


def test_what_is_read_of_a_waiting_job(session: Session):
    ref = job_in(session, State.QUEUED, due_at=ago(minutes=-10))
    live, connecting = register(session, "default", "media"), register(session, "default", consuming=False)
    register(session, "media")
    worker.mark_stopped(session, [register(session, "default")])
    jobs_in(session, State.RUNNING, 2, worker_id=live)
    job_in(session, State.DISPATCHED)
    queue.pause(session, "default", "key:ops")
    found = stands(session, ref)
    assert {(one.id, one.state) for one in found.workers} == {(live, "live"), (connecting, "connecting")}
    assert found.in_hand is not None
    assert (found.in_hand.on_broker, found.in_hand.running) == (1, 2)
    assert (found.queue and found.queue.paused_by, found.leads) == ("key:ops", False)
    assert (found.ahead, found.tenants) == (None, ())  # it is not due, and nobody goes before it
    assert abs(found.waits_for() - timedelta(minutes=10)) < timedelta(seconds=30)


def test_a_dispatcher_leads_as_long_as_its_lease(session: Session):
    ref = job_in(session, State.QUEUED)
    lease.lead(session, "dispatcher", new_id(), timedelta(seconds=5))
    assert stands(session, ref).leads
    lease.vacate(session, "dispatcher")
    assert not stands(session, ref).leads


def test_a_dispatched_job_tells_until_when_it_is(session: Session):
    until = ago(seconds=-20)
    ref = job_in(session, State.DISPATCHED, lease_expires_at=until)
    found = stands(session, ref)
    assert found.lease_expires_at is not None
    assert abs(found.lease_expires_at - until) < timedelta(milliseconds=1)


def test_a_running_job_tells_who_runs_it_though_that_has_stopped(session: Session):
    worker_id = register(session, "default")
    ref, orphan = (
        job_in(session, State.RUNNING, worker_id=worker_id),
        job_in(session, State.RUNNING, worker_id=new_id()),
    )
    worker.mark_stopped(session, [worker_id])
    by = stands(session, ref).by
    assert by is not None
    assert (by.id, by.state) == (worker_id, "stopped")
    assert stands(session, orphan).by is None


def test_a_dead_job_tells_of_its_end(session: Session):
    ref = job_in(session, State.RUNNING, lost=2)
    moves.rescue(session, [Ending(ref, error='{"code": "lost"}', reason="its process exited with status 7")], "parent")
    found = stands(session, ref)
    assert [(event.move, event.reason) for event in found.events] == [("rescue", "its process exited with status 7")]
    assert found.workers == ()
