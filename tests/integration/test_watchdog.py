"""The watchdog over handlers that run: it asks them to stop, makes them stop, and carries what they say."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from sqlalchemy import delete, event, text, update
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from jobs.context import Context
from jobs.outcomes import CancelRequested, Interrupt
from models import moves, worker
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.errors import Unavailable
from models.ids import new_id
from models.job import Ref, jobs
from models.moves import Ending
from models.states import State
from models.worker import HEARTBEAT_EVERY, workers
from tests.factories import ago, job_in, unique
from tests.mishaps import LosesAnswers
from tests.workbench import Bench, counted, lent_database, write_effect
from workers import watchdog as watchdog_module
from workers.durations import TOLD_EVERY_SECONDS
from workers.recorder import HELD_SECONDS
from workers.watchdog import CANCEL_GRACE, LONGEST_TURN, Watchdog

DEADLINE = 20.0


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


class Watched(Bench):
    """A worker with one job in hand, and its watchdog, which looks when it is told to."""

    def __init__(self, database: Database, eventually: Callable[..., Any]) -> None:
        super().__init__(database)
        self.eventually = eventually
        self.watchdog = Watchdog(
            database,
            self.worker_id,
            self.executor.in_hand,
            self.executor.durations,
            self.executor.recorder,
            lambda _session: self.registered(),
        )
        self.watchdog.said_consuming = True  # as its row does
        self.registrations = 0
        self.threads: list[threading.Thread] = []
        self.over = threading.Event()

    def registered(self) -> None:
        self.registrations += 1

    def begin(
        self,
        behaviour: Callable[[Context], Any],
        *,
        before: Sequence[Ref] = (),
        behind: Sequence[Ref] = (),
        **columns: Any,
    ) -> Ref:
        """Start a job, between others in one message, on a thread of its own; returns once its handler runs."""
        begun = threading.Event()

        def behave(context: Context) -> Any:
            begun.set()
            return behaviour(context)

        ref = self.plant(behave, **columns)
        self.threads.append(threading.Thread(target=self.executor.run, args=[[*before, ref, *behind]]))
        self.threads[-1].start()
        assert begun.wait(DEADLINE)
        return ref

    def look(self, seconds_later: float = 0.0) -> None:
        now = time.monotonic() + seconds_later
        self.watchdog.keep_time(now)
        self.watchdog.run_once(now)

    def ended(self, ref: Ref) -> dict[str, Any]:
        """The job's row when its handler is done."""
        for thread in self.threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "the handler never ended"
        return self.row(ref)

    def until_over(self, context: Context) -> str:
        """A handler in a Python loop that listens to nobody."""
        deadline = time.monotonic() + DEADLINE
        while not self.over.is_set() and time.monotonic() < deadline:
            pass
        return "to the end"

    def cancel(self, ref: Ref) -> None:
        self.database.run(lambda session: moves.cancel(session, [ref.id], "tester"))


@pytest.fixture
def watched(database: Database, eventually: Callable[..., Any]) -> Iterator[Watched]:
    made = Watched(database, eventually)
    made.register()
    yield made
    made.over.set()
    for thread in made.threads:
        thread.join(DEADLINE)


def interrupts(reason: str) -> float:
    return counted("jobmill_interrupts_total", reason=reason)


# Cancellation


def test_a_handler_that_listens_stops_by_itself(watched: Watched):
    ref = watched.begin(lambda context: context.wait(DEADLINE))
    before = interrupts("CancelRequested")
    watched.look()
    assert watched.row(ref)["state"] == State.RUNNING
    watched.cancel(ref)
    watched.look()
    assert watched.ended(ref)["state"] == State.CANCELLED
    assert interrupts("CancelRequested") == before
    assert [told["move"] for told in watched.history(ref)] == ["cancel", "stop"]


def test_a_handler_that_does_not_is_interrupted_after_a_grace(watched: Watched):
    ref = watched.begin(watched.until_over)
    before = interrupts("CancelRequested")
    watched.cancel(ref)
    watched.look()
    watched.look(CANCEL_GRACE.total_seconds() - 0.5)
    assert interrupts("CancelRequested") == before
    watched.look(CANCEL_GRACE.total_seconds() + 0.1)
    assert watched.ended(ref)["state"] == State.CANCELLED
    assert interrupts("CancelRequested") - before == 1


def test_a_handler_that_swallows_its_interrupt_is_not_struck_twice(watched: Watched):
    def behave(context: Context) -> str:
        with suppress(Interrupt):
            watched.until_over(context)
        struck.set()
        return watched.until_over(context)

    struck = threading.Event()
    ref = watched.begin(behave)
    watched.cancel(ref)
    watched.look()
    watched.look(CANCEL_GRACE.total_seconds() + 1)
    assert struck.wait(DEADLINE)
    for _ in range(5):
        watched.look(CANCEL_GRACE.total_seconds() + 2)
    watched.over.set()
    row = watched.ended(ref)
    assert (row["state"], row["result"]) == (State.SUCCEEDED, "to the end")


def test_only_the_job_that_is_to_be_cancelled_is_told(watched: Watched):
    other = watched.begin(watched.until_over)
    ref = watched.begin(watched.until_over)
    watched.cancel(ref)
    watched.look()
    watched.look(CANCEL_GRACE.total_seconds() + 1)
    watched.eventually(lambda: watched.row(ref)["state"] == State.CANCELLED)
    watched.over.set()
    assert watched.ended(other)["state"] == State.SUCCEEDED


# Time limits


@pytest.mark.parametrize(("max_attempts", "state"), [(5, State.QUEUED), (3, State.DEAD)])
def test_a_handler_that_runs_too_long_fails(watched: Watched, max_attempts: int, state: State):
    ref = watched.begin(watched.until_over, timeout_seconds=60, max_attempts=max_attempts)
    watched.look(59)
    assert watched.row(ref)["state"] == State.RUNNING
    watched.look(60)
    row = watched.ended(ref)
    assert (row["state"], row["error"]["code"]) == (state, "timed-out")
    assert "until_over" in row["error"]["trace"]


def test_a_time_limit_needs_no_database(watched: Watched):
    class Away(LosesAnswers):
        def _session(self, _engine: Any) -> NoReturn:
            raise Unavailable("away")

    ref = watched.begin(watched.until_over, timeout_seconds=60)
    watched.watchdog.database = Away(watched.database)
    with pytest.raises(Unavailable):
        watched.look(61)
    assert watched.ended(ref)["error"]["code"] == "timed-out"


# A lease that is lost


def test_a_handler_whose_job_went_to_another_worker_is_stopped(watched: Watched, database: Database):
    queue = unique("queue")
    ref = watched.begin(watched.until_over, queue=queue)

    def take_away(session: Any) -> Ref:
        moves.rescue(session, [Ending(ref, error="{}", reason="test")], "tester")
        (claimed,) = moves.claim(session, queue, 0, 1, timedelta(seconds=60))
        moves.start(session, [claimed.ref], new_id())
        return claimed.ref

    new = database.run(take_away)
    watched.look()
    row = watched.ended(ref)
    assert (row["state"], row["lease"]) == (State.RUNNING, new.lease)
    assert row["worker_id"] != watched.worker_id


def test_the_same_job_under_a_new_lease_on_the_same_worker_does_not_keep_the_old_handler_alive(
    watched: Watched, database: Database
):
    ref = watched.begin(watched.until_over)
    database.run(lambda session: session.execute(update(jobs).where(jobs.c.id == ref.id).values(lease=ref.lease + 1)))
    before = interrupts("LeaseLost")
    watched.look()
    watched.ended(ref)
    assert interrupts("LeaseLost") - before == 1


def test_a_handler_whose_job_is_gone_altogether_is_stopped(watched: Watched, database: Database):
    ref = watched.begin(watched.until_over)
    database.run(lambda session: session.execute(delete(jobs).where(jobs.c.id == ref.id)))
    before = interrupts("LeaseLost")
    watched.look()
    for thread in watched.threads:
        thread.join(DEADLINE)
    assert interrupts("LeaseLost") - before == 1


def test_a_handler_that_ends_while_the_watchdog_looks_is_not_struck(watched: Watched):
    before = interrupts("LeaseLost")
    for _ in range(30):
        ref = watched.begin(lambda _context: None)
        watched.look()
        assert watched.ended(ref)["state"] == State.SUCCEEDED
    assert interrupts("LeaseLost") == before


# What handlers say


@pytest.fixture
def writes(database: Database) -> Iterator[list[str]]:
    """The statements that wrote progress."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "SET progress_percent" in statement:
            seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def test_progress_is_written_once_a_look_however_often_it_is_told(watched: Watched, writes: list[str]):
    told, more = threading.Event(), threading.Event()

    def behave(context: Context) -> None:
        for percent in range(100):
            context.progress(percent, f"at {percent}")
        told.set()
        more.wait(DEADLINE)
        context.progress(100)
        told.set()
        watched.over.wait(DEADLINE)

    ref = watched.begin(behave)
    assert told.wait(DEADLINE)
    assert writes == []
    watched.look()
    row = watched.row(ref)
    assert (row["progress_percent"], row["progress_message"]) == (99, "at 99")
    watched.look()
    assert len(writes) == 1
    told.clear()
    more.set()
    assert told.wait(DEADLINE)
    watched.look()
    row = watched.row(ref)
    assert (row["progress_percent"], row["progress_message"]) == (100, None)
    assert len(writes) == 2


def test_progress_of_several_handlers_is_one_statement(watched: Watched, writes: list[str]):
    told = threading.Semaphore(0)

    def behave(context: Context) -> None:
        context.progress(50)
        told.release()
        watched.over.wait(DEADLINE)

    refs = [watched.begin(behave) for _ in range(3)]
    for _ in refs:
        assert told.acquire(timeout=DEADLINE)
    watched.look()
    assert [watched.row(ref)["progress_percent"] for ref in refs] == [50] * 3
    assert len(writes) == 1


def test_progress_under_a_lost_lease_is_not_written(watched: Watched, database: Database):
    told = threading.Event()

    def behave(context: Context) -> None:
        context.progress(50)
        told.set()
        watched.until_over(context)

    ref = watched.begin(behave)
    assert told.wait(DEADLINE)
    database.run(lambda session: session.execute(update(jobs).where(jobs.c.id == ref.id).values(lease=ref.lease + 1)))
    watched.look()
    assert watched.row(ref)["progress_percent"] is None


# The heartbeat


def heartbeat(watched: Watched) -> Any:
    with watched.database.reading() as session:
        return session.execute(workers.select().where(workers.c.id == watched.worker_id)).mappings().one_or_none()


def test_a_heartbeat_is_written_when_it_is_due_and_not_before(watched: Watched, database: Database):
    database.run(lambda session: session.execute(update(workers).values(heartbeat_at=ago(seconds=100))))
    silent = heartbeat(watched)["heartbeat_at"]
    watched.look(HEARTBEAT_EVERY.total_seconds() - 0.5)
    assert heartbeat(watched)["heartbeat_at"] == silent
    watched.look(HEARTBEAT_EVERY.total_seconds() + 0.1)
    assert heartbeat(watched)["heartbeat_at"] > ago(seconds=50)
    database.run(lambda session: session.execute(update(workers).values(heartbeat_at=ago(seconds=100))))
    watched.look(HEARTBEAT_EVERY.total_seconds() + 0.2)
    assert heartbeat(watched)["heartbeat_at"] < ago(seconds=50)


def test_how_long_a_type_runs_is_told_once_and_again_when_that_has_changed(watched: Watched, database: Database):
    ref = watched.plant(lambda _context: None)
    watched.executor.run([ref])
    watched.look()
    ((seconds, runs),) = heartbeat(watched)["seconds_by_type"].values()
    assert 0 < seconds < 1
    assert runs == 1
    database.run(lambda session: session.execute(update(workers).values(seconds_by_type=None)))
    watched.look(TOLD_EVERY_SECONDS)
    assert heartbeat(watched)["seconds_by_type"] is None, "it is no news"
    watched.executor.durations.ran("test.do", 1000.0)
    watched.look(TOLD_EVERY_SECONDS)
    assert heartbeat(watched)["seconds_by_type"]["test.do"][0] > 100


def test_how_long_a_type_runs_is_told_as_soon_as_it_is_known(watched: Watched, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watchdog_module, "TICK", timedelta(seconds=DEADLINE))
    watched.watchdog.start()
    watched.executor.run([watched.plant(lambda _context: None)])
    watched.eventually(lambda: heartbeat(watched)["seconds_by_type"])
    assert watched.rung.wait(DEADLINE), "until the dispatcher looks again, each of its jobs travels alone"
    monkeypatch.undo()
    watched.watchdog.stop()
    assert not watched.watchdog.threads[1].is_alive()


def test_how_long_a_type_runs_is_told_again_once_there_is_a_row(watched: Watched, database: Database):
    database.run(lambda session: session.execute(delete(workers)))
    watched.executor.run([watched.plant(lambda _context: None)])
    watched.look()
    watched.register()
    watched.look()
    assert heartbeat(watched)["seconds_by_type"].keys() == {"test.do"}


def test_a_worker_that_was_given_up_is_back_with_its_next_beat(watched: Watched, database: Database):
    database.run(lambda session: worker.mark_stopped(session, [watched.worker_id]))
    watched.look(HEARTBEAT_EVERY.total_seconds() + 1)
    assert heartbeat(watched)["stopped_at"] is None
    assert watched.registrations == 0


def test_a_worker_whose_row_is_gone_registers_again(watched: Watched, database: Database):
    database.run(lambda session: session.execute(delete(workers).where(workers.c.id == watched.worker_id)))
    watched.look(HEARTBEAT_EVERY.total_seconds() + 1)
    assert watched.registrations == 1


# Jobs that the rows say we run and nobody here does


def beat(watched: Watched) -> None:
    watched.look(HEARTBEAT_EVERY.total_seconds() + 1)


def test_a_job_whose_start_was_committed_and_never_heard_of_is_queued_again(
    database: Database, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Database.run_single, "__defaults__", (timedelta(seconds=0.1),))
    forgetful, ran = LosesAnswers(database), []
    watched = Watched(forgetful, eventually)
    watched.register()
    ref = watched.plant(lambda _context: ran.append(1))
    forgetful.times = 10_000
    watched.executor.run([ref])
    forgetful.times = 0
    assert watched.row(ref)["state"] == State.RUNNING
    beat(watched)
    row = watched.row(ref)
    assert (row["state"], row["lost"], row["attempt"]) == (State.QUEUED, 0, 2), "nothing of it ran, nothing was lost"
    assert ran == []
    (told,) = watched.history(ref)
    assert (told["move"], told["actor"]) == ("interrupt", f"worker:{watched.worker_id}")


def test_a_job_whose_end_was_not_recorded_counts_as_lost(watched: Watched):
    ref = watched.plant(lambda _context: None, State.RUNNING, worker_id=watched.worker_id)
    beat(watched)
    row = watched.row(ref)
    assert (row["state"], row["lost"]) == (State.QUEUED, 1)
    assert watched.rung.is_set()
    (told,) = watched.history(ref)
    assert (told["move"], told["actor"]) == ("rescue", f"worker:{watched.worker_id}")


def test_a_job_of_an_unheard_start_that_was_to_be_cancelled_is_cancelled(watched: Watched):
    ref = watched.plant(lambda _context: None, State.RUNNING, worker_id=watched.worker_id)
    watched.executor.in_hand.doubt([ref])
    watched.cancel(ref)
    beat(watched)
    assert watched.row(ref)["state"] == State.RUNNING
    watched.look(HEARTBEAT_EVERY.total_seconds() * 2 + 2)
    assert watched.row(ref)["state"] == State.CANCELLED


def test_jobs_in_hand_and_other_workers_jobs_are_left_alone(watched: Watched, database: Database):
    mine = watched.begin(watched.until_over)
    others = database.run(lambda session: job_in(session, State.RUNNING))
    beat(watched)
    assert [watched.row(ref)["state"] for ref in (mine, others)] == [State.RUNNING] * 2
    watched.over.set()
    assert watched.ended(mine)["state"] == State.SUCCEEDED


def test_a_job_nobody_runs_that_was_to_be_cancelled_is_cancelled(watched: Watched, database: Database):
    ref = watched.plant(lambda _context: None, State.RUNNING, worker_id=watched.worker_id)
    watched.cancel(ref)
    beat(watched)
    assert watched.row(ref)["state"] == State.CANCELLED


# A handler that holds its session open: on SQLite the only writer there can be


@pytest.fixture
def holder(watched: Watched) -> Iterator[Ref]:
    """A job whose handler has written through its session and goes on."""
    written = threading.Event()

    def behave(context: Context) -> None:
        write_effect(context)
        written.set()
        watched.over.wait(DEADLINE)

    ref = watched.begin(behave)
    assert written.wait(DEADLINE)
    yield ref
    watched.over.set()


def test_reading_never_waits_for_a_handler_that_holds_its_session(watched: Watched, holder: Ref, database: Database):
    began = time.monotonic()
    for _ in range(20):
        with database.reading() as session:
            assert (
                session.execute(text("SELECT count(*) FROM effects WHERE job = :j"), {"j": holder.id.hex}).scalar() == 0
            )
        assert watched.row(holder)["state"] == State.RUNNING
        watched.look()
    assert time.monotonic() - began < 2
    watched.over.set()
    assert watched.ended(holder)["state"] == State.SUCCEEDED
    assert watched.effects(holder) == ["done"]


def test_a_cancellation_reaches_its_handler_while_another_holds_its_session(watched: Watched, database: Database):
    said, written = threading.Event(), threading.Event()

    def talks(context: Context) -> None:
        context.progress(50)
        said.set()
        context.wait(DEADLINE)

    def holds(context: Context) -> None:
        write_effect(context)
        written.set()
        watched.over.wait(DEADLINE)

    talker = watched.begin(talks)
    watched.cancel(talker)
    watched.begin(holds)
    assert said.wait(DEADLINE)
    assert written.wait(DEADLINE)
    context = next(run.context for run in watched.executor.in_hand.runs() if run.ref == talker)
    other = threading.Thread(target=quiet, args=[watched.look])
    other.start()
    with pytest.raises(CancelRequested):
        context.wait(2)  # before the progress, which on SQLite has to wait for the holder
    watched.over.set()
    other.join(DEADLINE)


def quiet(step: Callable[[], Any]) -> None:
    with suppress(Unavailable):
        step()


# The thread


def test_the_watch_goes_on_after_the_database_was_away(watched: Watched, monkeypatch: pytest.MonkeyPatch):
    class AwayAtFirst(LosesAnswers):
        looks = 0

        def reading(self) -> Any:
            self.looks += 1
            if self.looks <= 3:
                raise (Unavailable("away") if self.looks % 2 else ValueError("a bug"))
            return super().reading()

    monkeypatch.setattr(watchdog_module, "TICK", timedelta(seconds=0.01))
    away = watched.watchdog.database = AwayAtFirst(watched.database)
    ref = watched.begin(lambda context: context.wait(DEADLINE))
    watched.cancel(ref)
    watched.watchdog.start()
    assert watched.ended(ref)["state"] == State.CANCELLED
    assert away.looks > 3
    watched.watchdog.stop()
    assert not any(thread.is_alive() for thread in watched.watchdog.threads)


# Several jobs in one message


def test_what_waits_behind_a_slow_job_is_given_back_and_costs_no_attempt(watched: Watched):
    ran: list[str] = []
    behind = [watched.plant(lambda _context: ran.append("behind")) for _ in range(2)]
    slow = watched.begin(lambda _context: watched.over.wait(DEADLINE), behind=behind)
    watched.look()
    assert [watched.row(ref)["state"] for ref in behind] == [State.RUNNING] * 2  # it may yet be quick
    given_back = counted("jobmill_moves_total", move="interrupt")
    watched.look(seconds_later=LONGEST_TURN.total_seconds())
    for ref in behind:
        assert (watched.row(ref)["state"], watched.row(ref)["attempt"]) == (State.QUEUED, 2)
        assert [event["reason"] for event in watched.history(ref)] == ["it waited behind a slow job"]
    assert counted("jobmill_moves_total", move="interrupt") == given_back + 2
    assert watched.rung.is_set()
    watched.over.set()
    assert watched.ended(slow)["state"] == State.SUCCEEDED
    assert ran == []


def test_one_whose_cancellation_was_asked_for_stays_and_hears_of_it(watched: Watched):
    behind = watched.plant(lambda context: context.wait(DEADLINE))
    slow = watched.begin(lambda _context: watched.over.wait(DEADLINE), behind=[behind])
    watched.cancel(behind)
    watched.look(seconds_later=LONGEST_TURN.total_seconds())
    assert watched.row(behind)["state"] == State.RUNNING
    watched.over.set()
    watched.eventually(lambda: [run.ref for run in watched.executor.in_hand.runs()] == [behind])
    watched.look()
    assert watched.ended(behind)["state"] == State.CANCELLED
    assert watched.row(slow)["state"] == State.SUCCEEDED


@pytest.mark.parametrize("committed", [True, False])
def test_what_was_given_back_to_a_database_that_was_lost_runs_here_no_more_and_has_lost_nothing(
    database: Database, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, committed: bool
):
    ran: list[str] = []
    watched = Watched(database, eventually)
    watched.register()
    behind = watched.plant(lambda _context: ran.append("behind"))
    slow = watched.begin(lambda _context: watched.over.wait(DEADLINE), behind=[behind])

    @contextmanager
    def lost() -> Iterator[Any]:
        with transaction() as session:
            yield session
            if not committed:
                session.rollback()
        raise Unavailable("away")

    transaction = watched.database.transaction
    with monkeypatch.context() as patch:
        patch.setattr(watched.database, "transaction", lost)
        with pytest.raises(Unavailable):
            watched.look(seconds_later=LONGEST_TURN.total_seconds())
    assert watched.row(behind)["state"] == (State.QUEUED if committed else State.RUNNING)
    beat(watched)
    assert (watched.row(behind)["state"], watched.row(behind)["lost"]) == (State.QUEUED, 0)
    watched.over.set()
    assert watched.ended(slow)["state"] == State.SUCCEEDED
    assert ran == []


def test_a_start_that_nobody_heard_of_is_no_loss_however_long_its_message_is_worked_on(watched: Watched):
    ref = watched.plant(lambda _context: None, State.RUNNING, worker_id=watched.worker_id)
    watched.executor.in_hand.take([ref])
    watched.executor.in_hand.doubt([ref])
    beat(watched)
    assert watched.row(ref)["state"] == State.RUNNING
    watched.executor.in_hand.let_go([ref])
    watched.look(HEARTBEAT_EVERY.total_seconds() * 2 + 2)
    assert (watched.row(ref)["state"], watched.row(ref)["lost"]) == (State.QUEUED, 0)


def test_a_set_that_is_refused_as_the_database_goes_away_keeps_the_watchdog_no_longer_than_one_try(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
):
    quick = [watched.plant(lambda _context: "done") for _ in range(2)]
    slow = watched.begin(lambda _context: watched.over.wait(DEADLINE), before=quick)
    tries: list[int] = []

    def refused(_session: Session, endings: Sequence[Ending]) -> NoReturn:
        tries.append(len(endings))
        if len(endings) > 1:
            raise DataError("UPDATE jobs", {}, Exception("refused"))
        raise Unavailable("away")

    time.sleep(HELD_SECONDS)
    with monkeypatch.context() as patched:
        patched.setattr(moves, "succeed_unheard", refused)
        watched.look()
    assert tries == [2, 1]
    watched.look()
    assert [watched.row(ref)["state"] for ref in quick] == [State.SUCCEEDED] * 2
    watched.over.set()
    assert watched.ended(slow)["state"] == State.SUCCEEDED


def test_a_success_is_not_held_back_by_the_slow_job_behind_it(watched: Watched):
    quick = watched.plant(lambda _context: "done")
    slow = watched.begin(lambda _context: watched.over.wait(DEADLINE), before=[quick])
    time.sleep(HELD_SECONDS)
    watched.look()
    assert watched.row(quick)["state"] == State.SUCCEEDED
    assert watched.row(slow)["state"] == State.RUNNING
    watched.over.set()
    assert watched.ended(slow)["state"] == State.SUCCEEDED
