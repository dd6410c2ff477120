"""What must hold when several do the same thing at the same moment, on real connections and threads."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from queue import Queue
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models import lease, moves, queries
from models.database import Database
from models.ids import new_id
from models.job import Ref, jobs
from models.moves import Ending
from models.states import LIVE, Move, State
from tests.factories import ago, blocked, history_of, job_in, jobs_in, new_job, row_of, tenant_id_of

PATIENCE = 60
EXPIRY = timedelta(seconds=60)
ERROR = '{"type": "Lost"}'
ACTOR = "tester"


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """The answers of calls that begin at the same moment, each on a thread of its own."""
    barrier = threading.Barrier(len(calls), timeout=PATIENCE)

    def begin(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        futures = [threads.submit(begin, call) for call in calls]
        return [future.result(PATIENCE) for future in futures]


def _steps(database: Database, *steps: Callable[[Session], Any]) -> list[Any]:
    return at_once(*(partial(database.run, step) for step in steps))


# Claim and start

JOBS, CLAIMERS, STARTERS = 2_000, 2, 10
Messages = Queue[list[Ref] | None]


def test_two_dispatchers_and_ten_workers_start_each_of_2000_jobs_exactly_once(database: Database) -> None:
    database.run(lambda session: jobs_in(session, State.QUEUED, JOBS))
    messages: Messages = Queue()

    claimed, *started = at_once(
        partial(_dispatch, database, messages), *[partial(_work, database, messages)] * STARTERS
    )

    every_start = list(chain.from_iterable(started))
    assert len(claimed) == len(set(claimed)) == JOBS
    assert len(every_start) == len(set(every_start)) == JOBS
    running = (jobs.c.state == State.RUNNING, jobs.c.attempt == 1, jobs.c.lease == 4)
    assert _count(database, *running) == JOBS


def _dispatch(database: Database, messages: Messages) -> list[Ref]:
    claimed = at_once(*[partial(_claim_all, database, messages)] * CLAIMERS)
    for _ in range(STARTERS):
        messages.put(None)
    return list(chain.from_iterable(claimed))


def _claim_all(database: Database, messages: Messages) -> list[Ref]:
    claimed: list[Ref] = []
    while batch := database.run(lambda session: moves.claim(session, "default", 0, 50, EXPIRY)):
        refs = [job.ref for job in batch]
        messages.put(refs)
        messages.put(refs)  # a broker may deliver twice
        claimed += refs
    return claimed


def _work(database: Database, messages: Messages) -> list[UUID]:
    worker_id, started = new_id(), []
    while refs := messages.get(timeout=PATIENCE):
        started += database.run(partial(moves.start, refs=refs, worker_id=worker_id))
    return [job.id for job in started]


def test_a_claimer_is_not_held_up_by_another_s_open_claim(postgresql_database: Database) -> None:
    postgresql_database.run(lambda session: jobs_in(session, State.QUEUED, 10))

    with postgresql_database.transaction() as first, postgresql_database.transaction() as second:
        mine = moves.claim(first, "default", 0, 6, EXPIRY)
        others = moves.claim(second, "default", 0, 6, EXPIRY)

    assert (len(mine), len(others)) == (6, 4)
    assert not {job.id for job in mine} & {job.id for job in others}


# Record

SUBMISSIONS = 50


@pytest.mark.parametrize("key", ["idempotency_key", "unique_key"])
def test_50_identical_submissions_at_once_make_one_job_that_all_see(database: Database, key: str) -> None:
    tenant_id = database.run(tenant_id_of)

    def submit(session: Session) -> tuple[bool, UUID]:
        made = moves.record(session, [new_job(session, tenant_id=tenant_id, **{key: "k1"})])
        return bool(made), _held(session, tenant_id, key)

    answers = _steps(database, *[submit] * SUBMISSIONS)

    assert sum(made for made, _ in answers) == 1
    assert len({job_id for _, job_id in answers}) == 1
    assert _count(database) == 1


def _held(session: Session, tenant_id: UUID, key: str) -> UUID:
    if key == "unique_key":
        return queries.find_unique_holders(session, tenant_id, "demo.echo", ["k1"])["k1"]
    return queries.find_by_idempotency_keys(session, tenant_id, ["k1"])["k1"][0].id


# Finish, cancel, rescue

ROUNDS = 25


@dataclass(frozen=True)
class Result:
    """How a race between moves of one job ended: what each moved, and what the job has to tell."""

    moved: dict[Move, int]
    row: dict[str, Any]
    told: list[str]


def _race(database: Database, state: State, *contenders: Move) -> Result:
    ref = database.run(partial(job_in, state=state))
    ending = Ending(ref, result="1", error=ERROR)
    steps = {
        Move.SUCCEED: lambda session: moves.succeed(session, [ending]),
        Move.RESCUE: lambda session: moves.rescue(session, [ending], ACTOR),
        Move.CANCEL: lambda session: moves.cancel(session, [ref.id], ACTOR),
        Move.START: lambda session: moves.start(session, [ref], new_id()),
        Move.RELEASE: lambda session: moves.release(session, [ref]),
    }
    moved = _steps(database, *(steps[move] for move in contenders))
    with database.reading() as session:
        told = [event["move"] for event in history_of(session, ref)]
        return Result(_tally(contenders, moved), row_of(session, ref), told)


def _tally(contenders: Sequence[Move], moved: Sequence[Sequence[Any]]) -> dict[Move, int]:
    tally = dict.fromkeys(contenders, 0)
    for move, jobs_moved in zip(contenders, moved, strict=True):
        tally[move] += len(jobs_moved)
    return tally


def test_of_a_success_and_a_rescue_at_once_exactly_one_wins_and_a_cancellation_is_kept(database: Database) -> None:
    for _ in range(ROUNDS):
        result = _race(database, State.RUNNING, Move.SUCCEED, Move.RESCUE, Move.CANCEL)

        succeeded, rescued = result.moved[Move.SUCCEED], result.moved[Move.RESCUE]
        assert succeeded + rescued == 1
        assert result.row["state"] == (State.SUCCEEDED if succeeded else State.CANCELLED)
        assert (result.row["result"], result.row["lost"]) == ((1, 0) if succeeded else (None, 1))
        assert result.told.count(Move.RESCUE) == rescued
        assert result.told.count(Move.CANCEL) == result.moved[Move.CANCEL]


def test_rescuers_at_once_count_one_loss(database: Database) -> None:
    for _ in range(ROUNDS):
        result = _race(database, State.RUNNING, *[Move.RESCUE] * 4)

        assert result.moved == {Move.RESCUE: 1}
        assert (result.row["lost"], result.row["attempt"], result.told) == (1, 1, [Move.RESCUE])


def test_a_claim_is_started_or_released_never_both_and_a_cancellation_is_kept(database: Database) -> None:
    for _ in range(ROUNDS):
        result = _race(database, State.DISPATCHED, Move.START, Move.RELEASE, Move.CANCEL)

        assert result.moved[Move.START] + result.moved[Move.RELEASE] <= 1
        assert result.moved[Move.CANCEL] == 1
        assert result.row["state"] == (State.RUNNING if result.moved[Move.START] else State.CANCELLED)
        assert result.row["cancel_requested_at"]


# Redrive


def test_a_redrive_yields_to_a_submission_that_takes_its_key_meanwhile(
    postgresql_database: Database, eventually: Callable[..., Any]
) -> None:
    held, free = (
        postgresql_database.run(partial(job_in, state=State.DEAD, unique_key=key)) for key in ("held", "free")
    )

    with ThreadPoolExecutor(1) as threads:
        with postgresql_database.transaction() as session:
            moves.record(session, [new_job(session, unique_key="held")])
            redrive = threads.submit(postgresql_database.run, partial(moves.redrive, refs=[held, free], actor=ACTOR))
            eventually(lambda: blocked(postgresql_database))
        redriven = redrive.result(PATIENCE)

    assert [job.id for job in redriven] == [free.id]


def test_of_dead_jobs_that_share_a_key_redriven_at_once_one_is_queued(database: Database) -> None:
    for number in range(ROUNDS):
        key = f"key-{number}"
        dead = database.run(partial(jobs_in, state=State.DEAD, how_many=3, unique_key=key))

        redriven = _steps(database, *(partial(moves.redrive, refs=[ref], actor=ACTOR) for ref in dead))

        assert sum(map(len, redriven)) == 1
        assert _count(database, jobs.c.unique_key == key, jobs.c.state.in_(LIVE)) == 1


# Prune


def test_a_job_that_is_redriven_meanwhile_is_not_pruned(
    postgresql_database: Database, eventually: Callable[..., Any]
) -> None:
    dead = postgresql_database.run(partial(job_in, state=State.DEAD, finished_at=ago(days=9)))
    prune = partial(moves.prune, state=State.DEAD, older_than=timedelta(days=1), limit=10)

    with ThreadPoolExecutor(1) as threads:
        with postgresql_database.transaction() as session:
            moves.redrive(session, [dead], ACTOR)
            pruned = threads.submit(postgresql_database.run, prune)
            eventually(lambda: blocked(postgresql_database))
        assert pruned.result(PATIENCE) == 0

    assert _count(postgresql_database, jobs.c.state == State.QUEUED) == 1


# The leader's lease

LEASE = "dispatch"
STANDBYS = 8
TERM = timedelta(seconds=60)


def _all_try(database: Database) -> list[UUID]:
    holders = [new_id() for _ in range(STANDBYS)]
    led = _steps(database, *(partial(lease.lead, name=LEASE, holder=who, term=TERM) for who in holders))
    return [who for who, leads in zip(holders, led, strict=True) if leads]


def test_of_many_that_ask_for_a_free_lease_one_leads(database: Database) -> None:
    assert len(_all_try(database)) == 1


def test_while_one_leads_nobody_else_does_and_it_may_go_on(database: Database) -> None:
    (leader,) = _all_try(database)

    assert _all_try(database) == []
    assert database.run(partial(lease.lead, name=LEASE, holder=leader, term=TERM))


def test_of_many_that_ask_for_an_expired_lease_one_leads_and_the_former_does_not(database: Database) -> None:
    for _ in range(ROUNDS):
        former = database.run(_seat)
        (leader,) = _all_try(database)

        assert leader != former
        assert not database.run(partial(lease.lead, name=LEASE, holder=former, term=TERM))


def test_who_asked_while_another_was_taking_an_expired_lease_does_not_lead(
    postgresql_database: Database, eventually: Callable[..., Any]
) -> None:
    # His statement saw the lease expired, and then waits for the row.
    database = postgresql_database
    database.run(_seat)
    with ThreadPoolExecutor(1) as another:
        with database.transaction() as session:
            assert lease.lead(session, LEASE, new_id(), TERM)
            late = another.submit(database.run, partial(lease.lead, name=LEASE, holder=new_id(), term=TERM))
            eventually(lambda: blocked(database))
        assert late.result(PATIENCE) is None


def _seat(session: Session) -> UUID:
    """A leader whose term is over."""
    former = new_id()
    session.execute(update(lease.leases).values(expires_at=ago(seconds=1)))
    lease.lead(session, LEASE, former, TERM)
    session.execute(update(lease.leases).values(expires_at=ago(seconds=1)))
    return former


def test_of_many_that_ask_after_a_resignation_one_leads(database: Database) -> None:
    for _ in range(ROUNDS):
        (leader,) = _all_try(database)
        database.run(partial(lease.resign, name=LEASE, holder=leader))

    assert len(_all_try(database)) == 1


def test_only_the_leader_can_resign(database: Database) -> None:
    _all_try(database)
    database.run(partial(lease.resign, name=LEASE, holder=new_id()))

    assert _all_try(database) == []


def _count(database: Database, *conditions: Any) -> int:
    with database.reading() as session:
        return session.execute(select(func.count()).select_from(jobs).where(*conditions)).scalar_one()
