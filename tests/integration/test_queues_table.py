"""Queues, limits, weights and shares in the database."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import identity, lineup, moves, queue
from models.identity import tenants
from models.ids import new_id
from models.job import Ref
from models.queue import Queue, queues
from models.states import State
from tests.factories import ago, jobs_in, row_of, tenant_id_of


def test_a_queue_of_which_nothing_was_said_has_no_row(session: Session):
    assert queue.find_queue(session, "media") is None
    assert queue.hold_queue(session, "media") is None
    assert queue.restrained(session) == {}


def test_a_queue_is_paused_once_and_by_whom_is_kept(session: Session):
    before, after = queue.pause(session, "media", "key:first")
    again, still = queue.pause(session, "media", "key:second")

    assert before == Queue("media")
    assert (after.paused, after.paused_by) == (True, "key:first")
    assert again == still == after
    assert queue.restrained(session) == {"media": after}


def test_a_queue_that_is_resumed_is_restrained_no_more(session: Session):
    _, paused = queue.pause(session, "media", "key:first")

    assert queue.resume(session, "media") == (paused, Queue("media"))
    assert queue.resume(session, "media") == (Queue("media"), Queue("media"))
    assert queue.restrained(session) == {}


def test_limits_are_set_one_by_one_and_taken_away(session: Session):
    queue.limit(session, "media", max_running=3)
    before, after = queue.limit(session, "media", max_per_second=0.5)

    assert before == Queue("media", max_running=3)
    assert after == Queue("media", max_running=3, max_per_second=0.5)
    assert after.limited
    assert queue.restrained(session) == {"media": after}
    assert queue.limit(session, "media") == (after, after)
    assert not queue.limit(session, "media", max_running=None, max_per_second=None)[1].limited


def test_a_queue_remembers_until_when_it_is_paced(session: Session):
    queue.limit(session, "media", max_per_second=5)
    until = ago(seconds=-0.5)
    queue.pace(session, "media", until)

    found = queue.find_queue(session, "media")
    assert found is not None
    assert abs((found.paced_until or ago(days=1)) - until) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"max_running": 0},
        {"max_per_second": 0.0},
        {"max_per_second": 1e-300},
        {"paused_at": ago()},
        {"paused_by": "key:first"},
    ],
)
def test_the_table_refuses_nonsense(session: Session, nonsense):
    with pytest.raises(IntegrityError):
        session.execute(insert(queues).values(name="media", **nonsense))


def test_a_tenant_weighs_one_until_it_is_told_otherwise(session: Session):
    made, _ = identity.ensure_tenant(session, "acme")

    before, after = identity.weigh_tenant(session, "acme", 5) or pytest.fail("it is there")
    assert (made.weight, before.weight, after.weight) == (1, 1, 5)
    assert identity.find_tenant(session, "acme") == after
    assert identity.weigh_tenant(session, "nobody", 5) is None


def test_a_weight_is_at_least_one(session: Session):
    with pytest.raises(IntegrityError):
        session.execute(insert(tenants).values(id=new_id(), name="light", created_at=ago(), weight=0))


# Claims and releases, queue by queue


def _waiting(session: Session, name: str, how_many: int, **columns: Any) -> list[Ref]:
    return jobs_in(session, State.QUEUED, how_many, tenant_id=tenant_id_of(session, name), **columns)


def test_each_tenant_gets_its_share_longest_due_first(session: Session):
    blue = _waiting(session, "blue", 3, due_at=ago(minutes=3))
    young = _waiting(session, "blue", 5, due_at=ago(minutes=1))
    red = _waiting(session, "red", 2)
    _waiting(session, "green", 2)
    shares = {tenant_id_of(session, "blue"): 3, tenant_id_of(session, "red"): 9}

    claimed = moves.claim_shares(session, "default", 0, shares, timedelta(seconds=60))
    assert {job.id for job in claimed} == {ref.id for ref in blue + red}
    assert {job.lease for job in claimed} == {red[0].lease + 1}
    again = moves.claim_shares(session, "default", 0, shares, timedelta(seconds=60))
    assert {job.id for job in again} < {ref.id for ref in young}
    assert len(again) == 3


@pytest.mark.parametrize(
    "other", [{"queue": "media"}, {"priority": 1}, {"due_at": ago(days=-1)}], ids=["queue", "priority", "due"]
)
def test_a_share_is_of_one_lane_and_of_what_is_due(session: Session, other: dict[str, Any]):
    _waiting(session, "blue", 3, **other)
    shares = {tenant_id_of(session, "blue"): 9}

    assert moves.claim_shares(session, "default", 0, shares, timedelta(seconds=60)) == []


def test_tenants_that_wait_are_found_a_page_at_a_time(session: Session):
    ids = sorted(tenant_id_of(session, f"tenant-{number}") for number in range(7))
    for number, tenant_id in enumerate(ids):
        jobs_in(session, State.QUEUED, 3, tenant_id=tenant_id, due_at=ago(minutes=number - 3))
    _waiting(session, "elsewhere", 1, queue="media")
    identity.weigh_tenant(session, "tenant-3", 4)
    (lane,) = lineup.lanes(session, "default")

    first = lineup.waiting_shares(session, lane, None, 4)
    second = lineup.waiting_shares(session, lane, first[-1].share_id, 4)
    assert [one.share_id for one in first + second] == ids
    assert [one.due for one in first + second] == [False] * 3 + [True] * 4
    assert {one.share_id: one.weight for one in first + second if one.weight > 1} == {
        tenant_id_of(session, "tenant-3"): 4
    }
    assert lane.shared


def test_a_lane_of_one_tenant_is_not_shared(session: Session):
    _waiting(session, "blue", 3)
    _waiting(session, "red", 3, priority=1)

    assert [lane.shared for lane in lineup.lanes(session, "default")] == [False, False]


def test_what_came_last_to_the_broker_is_taken_back_first(session: Session):
    old = jobs_in(session, State.DISPATCHED, 2, dispatched_at=ago(seconds=9))
    new = jobs_in(session, State.DISPATCHED, 3, dispatched_at=ago(seconds=1))
    jobs_in(session, State.DISPATCHED, 1, queue="media")

    assert {job.ref for job in moves.release_from(session, "default", 3)} == set(new)
    assert {job.ref for job in moves.release_from(session, "default", 100)} == set(old)
    assert row_of(session, old[0])["state"] == State.QUEUED


def test_no_job_of_a_paused_queue_begins_and_none_is_lost(session: Session):
    (ref,), (other,) = jobs_in(session, State.DISPATCHED, 1), jobs_in(session, State.DISPATCHED, 1, queue="media")
    queue.pause(session, "default", "key:first")

    assert [job.ref for job in moves.start(session, [ref, other], new_id())] == [other]
    assert row_of(session, ref)["state"] == State.DISPATCHED
    queue.resume(session, "default")
    assert [job.ref for job in moves.start(session, [ref], new_id())] == [ref]


def test_what_is_in_hand_is_on_the_broker_or_runs(session: Session):
    for state in State:
        jobs_in(session, state, 2)
    jobs_in(session, State.RUNNING, 3, queue="media")

    found = lineup.in_hand(session, "default")
    assert (found.on_broker, found.running) == (2, 2)
    assert abs(found.at - ago()) < timedelta(minutes=1)
