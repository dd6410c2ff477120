"""A job that one more loss would bury: it has its process to itself, or waits, not begun, until it can have it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from jobs.context import Context
from jobs.outcomes import Interrupt, Permanent, Snooze
from models import moves
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.errors import Trouble, Unavailable
from models.job import Ref, jobs
from models.states import LOSSES_UNTIL_ALONE, State
from tests.factories import ago
from tests.workbench import Bench, counted, lent_database
from workers import alone

LOST = {"lost": LOSSES_UNTIL_ALONE}
SOON = 10
ATTEMPTS_BEFORE = 2  # of the factories' dispatched jobs


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for others does so for a moment."""
    monkeypatch.setattr(alone, "FIRST_WAIT", timedelta(seconds=0.05))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for others does so for longer than a test may take, and keeps his claim all the time."""
    monkeypatch.setattr(alone, "FIRST_WAIT", timedelta(seconds=300))
    monkeypatch.setattr(alone, "KEEPS_EVERY", timedelta(seconds=0.01))


def not_to_run(_context: Context) -> None:
    pytest.fail("this handler was not to run")


def deliver(bench: Bench, *refs: Ref) -> None:
    """As a broker does: the thread has a slot until its message is done."""
    assert bench.flow.take(lambda: None)
    try:
        bench.executor.run(refs)
    finally:
        bench.flow.done()


@contextmanager
def delivered(bench: Bench, *refs: Ref) -> Iterator[Future[None]]:
    """The same on a thread of its own, until it is done."""
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(deliver, bench, *refs)


@contextmanager
def neighbour(bench: Bench) -> Iterator[Callable[[], None]]:
    """Another thread is busy while the block lasts, or until it is told to be done."""
    assert bench.flow.take(lambda: None)
    with ExitStack() as stack:
        stack.callback(bench.flow.done)
        yield stack.close


def seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


def is_open(bench: Bench) -> bool:
    return bench.flow.free == bench.flow.threads and bench.executor.in_hand.wait_until_empty(0)


# It has the process


def test_it_runs_and_nobody_else_gets_a_message_meanwhile(bench: Bench):
    free = []
    ref = bench.plant(lambda _context: free.append(bench.flow.free), **LOST)
    deliver(bench, ref)
    assert (bench.row(ref)["state"], free, is_open(bench)) == (State.SUCCEEDED, [0], True)
    assert bench.history(ref) == []


def test_a_job_that_was_lost_less_often_runs_beside_others(bench: Bench):
    free = []
    ref = bench.plant(lambda _context: free.append(bench.flow.free), lost=LOSSES_UNTIL_ALONE - 1)
    with neighbour(bench):
        deliver(bench, ref)
    assert (bench.row(ref)["state"], free) == (State.SUCCEEDED, [2])


@pytest.mark.parametrize("raised", [ValueError(), Permanent("no"), Snooze(timedelta(0)), Interrupt(), SystemExit()])
def test_others_get_messages_again_however_it_ends(bench: Bench, raised: BaseException):
    def fail(_context: Context) -> None:
        raise raised

    ref = bench.plant(fail, **LOST)
    deliver(bench, ref)
    assert bench.row(ref)["state"] != State.RUNNING
    assert is_open(bench)


def test_and_so_they_do_when_the_database_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    ref = bench.plant(not_to_run, **LOST)
    start = moves.start

    def away(*arguments: Any, alone: bool = False) -> Any:
        if alone:
            raise Unavailable("away", Trouble.AWAY)
        return start(*arguments)

    monkeypatch.setattr(moves, "start", away)
    deliver(bench, ref)
    assert (bench.row(ref)["state"], is_open(bench)) == (State.DISPATCHED, True)


def test_the_others_of_its_message_are_done_first_and_beside_whoever_is_there(bench: Bench, short: None):
    ref, lost = bench.plant(lambda _context: 1), bench.plant(not_to_run, **LOST)
    with neighbour(bench):
        deliver(bench, lost, ref)
    assert (bench.row(ref)["state"], bench.row(lost)["state"]) == (State.SUCCEEDED, State.QUEUED)


# It waits


def test_it_is_not_begun_before_the_others_are_done(bench: Bench, patient: None, eventually: Callable[..., Any]):
    ran = threading.Event()
    ref = bench.plant(lambda _context: ran.set(), **LOST)
    with neighbour(bench) as done, delivered(bench, ref):
        eventually(lambda: bench.flow.free == 0)
        assert (bench.row(ref)["state"], ran.is_set()) == (State.DISPATCHED, False)
        done()
    assert (bench.row(ref)["state"], ran.is_set(), is_open(bench)) == (State.SUCCEEDED, True, True)


def test_its_claim_is_kept_while_it_waits(bench: Bench, patient: None, eventually: Callable[..., Any]):
    ref = bench.plant(lambda _context: None, lease_expires_at=datetime.now(UTC), **LOST)
    with neighbour(bench) as done, delivered(bench, ref):
        eventually(lambda: seconds_until(bench.row(ref)["lease_expires_at"]) > alone.KEPT_FOR.total_seconds() / 2)
        assert seconds_until(bench.row(ref)["dispatched_at"]) > -5
        done()
    assert bench.row(ref)["state"] == State.SUCCEEDED


def test_a_cancelled_one_waits_no_longer(bench: Bench, patient: None, eventually: Callable[..., Any]):
    ref = bench.plant(not_to_run, **LOST)
    before = counted("jobmill_stale_total", move="start")
    with neighbour(bench), delivered(bench, ref) as given:
        eventually(lambda: bench.flow.free == 0)
        bench.database.run(lambda session: moves.cancel(session, [ref.id], "tester"))
        given.result(SOON)
    assert (bench.row(ref)["state"], is_open(bench)) == (State.CANCELLED, True)
    assert counted("jobmill_stale_total", move="start") == before + 1


def test_in_a_worker_that_stops_it_goes_back_at_once(bench: Bench, patient: None, eventually: Callable[..., Any]):
    ref = bench.plant(not_to_run, **LOST)
    with neighbour(bench), delivered(bench, ref) as given:
        eventually(lambda: bench.flow.free == 0)
        bench.flow.drain()
        given.result(SOON)
    row = bench.row(ref)
    assert (row["state"], row["attempt"], seconds_until(row["due_at"]) <= 0) == (State.QUEUED, ATTEMPTS_BEFORE, True)
    assert bench.rung.is_set()
    assert bench.history(ref) == []


# It is put off


@pytest.mark.usefixtures("short")
def test_in_a_process_that_stays_busy_it_is_put_off_and_says_why(bench: Bench):
    starts, snoozes = (counted("jobmill_moves_total", move=move) for move in ("start", "snooze"))
    ref = bench.plant(not_to_run, **LOST)
    with neighbour(bench):
        deliver(bench, ref)
        assert bench.flow.free == bench.flow.threads - 1
    row = bench.row(ref)
    assert (row["state"], row["attempt"], row["lost"]) == (State.QUEUED, ATTEMPTS_BEFORE, LOSSES_UNTIL_ALONE)
    (put_off,) = bench.history(ref)
    assert 0.3 < (row["due_at"] - put_off["at"]).total_seconds() < 0.7
    assert (put_off["move"], put_off["reason"]) == ("snooze", "it was lost twice and waits for a process to itself")
    assert counted("jobmill_moves_total", move="start") == starts + 1
    assert counted("jobmill_moves_total", move="snooze") == snoozes + 1
    assert bench.rung.is_set()


@pytest.mark.usefixtures("short")
def test_each_time_it_waits_for_longer_and_rests_for_longer(bench: Bench):
    ref, rests, began = bench.plant(not_to_run, queue="patient", **LOST), [], time.monotonic()
    for _ in range(4):
        with neighbour(bench):
            deliver(bench, ref)
        rests.append(seconds_until(bench.row(ref)["due_at"]))
        ref = claimed_now(bench, "patient")
    assert time.monotonic() - began > 0.05 * (1 + 2 + 4 + 8)
    assert rests[0] < 1  # half a second,
    assert rests[3] > 2  # and four, give or take a quarter


def claimed_now(bench: Bench, queue: str) -> Ref:
    """The queue's job, dispatched again without waiting for its due time."""
    with bench.database.transaction() as session:
        session.execute(update(jobs).where(jobs.c.queue == queue).values(due_at=ago(minutes=1)))
        (moved,) = moves.claim(session, queue, 0, 1, timedelta(seconds=60))
        return moved.ref


def test_of_two_in_one_process_the_second_is_put_off_at_once(
    bench: Bench, patient: None, eventually: Callable[..., Any]
):
    first, second = bench.plant(lambda _context: None, **LOST), bench.plant(not_to_run, **LOST)
    with neighbour(bench) as done, delivered(bench, first):
        eventually(lambda: bench.flow.free == 0)
        bench.executor.run([second])  # its message had come before the first reserved the process
        assert bench.flow.free == 0  # it is still the first one's
        done()
    assert (bench.row(first)["state"], bench.row(second)["state"]) == (State.SUCCEEDED, State.QUEUED)
    assert seconds_until(bench.row(second)["due_at"]) < 60  # nobody waited, so it need not rest for long
    (put_off,) = bench.history(second)
    assert put_off["reason"] == "it was lost twice, and another such job had this process to itself"
    assert is_open(bench)


def test_what_was_begun_runs_though_nothing_can_be_found_out_of_the_rest(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def away(_refs: object) -> list[Ref]:
        raise Unavailable("away", Trouble.AWAY)

    monkeypatch.setattr(bench.executor.alone, "needed_by", away)
    begun, stale = bench.plant(lambda _context: None), bench.plant(state=State.QUEUED)
    deliver(bench, begun, stale)
    assert bench.row(begun)["state"] == State.SUCCEEDED
