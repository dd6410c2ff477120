"""Deliveries are handed out gate by gate: no receiver has more than its part, and none waits for another."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, update

from models import gate, lineup, moves, worker
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.errors import Trouble, Unavailable
from models.gate import NewGate
from models.ids import new_id
from models.job import GATED_QUEUE, Ref, job_events, jobs
from models.lease import leases
from models.moves import Ending
from models.states import State
from models.worker import workers
from tests.factories import ago, jobs_in, row_of, tenant_id_of
from tests.workbench import lent_database
from workers.duties.claiming import Claimed, Claims
from workers.duties.dispatch import REFUSED_SLEEP, Dispatch
from workers.duties.limits import LONGEST_LOOK, SHORTEST_LOOK
from workers.duties.pace import SECOND_LOOK
from workers.transport import Envelope

LEADS: Any = SimpleNamespace(
    held=True, in_motion=True, wake=threading.Event(), holder=new_id(), listened_seconds=3600.0
)


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def lent(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


@pytest.fixture
def database(lent: Database) -> Database:
    with lent.transaction() as session:
        for table in (job_events, jobs, gate.gates, workers, leases):
            session.execute(delete(table))
    return lent


def waiting(
    database: Database, gate_id: UUID | None, how_many: int, state: State = State.QUEUED, **more: Any
) -> list[Ref]:
    def planted(session: Any) -> list[Ref]:
        if gate_id is not None:
            gate.add(session, {NewGate(gate_id, more.get("tenant_id", tenant_id_of(session)), "https://example.com")})
        return jobs_in(session, state, how_many, queue=GATED_QUEUE, gate_id=gate_id, type="webhook.deliver", **more)

    return database.run(planted)


def found(database: Database, gate_id: UUID, **values: Any) -> None:
    """What has been found of the gate's receiver."""

    def change(session: Any) -> None:
        held = gate.find(session, gate_id)
        assert held is not None
        gate.change(session, replace(held, **values))

    database.run(change)


def claim(database: Database, wanted: int = 100, claims: Claims | None = None, threads: int = 100) -> Claimed:
    with database.reading() as session:
        lanes = lineup.lanes(session, GATED_QUEUE)
    return (claims or Claims(database, 4)).take(
        [lane for lane in lanes if lane.due], wanted, limited=False, threads=threads
    )


def of_each(claimed: Claimed) -> Counter[UUID | None]:
    return Counter(job.gate_id for job in claimed.jobs)


def test_of_a_gate_so_many_are_handed_out_and_of_another_as_many(database: Database):
    slow, fast = new_id(), new_id()
    waiting(database, slow, 50, due_at=ago(hours=1))
    waiting(database, fast, 3)
    first = claim(database)
    assert (of_each(first), first.full) == ({slow: 4, fast: 3}, True)
    second = claim(database)
    assert (of_each(second), second.full) == ({}, True)


def test_what_runs_counts_as_much_as_what_is_on_the_broker(database: Database):
    one = new_id()
    waiting(database, one, 2, State.RUNNING)
    waiting(database, one, 1, State.DISPATCHED)
    waiting(database, one, 9, State.SUCCEEDED)
    waiting(database, one, 9, State.DEAD)
    waiting(database, one, 10)
    assert of_each(claim(database)) == {one: 1}


def test_a_place_is_free_again_when_its_job_is_done(database: Database):
    one = new_id()
    waiting(database, one, 10)
    assert len(claim(database).jobs) == 4
    with database.transaction() as session:
        running = session.execute(
            update(jobs)
            .where(jobs.c.state == State.DISPATCHED)
            .values(state=State.RUNNING, started_at=ago(), worker_id=new_id(), lease_expires_at=None)
            .returning(jobs.c.id, jobs.c.lease)
        ).all()
        moves.succeed(session, [Ending(Ref(*running[0]), result="1")])
    assert len(claim(database).jobs) == 1


def test_a_receiver_that_gave_no_answer_is_tried_with_one_at_a_time(database: Database):
    silent = new_id()
    waiting(database, silent, 10)
    found(database, silent, unanswered=1)
    assert of_each(claim(database)) == {silent: 1}
    assert of_each(claim(database)) == {}


def test_a_closed_gate_lets_nothing_through_until_its_time(database: Database):
    closed, open_ = new_id(), new_id()
    waiting(database, closed, 10, due_at=ago(hours=1))
    waiting(database, open_, 2)
    found(database, closed, unanswered=5, closed_until=datetime.now(UTC) + timedelta(minutes=1))
    assert of_each(claim(database)) == {open_: 2}
    found(database, closed, unanswered=5, closed_until=datetime.now(UTC) - timedelta(seconds=1))
    assert of_each(claim(database)) == {closed: 1}


def test_many_gates_share_what_is_wanted(database: Database):
    gates = [new_id() for _ in range(10)]
    for one in gates:
        waiting(database, one, 10)
    assert of_each(claim(database, wanted=20)) == dict.fromkeys(gates, 2)


def test_jobs_without_a_gate_are_claimed_too(database: Database):
    """Put there by an older release, say."""
    waiting(database, None, 30)
    waiting(database, new_id(), 3)
    assert len(claim(database).jobs) == 33  # and as many as there are


def test_a_gate_of_which_there_is_no_row_is_open(database: Database):
    one = new_id()
    waiting(database, one, 6)
    database.run(lambda session: session.execute(delete(gate.gates)))
    assert of_each(claim(database)) == {one: 4}


def test_more_gates_than_one_look_sees_have_their_turn(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workers.duties.claiming.MOST_SHARES", 3)
    gates = [new_id() for _ in range(10)]
    for one in gates:
        waiting(database, one, 2)
    claims = Claims(database, 4)
    claimed = [claim(database, 100, claims) for _ in range(5)]
    assert sum((of_each(one) for one in claimed), Counter()) == dict.fromkeys(gates, 2)


class Noting:
    """A broker that takes everything."""

    connected = True

    def publish(self, messages: Sequence[Envelope]) -> list[bool]:
        return [True] * len(messages)

    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        return dict.fromkeys(queues, 0)


def test_a_dispatcher_looks_again_soon_while_a_gate_is_full_and_does_not_spin(database: Database):
    with database.transaction() as session:
        worker.register(session, new_id(), host="t", pid=1, queues=(GATED_QUEUE,), threads=8, version="0")
    waiting(database, new_id(), 50)
    dispatch = Dispatch(database, Noting(), LEADS, gate_width=4)
    slept = [dispatch.run_once() for _ in range(4)]
    assert all(SHORTEST_LOOK <= one <= LONGEST_LOOK for one in slept)


def closed_gates(database: Database, how_many: int) -> None:
    """A worker, and as many closed gates, at each of which two jobs wait."""
    with database.transaction() as session:
        worker.register(session, new_id(), host="t", pid=1, queues=(GATED_QUEUE,), threads=8, version="0")
    for closed in [new_id() for _ in range(how_many)]:
        waiting(database, closed, 2)
        found(database, closed, unanswered=9, closed_until=datetime.now(UTC) + timedelta(minutes=1))


def test_a_dispatcher_rests_while_all_gates_are_closed(database: Database):
    closed_gates(database, 2)
    dispatch = Dispatch(database, Noting(), LEADS, gate_width=4)
    assert min(dispatch.run_once() for _ in range(3)) > LONGEST_LOOK


def test_nor_does_it_spin_while_more_gates_are_closed_than_one_look_sees(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("workers.duties.claiming.MOST_SHARES", 3)
    closed_gates(database, 8)
    dispatch = Dispatch(database, Noting(), LEADS, gate_width=4)
    slept = [dispatch.run_once() for _ in range(6)]
    assert min(slept) >= SECOND_LOOK
    open_ = waiting(database, new_id(), 1)
    for _ in range(4):
        dispatch.run_once()
    with database.reading() as session:
        assert row_of(session, open_[0])["state"] == State.DISPATCHED


def test_unused_gates_are_forgotten(database: Database):
    kept, unused = new_id(), new_id()
    waiting(database, kept, 1)
    waiting(database, unused, 1)
    with database.transaction() as session:
        session.execute(update(gate.gates).where(gate.gates.c.id == unused).values(used_at=ago(days=40)))
        assert gate.remove_unused(session, timedelta(days=30), 10) == 1
        assert gate.find(session, unused) is None
        assert gate.find(session, kept) is not None
    assert len(claim(database).jobs) == 2


def test_a_claim_counts_under_the_gates_rows_so_that_two_cannot_fill_one_twice(lent: Database, database: Database):
    if lent.path is not None:
        return  # SQLite's one writer is alone
    one, another = new_id(), new_id()
    waiting(database, one, 10)
    waiting(database, another, 10)
    with database.transaction() as session:
        free, busy = gate.hold_free(session, [one])
        assert (set(free), busy) == ({one}, set())
        claimed = claim(database)
    assert of_each(claimed) == {another: 4}
    assert claimed.full
    assert of_each(claim(database)) == {one: 4}


def test_receivers_that_give_no_answer_have_a_quarter_of_the_threads_together(database: Database):
    silent, good = [new_id() for _ in range(50)], new_id()
    for one in silent:
        waiting(database, one, 5, due_at=ago(hours=1))
        found(database, one, unanswered=2)
    waiting(database, good, 5)
    claims = Claims(database, 4)
    first = of_each(claim(database, 8, claims, threads=8))
    assert first[good] == 4
    assert first.total() == 6
    assert of_each(claim(database, 8, claims, threads=8)) == {}
    assert of_each(claim(database, 8, claims, threads=12)).total() == 1


def test_among_silent_receivers_the_ones_that_are_tried_change(database: Database):
    silent = [new_id() for _ in range(6)]
    for one in silent:
        waiting(database, one, 5)
        found(database, one, unanswered=2)
    assert claimed_one_by_one(database, Claims(database, 4), 12, wanted=8, threads=4) == dict.fromkeys(silent, 2)


def test_a_tenant_with_many_receivers_leaves_another_its_half(database: Database):
    with database.transaction() as session:
        small = tenant_id_of(session, "small")
    for _ in range(10):
        waiting(database, new_id(), 5, due_at=ago(hours=1))
    lone = [new_id(), new_id()]
    for one in lone:
        waiting(database, one, 5, tenant_id=small)
    got = of_each(claim(database, 8))
    assert [got[one] for one in lone] == [2, 2]
    assert got.total() == 8


def test_so_does_one_with_more_receivers_than_one_look_sees(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workers.duties.claiming.MOST_SHARES", 4)
    with database.transaction() as session:
        small = tenant_id_of(session, "small")
    for _ in range(20):
        waiting(database, new_id(), 10)
    lone = new_id()
    waiting(database, lone, 50, tenant_id=small)
    assert claimed_one_by_one(database, Claims(database, 4), 20, wanted=2)[lone] == 20


def test_every_silent_receiver_has_its_trials_whatever_turns_the_others_take(database: Database):
    tenants = [database.run(lambda session, name=name: tenant_id_of(session, name)) for name in "abcde"]
    silent = [new_id() for _ in range(3)]
    for number, one in enumerate(silent):
        waiting(database, one, 30, tenant_id=tenants[number], due_at=ago(hours=3 - number))
        found(database, one, unanswered=1)
    for tenant_id in tenants[3:]:
        waiting(database, new_id(), 60, tenant_id=tenant_id, due_at=ago(hours=5))
    tried = claimed_one_by_one(database, Claims(database, 4), 60, wanted=1, threads=4)
    assert min(tried[one] for one in silent) >= 5


def claimed_one_by_one(
    database: Database, claims: Claims, steps: int, wanted: int, threads: int = 100
) -> Counter[UUID | None]:
    """What so many steps claimed, each of which found all of the step before done."""
    total = Counter[UUID | None]()
    for _ in range(steps):
        claimed = claim(database, wanted, claims, threads)
        total += of_each(claimed)
        with database.transaction() as session:
            session.execute(delete(jobs).where(jobs.c.id.in_([job.id for job in claimed.jobs])))
    return total


def test_a_gate_that_is_deleted_while_somebody_waits_for_it_is_made_again(lent: Database, database: Database):
    if lent.path is not None:
        return  # SQLite's one writer is alone
    one = new_id()
    waiting(database, one, 1)
    wanted = NewGate(one, database.run(tenant_id_of), "https://example.com")
    with ThreadPoolExecutor() as threads:
        with database.transaction() as session:
            gate.remove(session, one)
            held = threads.submit(database.run, lambda other: gate.hold(other, wanted))
            with pytest.raises(TimeoutError):
                held.result(0.3)
        assert held.result(5).id == one


def test_it_does_not_spin_while_more_gates_wait_for_their_time_than_one_look_sees(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("workers.duties.claiming.MOST_SHARES", 3)
    with database.transaction() as session:
        worker.register(session, new_id(), host="t", pid=1, queues=(GATED_QUEUE,), threads=8, version="0")
    gates = sorted(new_id() for _ in range(8))
    for later in gates[:7]:
        waiting(database, later, 2, due_at=ago(minutes=-1))
    waiting(database, gates[7], 1)
    found(database, gates[7], unanswered=9, closed_until=datetime.now(UTC) + timedelta(minutes=1))
    dispatch = Dispatch(database, Noting(), LEADS, gate_width=4)
    assert min(dispatch.run_once() for _ in range(6)) >= SECOND_LOOK


def test_what_stops_one_queue_s_step_does_not_stop_the_others(database: Database, monkeypatch: pytest.MonkeyPatch):
    with database.transaction() as session:
        worker.register(session, new_id(), host="t", pid=1, queues=(GATED_QUEUE, "default"), threads=8, version="0")
        (other,) = jobs_in(session, State.QUEUED, 1, queue="default")
    (stopped,) = waiting(database, new_id(), 1)

    def locked(*_: Any) -> None:
        raise Unavailable("a lock took too long", Trouble.TIMEOUT)

    monkeypatch.setattr(Claims, "_through_gates", locked)
    assert Dispatch(database, Noting(), LEADS).run_once() <= REFUSED_SLEEP
    with database.reading() as session:
        assert row_of(session, other)["state"] == State.DISPATCHED
        assert row_of(session, stopped)["state"] == State.QUEUED
