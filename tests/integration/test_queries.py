"""Every read: the right rows, of the right tenant, in the right order."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from models import lineup, lists, moves, queries, queue
from models.ids import new_id
from models.job import Ref
from models.lineup import Lane
from models.lists import JobFilter
from models.moves import Ending
from models.queries import Signal
from models.states import FINAL, LIVE, LOSSES_UNTIL_ALONE, Move, State
from tests.factories import LEASE, ago, job_in, jobs_in, row_of, tenant_id_of, unique

ACTOR = "tester"


def _ids(found: Any) -> list[Any]:
    return [row.id for row in found]


# One job


@pytest.mark.parametrize("state", State)
def test_a_job_is_found_as_its_row_stands(session: Session, state: State) -> None:
    ref = job_in(session, state)
    row = row_of(session, ref)

    job = queries.find_job(session, ref.id, row["tenant_id"])

    assert job
    assert vars(job) == {name: row[name] for name in vars(job)}
    assert isinstance(job.state, State)
    assert job.final == (state in FINAL)


def test_a_job_of_another_tenant_is_not_found_but_by_an_operator_of_all(session: Session) -> None:
    ref = job_in(session, State.QUEUED)

    assert queries.find_job(session, ref.id, tenant_id_of(session, "other")) is None
    assert queries.find_job(session, ref.id, None)
    assert queries.find_job(session, new_id(), None) is None


def test_a_job_is_found_by_its_idempotency_key_with_the_hash_of_its_request(session: Session) -> None:
    ref = job_in(session, State.SUCCEEDED, idempotency_key="k1", request_hash=b"\x00h")

    found = queries.find_by_idempotency_keys(session, tenant_id_of(session), ["k1", "k2"])

    ((key, (job, request_hash)),) = found.items()
    assert (key, job.id, request_hash) == ("k1", ref.id, b"\x00h")
    assert queries.find_by_idempotency_keys(session, tenant_id_of(session, "other"), ["k1"]) == {}


def test_jobs_are_found_by_their_ids_within_their_tenant(session: Session) -> None:
    refs = jobs_in(session, State.SUCCEEDED, 2)
    ids = [ref.id for ref in refs]

    assert queries.find_by_ids(session, tenant_id_of(session), [*ids, new_id()]).keys() == set(ids)
    assert queries.find_by_ids(session, tenant_id_of(session, "other"), ids) == {}


def test_the_holder_of_a_unique_key_is_the_unfinished_job(session: Session) -> None:
    jobs_in(session, State.DEAD, 2, unique_key="k1")
    holder = job_in(session, State.RUNNING, unique_key="k1")
    tenant_id = tenant_id_of(session)

    assert queries.find_unique_holders(session, tenant_id, "demo.echo", ["k1", "k2"]) == {"k1": holder.id}
    assert queries.find_unique_holders(session, tenant_id, "demo.sleep", ["k1"]) == {}
    assert queries.find_unique_holders(session, tenant_id_of(session, "other"), "demo.echo", ["k1"]) == {}


# Lists


def _listed(session: Session, limit: int = 100, before: Any = None, **wanted: Any) -> list[Any]:
    told = {"tenant_id": tenant_id_of(session), **wanted}
    return _ids(lists.list_jobs(session, JobFilter(**told), before, limit).jobs)


def test_a_list_is_newest_first_and_of_one_tenant(session: Session) -> None:
    refs = jobs_in(session, State.QUEUED, 5)
    foreign = job_in(session, State.QUEUED, tenant_id=tenant_id_of(session, "other"))

    assert _listed(session) == [ref.id for ref in reversed(refs)]
    assert set(_listed(session, tenant_id=None)) == {ref.id for ref in refs} | {foreign.id}


@pytest.mark.parametrize("states", [(), LIVE, (State.DEAD,), (State.DEAD, State.SUCCEEDED, State.DEAD)], ids=str)
def test_pages_put_together_are_the_whole_list(session: Session, states: tuple[State, ...]) -> None:
    refs = [job_in(session, state) for _ in range(3) for state in State]
    whole = _listed(session, states=states)

    pages, before = [], None
    while page := _listed(session, limit=2, before=before, states=states):
        pages += page
        before = page[-1]

    assert pages == whole == sorted(pages, reverse=True)
    assert len(pages) == 3 * len(set(states) or State) <= len(refs)


@pytest.mark.parametrize("states", [(state,) for state in State] + [LIVE, FINAL, tuple(State)], ids=str)
def test_a_list_by_state_shows_those_states_only(session: Session, states: tuple[State, ...]) -> None:
    refs = {job_in(session, state).id: state for state in State}

    assert {refs[job_id] for job_id in _listed(session, states=states)} == set(states)


def test_a_list_is_narrowed_by_type_and_queue_and_state_together(session: Session) -> None:
    wanted = job_in(session, State.DEAD, type="a", queue="media")
    job_in(session, State.DEAD, type="b", queue="media")
    job_in(session, State.DEAD, type="a", queue="default")
    job_in(session, State.QUEUED, type="a", queue="media")

    assert _listed(session, states=(State.DEAD, State.SUCCEEDED), types=("a",), queue="media") == [wanted.id]
    assert len(_listed(session, types=("a", "b", "a"))) == 4
    assert len(_listed(session, types=("a", "b"), states=(State.DEAD, State.QUEUED))) == 4
    assert len(_listed(session, types=("a", "b"), limit=3)) == 3
    assert len(_listed(session, queue="default")) == 1
    assert _listed(session, types=("c",)) == []


def test_history_is_newest_first_in_pages(session: Session) -> None:
    ref = job_in(session, State.RUNNING)
    other = job_in(session, State.DEAD)
    moves.bury(session, [Ending(ref, error='{"type": "Boom"}', reason="permanent")], ACTOR)
    moves.redrive(session, [ref, other], ACTOR)

    newest = queries.list_events(session, ref.id, None, 1)
    older = queries.list_events(session, ref.id, newest[0].id, 5)

    assert [event.move for event in newest + older] == [Move.REDRIVE, Move.BURY]
    assert (older[0].state, older[0].error, older[0].reason) == (State.DEAD, {"type": "Boom"}, "permanent")
    assert (older[0].actor, older[0].attempt, older[0].lease) == (ACTOR, 2, LEASE)


# What the loops ask


def test_lanes_are_the_priorities_in_use_highest_first_with_their_first_due_time(session: Session) -> None:
    soon, late = ago(minutes=-1), ago(minutes=-9)
    past = ago(minutes=5)
    for priority, due_at in ((5, late), (5, soon), (-100, past), (100, late), (0, past)):
        job_in(session, State.QUEUED, queue="media", priority=priority, due_at=due_at)
    job_in(session, State.DISPATCHED, queue="media", priority=50)
    job_in(session, State.QUEUED, queue="default", priority=51)

    assert lineup.lanes(session, "media") == [
        Lane("media", 100, late, due=False),
        Lane("media", 5, soon, due=False),
        Lane("media", 0, past, due=True),
        Lane("media", -100, past, due=True),
    ]
    assert lineup.lanes(session, "empty") == []
    sight = lineup.look(session, ["media", "empty", "default"])
    assert sight.lanes["media"] == lineup.lanes(session, "media")
    assert {name: [lane.priority for lane in lanes] for name, lanes in sight.lanes.items()} == {
        "media": [100, 5, 0, -100],
        "empty": [],
        "default": [51],
    }


def test_jobs_on_the_broker_are_counted_by_queue(session: Session) -> None:
    jobs_in(session, State.DISPATCHED, 3, queue="media")
    job_in(session, State.DISPATCHED)
    for state in set(State) - {State.DISPATCHED}:
        job_in(session, state, queue="media")

    assert lineup.dispatched_counts(session) == {"media": 3, "default": 1}
    assert lineup.look(session, ["default"]).on_broker == {"media": 3, "default": 1}


@pytest.mark.parametrize("queues", [[], ["default", "media"]])
def test_a_look_tells_whether_any_queue_is_paused_or_limited(session: Session, queues: list[str]) -> None:
    job_in(session, State.QUEUED)
    assert not lineup.look(session, queues).restrained
    queue.limit(session, "elsewhere", max_running=5)
    sight = lineup.look(session, queues)
    assert (sight.restrained, list(sight.lanes)) == (True, queues)
    queue.limit(session, "elsewhere", max_running=None)
    assert not lineup.look(session, queues).restrained
    queue.pause(session, "elsewhere", "anybody")
    assert lineup.look(session, queues).restrained


def test_expired_claims_are_those_whose_time_is_over_longest_first(session: Session) -> None:
    later, first = (job_in(session, State.DISPATCHED, lease_expires_at=ago(minutes=m)) for m in (1, 9))
    job_in(session, State.DISPATCHED, lease_expires_at=ago(minutes=-1))
    job_in(session, State.RUNNING)

    assert queries.expired_claims(session, 10) == [first, later]
    assert queries.expired_claims(session, 1) == [first]


def test_settled_claims_are_the_older_ones_of_one_queue(session: Session) -> None:
    newer, older = (job_in(session, State.DISPATCHED, dispatched_at=ago(seconds=s)) for s in (11, 20))
    job_in(session, State.DISPATCHED, dispatched_at=ago(seconds=5))
    job_in(session, State.DISPATCHED, queue="media")

    assert queries.settled_claims(session, "default", timedelta(seconds=10), 5) == [older, newer]
    assert queries.settled_claims(session, "default", timedelta(seconds=10), 1) == [older]


def test_all_dispatched_are_all_and_only_those(session: Session) -> None:
    refs = jobs_in(session, State.DISPATCHED, 3)
    for state in set(State) - {State.DISPATCHED}:
        job_in(session, state)

    assert set(queries.all_dispatched(session, 10)) == set(refs)
    assert len(queries.all_dispatched(session, 2)) == 2


def test_the_running_jobs_of_workers_are_found(session: Session) -> None:
    mine, yours = new_id(), new_id()
    refs = [job_in(session, State.RUNNING, worker_id=worker_id) for worker_id in (mine, yours)]
    job_in(session, State.RUNNING)
    job_in(session, State.SUCCEEDED, worker_id=mine)

    assert set(queries.running_of(session, [mine, yours], 10)) == set(refs)
    assert len(queries.running_of(session, [mine, yours], 1)) == 1
    assert queries.running_of(session, [], 10) == []


def test_what_a_worker_started_is_told_by_its_lease(session: Session) -> None:
    worker_id = new_id()
    mine, other = (job_in(session, State.RUNNING, worker_id=by) for by in (worker_id, new_id()))
    older = Ref(job_in(session, State.RUNNING, worker_id=worker_id).id, LEASE - 1)

    found = queries.started_by(session, [mine, other, older], worker_id)

    assert [job.ref for job in found] == [mine]
    assert queries.started_by(session, [], worker_id) == []


def test_claims_of_jobs_that_one_more_loss_would_bury_are_found(session: Session) -> None:
    often, more = (
        job_in(session, State.DISPATCHED, lost=lost) for lost in (LOSSES_UNTIL_ALONE, LOSSES_UNTIL_ALONE + 1)
    )
    once = job_in(session, State.DISPATCHED, lost=LOSSES_UNTIL_ALONE - 1)
    stale = Ref(job_in(session, State.DISPATCHED, lost=LOSSES_UNTIL_ALONE).id, LEASE - 1)
    others = [job_in(session, state, lost=LOSSES_UNTIL_ALONE) for state in set(State) - {State.DISPATCHED}]

    assert queries.lost_often(session, [more, once, often, stale, *others]) == [more, often]
    assert queries.lost_often(session, []) == []


def test_moves_are_counted_by_their_reason(session: Session) -> None:
    ref, other = job_in(session, State.RUNNING), job_in(session, State.RUNNING)
    moves.snooze(session, [Ending(other, reason="busy", delay_seconds=60)], ACTOR)
    for reason in ("busy", "early", "busy"):
        moves.snooze(session, [Ending(ref, reason=reason)], ACTOR)
        (claimed,) = moves.claim(session, "default", 0, 1, timedelta(seconds=60))
        moves.start(session, [ref := claimed.ref], new_id())

    assert queries.moves_because(session, ref.id, Move.SNOOZE, "busy") == 2
    assert queries.moves_because(session, ref.id, Move.RETRY, "busy") == 0


def test_signals_tell_a_worker_of_its_leases_and_cancellations(session: Session) -> None:
    worker_id = new_id()
    calm, asked = (
        job_in(session, State.RUNNING, worker_id=worker_id, cancel_requested_at=at) for at in (None, ago(seconds=1))
    )
    job_in(session, State.RUNNING, cancel_requested_at=ago(seconds=1))
    job_in(session, State.DEAD, worker_id=worker_id)

    assert queries.signals(session, worker_id) == {
        calm.id: Signal(LEASE, cancel_requested=False),
        asked.id: Signal(LEASE, cancel_requested=True),
    }


def test_present_states_are_told_for_the_same_lease_only(session: Session) -> None:
    refs = {job_in(session, state): state for state in State}
    stale = Ref(job_in(session, State.RUNNING).id, LEASE + 1)

    assert queries.states_of(session, [*refs, stale, Ref(new_id(), LEASE)]) == refs
    assert queries.states_of(session, []) == {}


def test_names_with_quotes_and_percent_signs_are_only_names(session: Session) -> None:
    queue = unique("a'%(x)s :y \"z")
    ref = job_in(session, State.QUEUED, queue=queue, type=queue)

    assert _listed(session, queue=queue, types=(queue,), states=(State.QUEUED, State.DEAD)) == [ref.id]
    assert [lane.queue for lane in lineup.lanes(session, queue)] == [queue]
