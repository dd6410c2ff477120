"""The dispatcher's duties, one step at a time: what each takes, gives back, deletes, and leaves alone."""

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pika
import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from models import durations, gate, lease, lineup, moves, queue, worker
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.durations import Lately
from models.errors import Unavailable
from models.gate import NewGate
from models.ids import new_id
from models.job import Ref, job_events, jobs
from models.lease import leases
from models.states import State
from models.worker import workers
from tests.factories import ago, history_of, job_in, jobs_in, row_of, tenant_id_of
from tests.workbench import counted, leading, lent_database
from workers.duties import claiming as claiming_module
from workers.duties import dispatch as dispatch_module
from workers.duties import leadership as leadership_module
from workers.duties import limits as limits_module
from workers.duties import prune as prune_module
from workers.duties import rescue as rescue_module
from workers.duties.claiming import Claims
from workers.duties.dispatch import MOST_PER_STEP, NO_LEADER_SLEEP, REFUSED_SLEEP, Dispatch
from workers.duties.grouping import MessageSizes
from workers.duties.leadership import RENEW_EVERY, TERM, TRY_EVERY, Leadership
from workers.duties.limits import SHORTEST_LOOK
from workers.duties.pace import LONGEST_SLEEP, Rate
from workers.duties.prune import EVERY_SECONDS, REST_PER_WORK, SHORTEST_REST_SECONDS, Prune
from workers.duties.reconcile import Reconcile
from workers.duties.rescue import HEARD_OUT, Rescue, take_over
from workers.local_broker import LocalBroker
from workers.publisher import Publisher
from workers.transport import Envelope

LEADS = leading()
STANDS_BY = leading(held=False)


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def lent(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


@pytest.fixture
def database(lent: Database) -> Database:
    """Without jobs and workers: the duties are concerned with all there are."""
    with lent.transaction() as session:
        for table in (job_events, jobs, workers, leases, queue.queues):
            session.execute(delete(table))
    return lent


class Noting:
    """A transport that notes what it is given, and confirms what it is told to confirm."""

    def __init__(self, confirms: Callable[[Envelope], bool] = lambda _envelope: True) -> None:
        self.connected = True
        self.confirms = confirms
        self.published: list[Ref] = []
        self.messages: list[list[UUID]] = []
        self.waiting: dict[str, int] = {}

    def publish(self, envelopes: Sequence[Envelope]) -> list[bool]:
        self.messages += [[ref.id for ref in envelope.refs] for envelope in envelopes]
        self.published += [ref for envelope in envelopes for ref in envelope.refs]
        return [self.confirms(envelope) for envelope in envelopes]

    def depths(self, queues: Iterable[str]) -> dict[str, int]:
        return {queue: self.waiting[queue] for queue in queues if queue in self.waiting}


def plant(database: Database, state: State, how_many: int = 1, **columns: Any) -> list[Ref]:
    return database.run(lambda session: jobs_in(session, state, how_many, **columns))


def row(database: Database, ref: Ref) -> dict[str, Any]:
    with database.reading() as session:
        return row_of(session, ref)


def states(database: Database, refs: Iterable[Ref]) -> list[State]:
    return [row(database, ref)["state"] for ref in refs]


def register(database: Database, *queues: str, threads: int = 4, silent_for: float = 0, **columns: Any) -> Any:
    worker_id = new_id()

    def step(session: Any) -> None:
        worker.register(
            session, worker_id, host="h", pid=1, queues=queues or ("default",), threads=threads, version="0"
        )
        session.execute(
            update(workers).where(workers.c.id == worker_id).values(heartbeat_at=ago(seconds=silent_for), **columns)
        )

    database.run(step)
    return worker_id


KNOWN = {"demo.echo": Lately(0.0001, 100), "demo.slow": Lately(60.0, 100)}


def say_short(database: Database, worker_id: UUID) -> None:
    database.run(lambda session: durations.tell(session, worker_id, {"demo.echo": Lately(0.0001, 9)}))


def sizes(largest: int) -> MessageSizes:
    """Messages to `default` have lately named so many jobs at most."""
    made = MessageSizes()
    made.sent("default", largest, now=0.0)
    return made


def singly() -> MessageSizes:
    return sizes(1)


# Dispatch


def test_due_jobs_go_to_the_broker_by_priority_and_then_by_age(database: Database):
    register(database, threads=3)
    low = plant(database, State.QUEUED, priority=-5)
    young = plant(database, State.QUEUED, priority=7, due_at=ago(minutes=1))
    old = plant(database, State.QUEUED, priority=7, due_at=ago(minutes=2))
    top = plant(database, State.QUEUED, priority=9)
    transport = Noting()
    Dispatch(database, transport, LEADS).run_once()
    assert {ref.id for ref in transport.published} == {ref.id for ref in top + old + young}
    assert next(ref.id for ref in transport.published) == top[0].id
    assert states(database, top + old + young + low) == [State.DISPATCHED] * 3 + [State.QUEUED]


def test_what_is_published_carries_the_lease_it_was_claimed_with(database: Database):
    register(database)
    (ref,) = plant(database, State.QUEUED)
    transport = Noting()
    Dispatch(database, transport, LEADS).run_once()
    assert transport.published == [Ref(ref.id, ref.lease + 1)]
    assert row(database, ref)["lease"] == ref.lease + 1


def test_the_message_of_a_job_that_was_lost_names_it_alone_at_its_second_try_and_its_third(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dispatch_module, "fair_size", lambda *_: 10)
    say_short(database, register(database, threads=8))
    fresh = plant(database, State.QUEUED, 4)
    suspects = [*plant(database, State.QUEUED, lost=1), *plant(database, State.QUEUED, lost=2)]
    transport = Noting()
    Dispatch(database, transport, LEADS).run_once()
    together, *apart = sorted(transport.messages, key=len, reverse=True)
    assert sorted(together) == sorted(ref.id for ref in fresh)
    assert sorted(apart) == sorted([ref.id] for ref in suspects)


def test_jobs_of_a_type_that_a_worker_called_short_travel_together_and_a_broker_holds_a_message_a_thread(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        dispatch_module, "DURATIONS_KEPT_SECONDS", math.inf
    )  # what is not known is looked up all the same
    worker_id = register(database, threads=2)
    refs = plant(database, State.QUEUED, 60)
    transport = Noting()
    dispatch = Dispatch(database, transport, LEADS)
    dispatch.run_once()
    assert [len(names) for names in transport.messages] == [1, 1], "nobody knows yet how long they are"

    say_short(database, worker_id)
    for _ in range(3):
        begun = list(transport.published)
        database.run(lambda session, refs=begun: moves.start(session, refs, worker_id))
        dispatch.run_once()

    assert max(len(names) for names in transport.messages) > 10
    assert State.QUEUED not in states(database, refs)


@pytest.mark.parametrize(("begun", "messages"), [(12, [12]), (100, [22] * 4)])
def test_what_fills_a_broker_up_travels_together_and_the_last_of_it_is_shared_out(
    database: Database, begun: int, messages: list[int]
):
    worker_id = register(database, threads=4)
    say_short(database, worker_id)
    plant(database, State.QUEUED, 488)
    transport = Noting()
    dispatch = Dispatch(database, transport, LEADS)
    dispatch.run_once()
    dispatch.run_once()
    some, already = transport.published[:begun], len(transport.messages)
    assert len(transport.published) == 400, "a message for each thread, and then a whole one"
    database.run(lambda session: moves.start(session, some, worker_id))
    dispatch.run_once()
    assert [len(names) for names in transport.messages[already:]] == messages


def test_what_begins_while_a_step_publishes_counts_for_the_time_that_it_took(database: Database):
    register(database, threads=8)
    plant(database, State.QUEUED, 8)
    transport = Slow()
    dispatch = Dispatch(database, transport, LEADS)
    dispatch.run_once()
    published_at = time.monotonic()
    rate = dispatch.rates["default"]
    rate.seen(on_broker=0, now=published_at + 0.01)
    assert rate.latest <= 8 / 0.11


class Slow(Noting):
    """A broker that takes a tenth of a second to confirm."""

    def publish(self, envelopes: Sequence[Envelope]) -> list[bool]:
        time.sleep(0.1)
        return super().publish(envelopes)


class Steady(Rate):
    """Of workers that do as many a second, whatever has left the broker."""

    def __init__(self, per_second: float) -> None:
        super().__init__()
        self.per_second = per_second

    def seen(self, on_broker: int, now: float, threads: int = 0) -> None:
        pass


@pytest.mark.parametrize(("priority", "fills"), [(0, [1000, 1000, 0]), (-1, [1000, 600, 0])])
def test_a_broker_is_filled_in_whole_steps_without_a_pause_between(database: Database, priority: int, fills: list[int]):
    """Else as much was begun in a pause as one step brings, and workers went without."""
    worker_id = register(database, threads=8)
    database.run(lambda session: durations.tell(session, worker_id, {"demo.echo": Lately(0.0025, 100)}))
    plant(database, State.QUEUED, 2600, priority=priority)
    transport = Noting()
    dispatch = Dispatch(database, transport, LEADS)
    dispatch.rates["default"] = Steady(3200.0)
    pauses, sent = [], []
    for _ in fills:
        before = len(transport.published)
        pauses.append(dispatch.run_once())
        sent.append(len(transport.published) - before)
    assert sent == pytest.approx(fills, abs=10)
    after_a_whole_step = pauses[1] <= 0.02
    assert (after_a_whole_step, pauses[2] >= 0.2) == (fills[1] == MOST_PER_STEP, True)


@pytest.mark.parametrize("job_type", ["demo.slow", "demo.unheard-of"])
def test_long_jobs_behind_short_ones_do_not_fill_the_broker_because_those_were_short(database: Database, job_type: str):
    worker_id = register(database, threads=2)
    database.run(lambda session: durations.tell(session, worker_id, KNOWN))
    short = plant(database, State.QUEUED, 100, due_at=ago(hours=1))
    long = plant(database, State.QUEUED, 100, type=job_type)
    transport = Noting()
    dispatch = Dispatch(database, transport, LEADS)
    dispatch.run_once()
    database.run(lambda session: moves.start(session, list(transport.published), worker_id))
    dispatch.run_once()

    found = Counter(states(database, long))
    assert State.QUEUED not in states(database, short), "a message for each thread"
    assert found[State.DISPATCHED] <= 10
    assert found[State.QUEUED] >= 90
    assert {ref.id for ref in transport.published} & {ref.id for ref in long} == {
        ref.id for ref in long if states(database, [ref]) == [State.DISPATCHED]
    }


@pytest.mark.parametrize("threads", [1, 8])
def test_a_tenant_s_long_job_has_its_turn_beside_older_short_ones_of_another(
    database: Database, monkeypatch: pytest.MonkeyPatch, threads: int
):
    monkeypatch.setattr(dispatch_module, "CAPACITY_KEPT_SECONDS", 0)
    worker_id = register(database, threads=threads)
    database.run(lambda session: durations.tell(session, worker_id, KNOWN))
    plant(database, State.QUEUED, 3000, due_at=ago(hours=1))
    transport = Noting()
    dispatch = Dispatch(database, transport, LEADS)

    def step() -> None:
        begun = len(transport.published)
        dispatch.run_once()
        database.run(lambda session: moves.start(session, transport.published[begun:], worker_id))

    step()
    long = database.run(
        lambda s: jobs_in(s, State.QUEUED, 2, type="demo.slow", tenant_id=tenant_id_of(s, "other"), due_at=ago())
    )
    for _ in range(2):
        step()
    assert State.RUNNING in states(database, long)


def test_what_there_is_no_room_for_goes_back_and_counts_as_nobody_s_turn(database: Database):
    both = [
        database.run(lambda s, n=n: jobs_in(s, State.QUEUED, 20, tenant_id=tenant_id_of(s, f"turn-{n}")))
        for n in range(2)
    ]
    background = plant(database, State.QUEUED, 5, priority=-1)
    claims, got = Claims(database), Counter[UUID]()
    for _ in range(6):
        claimed = claims.take(due_lanes(database), 30, limited=False, threads=8, fits=lambda jobs: min(1, len(jobs)))
        assert (len(claimed.jobs), claimed.more) == (1, True)
        got[claimed.jobs[0].tenant_id] += 1
        assert len(database.run(lambda session, back=claimed.too_much: moves.release(session, back))) == 29
    assert sorted(got.values()) == [3, 3]
    assert Counter(states(database, [*both[0], *both[1], *background])) == {State.QUEUED: 39, State.DISPATCHED: 6}


def test_what_a_round_has_claimed_goes_out_although_the_next_one_finds_no_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    for number, many in enumerate((3, 50)):
        database.run(lambda s, n=number, m=many: jobs_in(s, State.QUEUED, m, tenant_id=tenant_id_of(s, f"round-{n}")))
    claim_shares, rounds = moves.claim_shares, itertools.count(1)

    def first_only(*told: Any, **more: Any) -> Any:
        if next(rounds) > 1:
            raise Unavailable("away")
        return claim_shares(*told, **more)

    monkeypatch.setattr(moves, "claim_shares", first_only)
    claimed = Claims(database).take(due_lanes(database), 20, limited=False, threads=8)
    assert len(claimed.jobs) == 13  # ten of each had their turn, and one tenant had three


def test_a_rate_is_not_used_up_by_what_goes_back(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits_module, "UNUSED_SECONDS", 60)  # so that a minute's jobs and more may go at once
    monkeypatch.setattr(limits_module, "WAITING_SECONDS", 60)
    plant(database, State.QUEUED, 50)
    say(database, max_per_second=1)
    claimed = Claims(database).take(due_lanes(database), 50, limited=True, threads=8, fits=lambda _jobs: 2)
    assert len(claimed.jobs) == 2
    others = Claims(database).take(due_lanes(database), 50, limited=True, threads=8)
    assert len(others.jobs) == 48


def test_how_long_jobs_are_is_the_mean_of_what_workers_have_said_also_those_that_stopped(database: Database):
    stopped, live, fresh, quiet = (
        register(database, stopped_at=ago(minutes=5), silent_for=300),
        register(database, silent_for=2),
        register(database),
        register(database),
    )
    for worker_id, told in {
        stopped: {"demo.echo": Lately(1.0, 50), "demo.sleep": Lately(60.0, 3)},
        live: {"demo.echo": Lately(2.0, 50)},
        fresh: {"demo.echo": Lately(30.0, 1)},
    }.items():
        assert database.run(lambda session, told=told, one=worker_id: durations.tell(session, one, told))
    known = database.read(durations.known)
    assert known.keys() == {"demo.echo", "demo.sleep"}, f"{quiet} has said nothing"
    assert known["demo.echo"] == pytest.approx((50 + 100 + 30) / 101)
    assert known["demo.sleep"] == 60


def test_what_a_worker_of_another_release_says_of_durations_stops_nobody(database: Database):
    for told in ({"demo.echo": 2.0}, {"demo.echo": [2.0, 3, "more"]}, {"demo.echo": [4.0, 1]}):
        register(database, seconds_by_type=told)
    assert database.read(durations.known) == {"demo.echo": 4.0}


def test_who_has_no_row_is_told_so(database: Database):
    assert not database.run(lambda session: durations.tell(session, new_id(), {"demo.echo": Lately(1.0, 1)}))


def test_a_dispatcher_at_rest_sleeps_until_it_is_woken_and_else_a_second_at_most(database: Database):
    register(database)
    dispatch = Dispatch(database, Noting(), LEADS)
    assert dispatch.run_once() == dispatch_module.AT_REST_SECONDS
    for state in (State.DISPATCHED, State.QUEUED):
        refs = plant(database, state, due_at=ago(hours=-1))
        assert dispatch.run_once() == LONGEST_SLEEP
        database.run(lambda session, refs=refs: session.execute(delete(jobs).where(jobs.c.id == refs[0].id)))


def test_a_job_that_is_not_due_waits_and_the_sleep_ends_with_its_wait(database: Database):
    register(database)
    soon = plant(database, State.QUEUED, due_at=ago(seconds=-0.4))
    late = plant(database, State.QUEUED, due_at=ago(hours=-1))
    transport = Noting()
    slept = Dispatch(database, transport, LEADS).run_once()
    assert transport.published == []
    assert states(database, soon + late) == [State.QUEUED] * 2
    assert 0 < slept <= 0.4


@pytest.mark.parametrize(
    "columns",
    [
        None,
        {"silent_for": 21},
        {"draining_at": ago(seconds=1)},
        {"stopped_at": ago(seconds=1)},
        {"queues": ["other"]},
    ],
    ids=["no worker", "a silent one", "a draining one", "a stopped one", "one of another queue"],
)
def test_nothing_is_claimed_for_a_queue_that_no_live_worker_serves(database: Database, columns: Any):
    if columns is not None:
        register(database, **columns)
    refs = plant(database, State.QUEUED, 3)
    transport = Noting()
    Dispatch(database, transport, LEADS).run_once()
    assert transport.published == []
    assert states(database, refs) == [State.QUEUED] * 3


def test_what_is_not_confirmed_is_given_back_and_counted(database: Database):
    register(database)
    refs = plant(database, State.QUEUED, 4)
    lucky = {refs[0].id, refs[2].id}
    transport = Noting(lambda envelope: envelope.refs[0].id in lucky)
    before = counted("jobmill_unconfirmed_total")
    Dispatch(database, transport, LEADS).run_once()
    assert states(database, refs) == [State.DISPATCHED, State.QUEUED, State.DISPATCHED, State.QUEUED]
    # The lease stays where it was raised to: should the message turn up all the same, it is stale by then.
    assert [row(database, ref)["lease"] for ref in refs] == [ref.lease + 1 for ref in refs]
    assert counted("jobmill_unconfirmed_total") - before == 2
    later = Noting()
    Dispatch(database, later, LEADS).run_once()
    assert set(later.published) == {Ref(refs[1].id, 5), Ref(refs[3].id, 5)}


def test_a_broker_that_refuses_is_not_asked_again_and_again_without_a_breath(database: Database):
    register(database)
    plant(database, State.QUEUED, 50)
    dispatch = Dispatch(database, Noting(lambda _envelope: False), LEADS)
    assert [dispatch.run_once() for _ in range(3)] == [REFUSED_SLEEP] * 3


def test_the_broker_is_not_filled_with_what_nobody_can_begin(database: Database):
    register(database, threads=4)
    plant(database, State.QUEUED, 100)
    transport = Noting()
    dispatch = Dispatch(database, transport, LEADS)
    for _ in range(20):
        dispatch.run_once()
    assert len(transport.published) == 4


def test_busy_workers_count_for_what_is_free(database: Database):
    worker_id = register(database, threads=4)
    plant(database, State.RUNNING, 3, worker_id=worker_id)
    plant(database, State.QUEUED, 100)
    transport = Noting()
    Dispatch(database, transport, LEADS).run_once()
    assert len(transport.published) == 1


def test_a_full_queue_does_not_hold_up_another(database: Database):
    register(database, "default", "media", threads=2)
    plant(database, State.QUEUED, 50)
    media = plant(database, State.QUEUED, queue="media")
    transport = Noting()
    dispatch = Dispatch(database, transport, LEADS)
    dispatch.run_once()
    dispatch.run_once()
    assert media[0].id in {ref.id for ref in transport.published}


@pytest.mark.parametrize(("leadership", "connected"), [(STANDS_BY, True), (LEADS, False)])
def test_a_standby_and_one_without_a_broker_claim_nothing(database: Database, leadership: Any, connected: bool):
    register(database)
    refs = plant(database, State.QUEUED, 3)
    transport = Noting()
    transport.connected = connected
    assert Dispatch(database, transport, leadership).run_once() == NO_LEADER_SLEEP
    assert transport.published == []
    assert states(database, refs) == [State.QUEUED] * 3


def test_two_dispatchers_that_both_think_they_lead_publish_no_job_twice(database: Database):
    register(database, threads=50)
    plant(database, State.QUEUED, 300)
    transports = [Noting(), Noting()]
    both = threading.Barrier(2, timeout=30)

    def dispatch(transport: Noting) -> None:
        duty = Dispatch(database, transport, LEADS)
        both.wait()
        for _ in range(10):
            duty.run_once()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(dispatch, transports))
    published = [ref for transport in transports for ref in transport.published]
    assert len(published) == len(set(published))
    with database.reading() as session:
        dispatched = session.execute(select(jobs.c.id, jobs.c.lease).where(jobs.c.state == State.DISPATCHED)).all()
    assert {Ref(*found) for found in dispatched} == set(published)


# Queues that are paused, limited and shared


def say(database: Database, **limits: Any) -> None:
    database.run(lambda session: queue.limit(session, "default", **limits))


def due_lanes(database: Database) -> list[lineup.Lane]:
    with database.reading() as session:
        return lineup.lanes(session, "default")


def test_of_a_paused_queue_nothing_is_claimed_and_what_is_on_the_broker_comes_back(database: Database):
    register(database, "default", "media")
    refs = plant(database, State.QUEUED, 3) + plant(database, State.DISPATCHED, 2)
    other = plant(database, State.QUEUED, queue="media")
    database.run(lambda session: queue.pause(session, "default", "test"))
    transport = Noting()
    Dispatch(database, transport, LEADS).run_once()
    assert {ref.id for ref in transport.published} == {other[0].id}
    assert states(database, refs) == [State.QUEUED] * 5


def test_a_pause_is_obeyed_without_a_worker(database: Database):
    refs = plant(database, State.DISPATCHED, 2)
    database.run(lambda session: queue.pause(session, "default", "test"))
    assert Dispatch(database, Noting(), LEADS).run_once() == NO_LEADER_SLEEP
    assert states(database, refs) == [State.QUEUED] * 2


def test_what_runs_and_what_is_on_the_broker_leaves_as_many_places(database: Database):
    worker_id = register(database, threads=20)
    plant(database, State.RUNNING, 2, worker_id=worker_id)
    plant(database, State.DISPATCHED, 1)
    plant(database, State.QUEUED, 20)
    say(database, max_running=5)
    transport = Noting()
    dispatch = Dispatch(database, transport, LEADS)
    for _ in range(5):
        dispatch.run_once()
    assert len(transport.published) == 2


def test_a_lower_limit_takes_back_what_has_not_begun(database: Database):
    worker_id = register(database, threads=20)
    running = plant(database, State.RUNNING, 4, worker_id=worker_id)
    waiting = plant(database, State.DISPATCHED, 3)
    say(database, max_running=5)
    Dispatch(database, Noting(), LEADS).run_once()
    assert states(database, running) == [State.RUNNING] * 4
    assert sorted(states(database, waiting)) == [State.DISPATCHED, State.QUEUED, State.QUEUED]


def test_a_limit_is_asked_again_at_the_claim(database: Database):
    plant(database, State.QUEUED, 20)
    say(database, max_running=3)
    claims = [Claims(database).take(due_lanes(database), 10, limited=True, threads=8) for _ in range(2)]
    assert [len(claimed.jobs) for claimed in claims] == [3, 0]
    assert claims[1].more


@pytest.mark.parametrize("tenants", [1, 2])
def test_jobs_below_the_ordinary_priority_leave_room_for_new_ones(database: Database, tenants: int):
    def planted(session: Session) -> None:
        for number, priority in itertools.product(range(tenants), (0, -1)):
            tenant_id = tenant_id_of(session, f"room-{number}")
            jobs_in(session, State.QUEUED, 4 // tenants, tenant_id=tenant_id, priority=priority)
            jobs_in(session, State.QUEUED, 20, tenant_id=tenant_id, priority=-100)

    database.run(planted)
    claimed = Claims(database).take(due_lanes(database), 10, limited=False, threads=8, of_background=6)
    with database.reading() as session:
        assert Counter(row_of(session, job.id)["priority"] for job in claimed.jobs) == {0: 4, -1: 2}
    assert claimed.more
    none = Claims(database).take(due_lanes(database), 10, limited=False, threads=8, of_background=0)
    assert (none.jobs, none.more) == ([], True)


@pytest.mark.parametrize("tenants", [1, 2])
def test_a_limit_that_came_since_the_dispatcher_looked_holds_all_the_same(database: Database, tenants: int):
    for number in range(tenants):
        database.run(lambda s, n=number: jobs_in(s, State.QUEUED, 5, tenant_id=tenant_id_of(s, f"late-{n}")))
    say(database, max_running=3)
    assert Claims(database).take(due_lanes(database), 10, limited=False, threads=8).jobs == []
    say(database, max_running=None)
    assert len(Claims(database).take(due_lanes(database), 4, limited=False, threads=8).jobs) == 4


def test_a_rate_is_shared_by_those_who_think_they_lead(database: Database):
    plant(database, State.QUEUED, 100)
    say(database, max_per_second=100)
    claims = [Claims(database).take(due_lanes(database), 50, limited=True, threads=8) for _ in range(3)]
    assert 10 <= sum(len(claimed.jobs) for claimed in claims) <= 10 + 100 * 0.3


def test_a_limited_queue_that_somebody_holds_is_left_for_this_look(lent: Database, database: Database):
    if lent.path is not None:
        return  # SQLite's one writer holds everything
    plant(database, State.QUEUED, 20)
    say(database, max_running=3)
    lanes = due_lanes(database)
    with database.transaction() as session:
        queue.hold_queue(session, "default")
        claimed = Claims(database).take(lanes, 10, limited=True, threads=8)
    assert (claimed.jobs, claimed.more) == ([], True)


def test_a_limited_queue_neither_spins_nor_holds_up_others(database: Database):
    register(database, "default", "media", threads=4)
    plant(database, State.QUEUED, 20)
    say(database, max_running=1)
    dispatch = Dispatch(database, Noting(), LEADS)
    slept = [dispatch.run_once() for _ in range(3)]
    assert min(slept) >= SHORTEST_LOOK
    media = plant(database, State.QUEUED, queue="media")
    dispatch.run_once()
    assert states(database, media) == [State.DISPATCHED]


def test_a_tenant_with_few_jobs_is_served_beside_one_with_many(database: Database):
    register(database, threads=40)
    plant(database, State.QUEUED, 500)
    few = database.run(lambda s: jobs_in(s, State.QUEUED, 10, tenant_id=tenant_id_of(s, "few"), due_at=ago()))
    transport = Noting()
    Dispatch(database, transport, LEADS).run_once()
    assert {ref.id for ref in few} <= {ref.id for ref in transport.published}
    assert len(transport.published) == 40  # what one leaves is the others'


def test_more_tenants_than_one_look_sees_are_all_served(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claiming_module, "MOST_SHARES", 3)
    register(database, threads=4)
    for number in range(10):
        database.run(lambda s, n=number: jobs_in(s, State.QUEUED, 50, tenant_id=tenant_id_of(s, f"tenant-{n}")))
    claims = Claims(database)
    claimed = [claims.take(due_lanes(database), 6, limited=False, threads=8) for _ in range(8)]
    got = Counter(job.tenant_id for one in claimed for job in one.jobs)
    assert len(got) == 10
    assert all(one.more for one in claimed)
    assert max(got.values()) <= 3 * min(got.values())


@pytest.mark.parametrize("tenants", [4, 6, 7])
def test_whoever_stands_behind_a_full_look_has_no_step_to_himself(
    database: Database, monkeypatch: pytest.MonkeyPatch, tenants: int
):
    monkeypatch.setattr(claiming_module, "MOST_SHARES", 3)
    register(database, threads=4)
    for number in range(tenants):
        database.run(lambda s, n=number: jobs_in(s, State.QUEUED, 100, tenant_id=tenant_id_of(s, f"tenant-{n}")))
    claims = Claims(database)
    claimed = [claims.take(due_lanes(database), 6, limited=False, threads=8) for _ in range(4 * tenants)]
    assert [len(one.jobs) for one in claimed] == [6] * (4 * tenants)
    got = Counter(job.tenant_id for one in claimed for job in one.jobs)
    assert max(got.values()) - min(got.values()) <= 6


# Rescue


def test_a_silent_workers_jobs_are_queued_again(database: Database):
    dead, alive = register(database, silent_for=21), register(database, silent_for=15)
    lost, kept = plant(database, State.RUNNING, worker_id=dead), plant(database, State.RUNNING, worker_id=alive)
    before = counted("jobmill_moves_total", move="rescue")
    Rescue(database, LEADS).run_once()
    rescued = row(database, lost[0])
    assert (rescued["state"], rescued["lost"], rescued["attempt"]) == (State.QUEUED, 1, 1)
    assert (rescued["worker_id"], rescued["started_at"]) == (None, None)
    assert states(database, kept) == [State.RUNNING]
    with database.reading() as session:
        (told,) = history_of(session, lost[0])
        stopped = dict(session.execute(select(workers.c.id, workers.c.stopped_at)).all())
    assert (told["move"], told["reason"]) == ("rescue", "its heartbeat stopped")
    assert told["actor"] == f"dispatcher:{LEADS.holder}"
    assert stopped[dead] is not None
    assert stopped[alive] is None
    assert counted("jobmill_moves_total", move="rescue") - before == 1


@pytest.mark.parametrize(("lost", "state"), [(0, State.QUEUED), (1, State.QUEUED), (2, State.DEAD)])
def test_the_third_loss_makes_a_dead_letter(database: Database, lost: int, state: State):
    dead = register(database, silent_for=60)
    (ref,) = plant(database, State.RUNNING, worker_id=dead, lost=lost)
    Rescue(database, LEADS).run_once()
    found = row(database, ref)
    assert (found["state"], found["lost"]) == (state, lost + 1)
    if state is State.DEAD:
        assert (found["error"]["type"], found["error"]["code"]) == ("WorkerLost", "lost")


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(database: Database):
    dead = register(database, silent_for=60)
    refs = plant(database, State.RUNNING, worker_id=dead, cancel_requested_at=ago(minutes=1))
    Rescue(database, LEADS).run_once()
    assert states(database, refs) == [State.CANCELLED]


def test_claims_whose_time_is_over_are_released_and_others_kept(database: Database):
    over = plant(database, State.DISPATCHED, lease_expires_at=ago(seconds=1))
    still_good = plant(database, State.DISPATCHED, lease_expires_at=ago(seconds=-30))
    Rescue(database, LEADS).run_once()
    assert states(database, over + still_good) == [State.QUEUED, State.DISPATCHED]
    assert row(database, over[0])["lease"] == over[0].lease


def test_a_batch_that_was_full_is_followed_by_another_at_once(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rescue_module, "BATCH", 3)
    dead = register(database, silent_for=60)
    refs = plant(database, State.RUNNING, 5, worker_id=dead)
    rescue = Rescue(database, LEADS)
    assert rescue.run_once() == 0
    assert rescue.run_once() == rescue_module.EVERY_SECONDS
    assert states(database, refs) == [State.QUEUED] * 5


def test_a_standby_rescues_nobody(database: Database):
    dead = register(database, silent_for=60)
    refs = plant(database, State.RUNNING, worker_id=dead) + plant(
        database, State.DISPATCHED, lease_expires_at=ago(seconds=1)
    )
    Rescue(database, STANDS_BY).run_once()
    assert states(database, refs) == [State.RUNNING, State.DISPATCHED]


def test_alone_in_its_process_it_waits_for_no_heartbeat_and_releases_claims(database: Database):
    late = register(database, silent_for=60)
    running = plant(database, State.RUNNING, worker_id=late)
    claimed = plant(database, State.DISPATCHED, lease_expires_at=ago(seconds=1))
    Rescue(database, LEADS, alone=True).run_once()
    assert states(database, running + claimed) == [State.RUNNING, State.QUEUED]


def test_a_process_that_is_alone_takes_over_whatever_an_earlier_one_left(database: Database):
    dead = register(database)
    running = plant(database, State.RUNNING, 2, worker_id=dead)
    claimed = plant(database, State.DISPATCHED, 3)
    others = plant(database, State.QUEUED) + plant(database, State.DEAD)
    assert take_over(database, "up") == 5
    assert states(database, running + claimed) == [State.QUEUED] * 5
    assert states(database, others) == [State.QUEUED, State.DEAD]
    assert [row(database, ref)["lost"] for ref in running + claimed] == [1, 1, 0, 0, 0]


def test_what_a_process_ran_that_was_to_stop_and_was_not_let_finish_is_no_loss(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rescue_module, "BATCH", 2)
    dead, stopping = register(database), register(database, draining_at=ago(seconds=5))
    lost = plant(database, State.RUNNING, worker_id=dead)
    given_back = plant(database, State.RUNNING, 5, worker_id=stopping, lost=2)
    cancelled = plant(database, State.RUNNING, worker_id=stopping, cancel_requested_at=ago())
    assert take_over(database, "up") == 7
    assert states(database, lost + given_back + cancelled) == [State.QUEUED] * 6 + [State.CANCELLED]
    assert [row(database, ref)["lost"] for ref in lost + given_back] == [1, 2, 2, 2, 2, 2]
    assert [row(database, ref)["attempt"] for ref in given_back] == [row(database, lost[0])["attempt"]] * 5


def test_what_a_silent_worker_ran_that_was_to_stop_is_no_loss(database: Database):
    stopping = register(database, silent_for=100, draining_at=ago(seconds=100))
    (ref,) = plant(database, State.RUNNING, worker_id=stopping, lost=2)
    Rescue(database, LEADS).run_once()
    assert (row(database, ref)["state"], row(database, ref)["lost"]) == (State.QUEUED, 2)
    with database.reading() as session:
        assert [told["move"] for told in history_of(session, ref)] == ["interrupt"]


def test_a_process_that_is_alone_does_not_wait_for_the_end_of_a_dead_leaders_term(database: Database):
    with database.transaction() as session:
        lease.lead(session, leadership_module.LEASE, new_id(), timedelta(minutes=1))
    take_over(database, "up")
    own = Leadership(database, new_id())
    own.run_once()
    assert own.held


def test_a_job_whose_start_was_committed_after_its_worker_was_buried_is_queued_again(database: Database):
    dead = register(database, stopped_at=ago(seconds=1))
    (ref,) = plant(database, State.RUNNING, worker_id=dead)
    Rescue(database, LEADS).run_once()
    assert row(database, ref)["state"] == State.QUEUED
    with database.reading() as session:
        assert [told["reason"] for told in history_of(session, ref)] == ["its worker had stopped"]


def test_a_start_that_was_committed_after_the_burial_of_a_worker_that_was_to_stop_is_no_loss(database: Database):
    dead = register(database, stopped_at=ago(seconds=1), draining_at=ago(seconds=9))
    (ref,) = plant(database, State.RUNNING, worker_id=dead)
    before = counted("jobmill_moves_total", move="interrupt")
    Rescue(database, LEADS).run_once()
    assert (row(database, ref)["state"], row(database, ref)["lost"]) == (State.QUEUED, 0)
    assert counted("jobmill_moves_total", move="interrupt") == before + 1


def test_many_jobs_of_workers_that_were_to_stop_are_taken_back_in_batches_without_a_rest(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rescue_module, "BATCH", 2)
    stopping = register(database, silent_for=100, draining_at=ago(seconds=100))
    refs = plant(database, State.RUNNING, 3, worker_id=stopping)
    rescue = Rescue(database, LEADS)
    assert [rescue.run_once(), rescue.run_once()] == [0.0, rescue_module.EVERY_SECONDS]
    assert states(database, refs) == [State.QUEUED] * 3


class Clock:
    """What `time.monotonic` shows."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(leadership_module, "time", clock)
    return clock


def test_at_rest_the_dead_are_looked_for_now_and_then_and_at_once_when_jobs_move(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rescue_module, "time", clock)
    at_rest: Any = SimpleNamespace(
        held=True, in_motion=False, wake=threading.Event(), holder=new_id(), listened_seconds=3600.0
    )
    rescue = Rescue(database, at_rest)
    for seconds, found in (
        (0.0, True),
        (rescue_module.AT_REST_SECONDS / 2, False),
        (rescue_module.AT_REST_SECONDS, True),
    ):
        clock.now += seconds
        dead = register(database, silent_for=60)
        rescue.run_once()
        with database.reading() as session:
            assert (dead not in worker.unstopped(session, 10)) == found
        database.run(lambda session: session.execute(delete(workers)))
    dead = register(database, silent_for=60)
    refs = plant(database, State.RUNNING, worker_id=dead)
    at_rest.in_motion = True
    rescue.run_once()
    assert states(database, refs) == [State.QUEUED]


def end_the_lease(database: Database) -> None:
    database.run(lambda session: session.execute(update(leases).values(expires_at=ago(seconds=1))))


class Away(Database):
    """One that does not answer."""

    def __init__(self) -> None:
        pass

    def heart(self) -> Any:
        raise Unavailable("away")


def listen(leadership: Leadership, clock: Clock, seconds: float) -> None:
    """Have it ask once a second for so long."""
    for _ in range(round(seconds)):
        clock.now += 1
        leadership.run_once()


def test_after_the_database_was_away_silence_is_no_death_until_all_had_time_to_beat(database: Database, clock: Clock):
    refs = plant(database, State.RUNNING, worker_id=register(database, silent_for=60))
    leader = Leadership(database, new_id())
    listen(leader, clock, 60)
    leader.database = Away()
    with pytest.raises(Unavailable):
        leader.run_once()
    leader.database = database
    leader.run_once()
    listen(leader, clock, HEARD_OUT.total_seconds() - 1)
    Rescue(database, leader).run_once()
    assert states(database, refs) == [State.RUNNING]
    listen(leader, clock, 1)
    Rescue(database, leader).run_once()
    assert states(database, refs) == [State.QUEUED]


def test_a_dispatcher_that_stood_still_gives_all_others_time_as_well(database: Database, clock: Clock):
    refs = plant(database, State.RUNNING, worker_id=register(database, silent_for=60))
    leader = Leadership(database, new_id())
    listen(leader, clock, 60)
    clock.now += 60
    listen(leader, clock, HEARD_OUT.total_seconds())
    Rescue(database, leader).run_once()
    assert states(database, refs) == [State.RUNNING]
    listen(leader, clock, 1)
    Rescue(database, leader).run_once()
    assert states(database, refs) == [State.QUEUED]


def test_a_standby_has_listened_and_rescues_as_soon_as_it_leads(database: Database, clock: Clock):
    refs = plant(database, State.RUNNING, worker_id=register(database, silent_for=60))
    leader, standby = (Leadership(database, new_id()) for _ in range(2))
    leader.run_once()
    listen(standby, clock, HEARD_OUT.total_seconds() + 1)
    assert not standby.held
    end_the_lease(database)
    standby.run_once()
    Rescue(database, standby).run_once()
    assert states(database, refs) == [State.QUEUED]


# Reconcile


def settled(database: Database, how_many: int = 1, seconds: float = 10, **columns: Any) -> list[Ref]:
    """Claims that were published that long ago, the oldest first."""
    return [
        plant(database, State.DISPATCHED, dispatched_at=ago(seconds=seconds + how_many - number), **columns)[0]
        for number in range(how_many)
    ]


def test_claims_without_a_message_are_released_the_oldest_first(database: Database):
    refs = settled(database, 3)
    transport = Noting()
    transport.waiting = {"default": 1}
    Reconcile(database, transport, LEADS, singly()).run_once()
    assert states(database, refs) == [State.QUEUED, State.QUEUED, State.DISPATCHED]


def test_waiting_messages_keep_their_claims_which_are_renewed(database: Database):
    refs = settled(database, 2, lease_expires_at=ago(seconds=-3))
    transport = Noting()
    transport.waiting = {"default": 2}
    Reconcile(database, transport, LEADS, singly()).run_once()
    assert states(database, refs) == [State.DISPATCHED] * 2
    assert all(row(database, ref)["lease_expires_at"] > ago(seconds=-50) for ref in refs)


def test_a_message_that_may_still_be_on_its_way_is_not_missed(database: Database):
    young = plant(database, State.DISPATCHED, 3, dispatched_at=ago(seconds=1), lease_expires_at=ago(seconds=-3))
    transport = Noting()
    transport.waiting = {"default": 0}
    Reconcile(database, transport, LEADS, singly()).run_once()
    assert states(database, young) == [State.DISPATCHED] * 3


def test_a_queue_of_which_nothing_is_known_is_left_alone(database: Database):
    refs = settled(database, 2)
    Reconcile(database, Noting(), LEADS, singly()).run_once()
    assert states(database, refs) == [State.DISPATCHED] * 2


@pytest.mark.parametrize(("leadership", "connected"), [(STANDS_BY, True), (LEADS, False)])
def test_a_standby_and_one_without_a_broker_compare_nothing(database: Database, leadership: Any, connected: bool):
    refs = settled(database, 2)
    transport = Noting()
    transport.connected, transport.waiting = connected, {"default": 0}
    Reconcile(database, transport, leadership, singly()).run_once()
    assert states(database, refs) == [State.DISPATCHED] * 2


def test_what_a_purged_queue_held_is_found_in_one_step(
    database: Database, rabbitmq_url: str, queue_prefix: str, eventually: Callable[..., Any]
):
    publisher = Publisher((rabbitmq_url,), queue_prefix, "jobmill tests")
    publisher.start()
    eventually(lambda: publisher.connected)
    register(database)
    refs = plant(database, State.QUEUED, 3)
    Dispatch(database, publisher, LEADS).run_once()
    assert states(database, refs) == [State.DISPATCHED] * 3
    database.run(lambda session: session.execute(update(jobs).values(dispatched_at=ago(seconds=6))))
    reconcile = Reconcile(database, publisher, LEADS, singly())
    reconcile.run_once()
    assert states(database, refs) == [State.DISPATCHED] * 3

    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    connection.channel().queue_purge(f"{queue_prefix}.default")
    connection.close()
    reconcile.run_once()
    assert states(database, refs) == [State.QUEUED] * 3
    Dispatch(database, publisher, LEADS).run_once()
    assert publisher.depths(["default"]) == {"default": 3}
    publisher.stop()


def test_a_message_may_stand_for_as_many_jobs_as_were_put_into_the_largest(database: Database):
    broker = LocalBroker()
    broker.declare_queue("default")
    refs = settled(database, 4)
    broker.publish([Envelope("default", (refs[2], refs[3]))])
    Reconcile(database, broker, LEADS, sizes(3)).run_once()
    assert states(database, refs) == [State.QUEUED, *[State.DISPATCHED] * 3]


def test_what_the_embedded_broker_forgot_is_found_too(database: Database):
    broker = LocalBroker()
    broker.declare_queue("default")
    refs = settled(database, 2)
    broker.publish([Envelope("default", (refs[1],))])
    Reconcile(database, broker, LEADS, singly()).run_once()
    assert states(database, refs) == [State.QUEUED, State.DISPATCHED]


# Prune


def count(database: Database, table: Any) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_final_jobs_are_deleted_by_the_retention_of_their_state(database: Database):
    old, young = ago(days=8), ago(days=6)
    gone = plant(database, State.SUCCEEDED, finished_at=old)
    kept = [
        *plant(database, State.SUCCEEDED, finished_at=young),
        *plant(database, State.CANCELLED, finished_at=old),
        *plant(database, State.DEAD, finished_at=old),
        *plant(database, State.QUEUED, created_at=old, due_at=old),
        *plant(database, State.RUNNING, created_at=old, started_at=old),
    ]
    retention = {State.SUCCEEDED: timedelta(days=7), State.CANCELLED: timedelta(days=9)}
    assert Prune(database, LEADS, retention).run_once() == EVERY_SECONDS
    with database.reading() as session:
        left = set(session.scalars(select(jobs.c.id)))
    assert left == {ref.id for ref in kept}
    assert gone[0].id not in left


def test_a_jobs_history_goes_with_it(database: Database):
    def step(session: Any) -> None:
        ref = job_in(session, State.QUEUED)
        moves.cancel(session, [ref.id], "tester")
        session.execute(update(jobs).values(finished_at=ago(days=2)))

    database.run(step)
    assert count(database, job_events) == 1
    Prune(database, LEADS, {State.CANCELLED: timedelta(days=1)}).run_once()
    assert (count(database, jobs), count(database, job_events)) == (0, 0)


def test_a_large_crowd_is_deleted_in_batches(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prune_module, "BATCH", 10)
    plant(database, State.SUCCEEDED, 35)
    times = iter([10.0, 13.0, 20.0, 20.0, 30.0, 90.0, 100.0])  # three seconds for one batch, none, a minute
    prune = Prune(database, LEADS, {State.SUCCEEDED: timedelta(0)}, clock=lambda: next(times))
    assert [(prune.run_once(), count(database, jobs)) for _ in range(4)] == [
        (3 * REST_PER_WORK, 25),
        (SHORTEST_REST_SECONDS, 15),
        (EVERY_SECONDS, 5),
        (EVERY_SECONDS, 0),
    ]


@pytest.mark.parametrize(
    ("worked", "behind", "rests"),
    [(3.0, 0.0, 6.0), (3.0, 299.0, 6.0), (3.0, 300.0, 3.0), (3.0, 600.0, 1.5), (3.0, 1e9, 0.75), (0.0, 1e9, 0.02)],
)
def test_who_does_not_keep_up_with_what_is_made_rests_less(worked: float, behind: float, rests: float):
    assert prune_module.rest(worked, behind) == rests


def test_and_rests_as_ever_once_it_has_caught_up(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prune_module, "BATCH", 10)
    times = iter([0.0, 3.0, 400.0, 403.0, 410.0, 500.0, 503.0])
    prune = Prune(database, LEADS, {State.SUCCEEDED: timedelta(0)}, clock=lambda: next(times))
    plant(database, State.SUCCEEDED, 25)
    assert [prune.run_once() for _ in range(3)] == [6.0, 3.0, EVERY_SECONDS]
    plant(database, State.SUCCEEDED, 15)
    assert prune.run_once() == 6.0


def test_or_has_not_led_or_has_failed_meanwhile(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prune_module, "BATCH", 10)
    plant(database, State.SUCCEEDED, 45)
    times = iter([0.0, 3.0, 400.0, 403.0, 800.0, 900.0, 903.0])
    prune = Prune(database, LEADS, {State.SUCCEEDED: timedelta(0)}, clock=lambda: next(times))
    assert prune.run_once() == 6.0
    prune.leadership = STANDS_BY
    prune.run_once()
    prune.leadership = LEADS
    assert prune.run_once() == 6.0, "it did not lead meanwhile"
    with monkeypatch.context() as patch:
        patch.setattr(moves, "prune", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prune.run_once()
    assert prune.run_once() == 6.0, "a step failed"


def test_workers_that_stopped_long_ago_are_forgotten(database: Database):
    register(database, stopped_at=ago(days=2))
    lately, alive = register(database, stopped_at=ago(hours=2)), register(database)
    Prune(database, LEADS, {}).run_once()
    with database.reading() as session:
        assert set(session.scalars(select(workers.c.id))) == {lately, alive}


def test_gates_that_nothing_was_written_of_for_a_month_are_forgotten(database: Database):
    unused, lately = new_id(), new_id()

    def plant_gates(session: Any) -> None:
        session.execute(delete(gate.gates))
        for gate_id in (unused, lately):
            gate.add(session, {NewGate(gate_id, tenant_id_of(session), "https://example.com")})
        session.execute(update(gate.gates).where(gate.gates.c.id == unused).values(used_at=ago(days=31)))

    database.run(plant_gates)
    Prune(database, LEADS, {}).run_once()
    with database.reading() as session:
        assert set(gate.find_all(session, [unused, lately])) == {lately}


def test_a_standby_deletes_nothing(database: Database):
    plant(database, State.SUCCEEDED, finished_at=ago(days=9))
    Prune(database, STANDS_BY, {State.SUCCEEDED: timedelta(0)}).run_once()
    assert count(database, jobs) == 1


# Leadership


@pytest.mark.usefixtures("clock")
def test_one_leads_and_the_others_stand_by(database: Database):
    candidates = [Leadership(database, new_id()) for _ in range(3)]
    assert not any(candidate.held for candidate in candidates)
    paces = [RENEW_EVERY.total_seconds(), TRY_EVERY.total_seconds(), TRY_EVERY.total_seconds()]
    assert [candidate.run_once() for candidate in candidates] == paces
    assert [candidate.held for candidate in candidates] == [True, False, False]
    candidates[1].run_once()
    candidates[0].run_once()
    assert [candidate.held for candidate in candidates] == [True, False, False]


def test_of_many_that_ask_at_once_one_leads(database: Database):
    candidates = [Leadership(database, new_id()) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(Leadership.run_once, candidates))
    assert [candidate.held for candidate in candidates].count(True) == 1


@pytest.mark.parametrize(
    ("state", "waits", "moves_on"),
    [
        (None, False, False),
        (State.QUEUED, True, False),
        (State.DISPATCHED, False, True),
        (State.RUNNING, False, True),
        (State.SUCCEEDED, False, False),
        (State.DEAD, False, False),
    ],
)
def test_a_renewal_tells_whether_jobs_wait_and_whether_any_is_claimed_or_runs(
    database: Database, state: State | None, waits: bool, moves_on: bool
):
    if state is not None:
        plant(database, state)
    wake = threading.Event()
    leader = Leadership(database, new_id(), wake)
    assert leader.in_motion, "as long as nobody has looked"
    for _ in range(2):  # taken, and kept
        wake.clear()
        leader.run_once()
        assert (wake.is_set(), leader.in_motion) == (waits, moves_on)


def test_who_does_not_lead_takes_it_that_jobs_move(database: Database):
    leader, standby = Leadership(database, new_id()), Leadership(database, new_id())
    leader.run_once()
    assert not leader.in_motion
    standby.run_once()
    assert standby.in_motion


def test_a_leader_that_resigns_is_followed_at_once(database: Database):
    first, second = (Leadership(database, new_id()) for _ in range(2))
    first.run_once()
    first.resign()
    assert not first.held
    second.run_once()
    assert second.held
    first.resign()  # which no longer is its to do
    second.run_once()
    assert second.held


def test_a_leader_that_falls_silent_is_followed_when_its_term_is_over(database: Database, clock: Clock):
    first, second = (Leadership(database, new_id()) for _ in range(2))
    first.run_once()
    second.run_once()
    assert not second.held
    end_the_lease(database)
    second.run_once()
    assert second.held
    # The frozen one knows by its own clock that it leads no longer, before it has asked anyone.
    clock.now += TERM.total_seconds()
    assert not first.held
    first.run_once()
    assert not first.held


def test_a_term_is_counted_from_before_it_was_asked_for(database: Database, clock: Clock):
    class Slow(Database):
        def __init__(self) -> None:
            self.__dict__.update(vars(database))

        def heart(self) -> Any:
            clock.now += 4
            return super().heart()

    leader = Leadership(Slow(), new_id())
    leader.run_once()
    assert leader.held
    clock.now = 1000.0 + TERM.total_seconds()
    assert not leader.held


@pytest.mark.parametrize(("seconds", "gaps"), [(0.1, False), (1.0, False), (2.4, False), (4.0, True)])
def test_a_renewal_may_take_half_of_its_term_and_the_leader_leads_on(
    database: Database, clock: Clock, seconds: float, gaps: bool
):
    class Slow(Database):
        def __init__(self) -> None:
            self.__dict__.update(vars(database))

        def heart(self) -> Any:
            clock.now += seconds
            led.append(leader.held)
            return super().heart()

    led: list[bool] = []
    leader = Leadership(Slow(), new_id())
    for _ in range(4):
        pause = leader.run_once()
        clock.now += pause
    assert led == [False, *([not gaps] * 3)]


def test_a_database_that_is_away_for_a_moment_ends_no_term(database: Database, clock: Clock):
    leader = Leadership(database, new_id())
    leader.run_once()

    leader.database = Away()
    with pytest.raises(Unavailable):
        leader.run_once()
    assert leader.held
    clock.now += TERM.total_seconds()
    assert not leader.held
