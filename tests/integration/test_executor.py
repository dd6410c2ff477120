"""One attempt at a job on both databases: each way it can end, and that what it wrote counts once or not at all."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from jobs.context import Context
from jobs.outcomes import CancelRequested, Permanent, RetryLater, Snooze
from models import moves
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.errors import Trouble, Unavailable
from models.ids import new_id
from models.job import Ref
from models.moves import Ending
from models.states import State
from tests.mishaps import LosesAnswers
from tests.workbench import WAIT, Bench, counted, lent_database, statements, write_effect
from workers import recorder as recorder_module
from workers.log_fields import add_job

ATTEMPTS_BEFORE = 2  # of the factories' dispatched jobs
TAKEN_AWAY = "mine"


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


def raising(error: BaseException | type[BaseException]) -> Callable[[Context], NoReturn]:
    def behave(_context: Context) -> NoReturn:
        raise error

    return behave


def seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


def take_away(database: Database, ref: Ref) -> Ref:
    """Give the job, of the queue TAKEN_AWAY, to another worker behind the back of the one that runs it."""

    def step(session: Session) -> Ref:
        moves.rescue(session, [Ending(ref, error='{"type": "WorkerLost"}', reason="test")], "tester")
        (claimed,) = moves.claim(session, TAKEN_AWAY, 0, 100, timedelta(seconds=60))
        moves.start(session, [claimed.ref], new_id())
        return claimed.ref

    return database.run(step)


# How an attempt ends


def test_a_value_is_kept_and_the_job_has_succeeded(bench: Bench):
    row = bench.run(lambda context: {"attempt": context.attempt, "lease": context.lease, "tags": context.tags})
    assert row["state"] == State.SUCCEEDED
    assert row["result"] == {"attempt": 3, "lease": row["lease"], "tags": {}}
    assert (row["attempt"], row["worker_id"], row["error"]) == (3, bench.worker_id, None)
    assert row["started_at"] <= row["finished_at"]
    assert bench.history(row) == []
    assert not bench.rung.is_set()


def test_a_handler_is_given_the_trace_that_its_job_was_submitted_in(bench: Bench):
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}

    def look(context: Context) -> Any:
        return [context.traceparent, context.tracestate, add_job(None, "info", {})["trace_id"]]

    assert bench.run(look, **trace)["result"] == [*trace.values(), "a" * 32]
    assert bench.run(lambda context: [context.traceparent, context.tracestate])["result"] == [None, None]


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, 1.0, 2**63 - 1, "\u00e9 \U0001f600", {"a": [None]}])
def test_any_json_is_a_result(bench: Bench, value: Any):
    row = bench.run(lambda _context: value)
    assert (row["state"], row["result"]) == (State.SUCCEEDED, value)
    assert type(row["result"]) is type(value)


def test_a_failure_waits_as_its_policy_says_and_is_remembered(bench: Bench):
    row = bench.run(raising(ValueError("no luck")))
    assert (row["state"], row["attempt"]) == (State.QUEUED, 3)
    assert WAIT - 5 < seconds_until(row["due_at"]) <= WAIT
    assert {name: row["error"][name] for name in ("type", "message", "code")} == {
        "type": "ValueError",
        "message": "no luck",
        "code": "exception",
    }
    assert "no luck" in row["error"]["trace"]
    (event,) = bench.history(row)
    assert (event["move"], event["actor"]) == ("retry", f"worker:{bench.worker_id}")
    assert event["error"]["message"] == "no luck"
    assert (row["worker_id"], row["started_at"], row["dispatched_at"]) == (None, None, None)
    assert bench.rung.is_set()


def test_the_last_attempt_that_fails_makes_a_dead_letter(bench: Bench):
    row = bench.run(raising(ValueError("no luck")), max_attempts=3)
    assert (row["state"], row["attempt"]) == (State.DEAD, 3)
    assert (row["error"]["code"], bench.history(row)[0]["reason"]) == ("exception", "attempts exhausted")
    assert bench.rung.is_set()  # there may be webhooks to send


def test_a_permanent_error_makes_one_at_once(bench: Bench):
    row = bench.run(raising(Permanent("no such customer", code="no-customer")))
    assert (row["state"], row["attempt"], row["error"]["code"]) == (State.DEAD, 3, "no-customer")
    assert bench.history(row)[0]["reason"] == "permanent error"


def test_a_handler_may_name_its_own_wait(bench: Bench):
    row = bench.run(raising(RetryLater(timedelta(hours=1), "busy there")))
    assert (row["state"], row["attempt"], row["error"]["code"]) == (State.QUEUED, 3, "retry-later")
    assert 3590 < seconds_until(row["due_at"]) <= 3600


def test_a_snooze_gives_the_attempt_back(bench: Bench):
    row = bench.run(raising(Snooze(timedelta(hours=1), "too early")), max_attempts=3)
    assert (row["state"], row["attempt"], row["error"]) == (State.QUEUED, ATTEMPTS_BEFORE, None)
    assert 3590 < seconds_until(row["due_at"]) <= 3600
    assert [(event["move"], event["reason"]) for event in bench.history(row)] == [("snooze", "too early")]
    assert bench.rung.is_set()


def test_a_type_that_this_worker_does_not_know_may_be_known_to_another(bench: Bench):
    row = bench.row(run_planted(bench, type="no.such"))
    assert (row["state"], row["attempt"], row["error"]["code"]) == (State.QUEUED, 3, "unknown-type")
    assert "JOBMILL_JOBS" in row["error"]["message"]


@pytest.mark.parametrize("args", [{}, {"key": 1}, {"key": None}, [], "key"])
def test_arguments_that_do_not_fit_are_no_matter_of_trying_again(bench: Bench, args: Any):
    row = bench.row(run_planted(bench, type="test.do", args=args))
    assert (row["state"], row["error"]["code"]) == (State.DEAD, "invalid-args")


def run_planted(bench: Bench, **columns: Any) -> Ref:
    ref = bench.plant(**columns)
    bench.executor.run([ref])
    return ref


@pytest.mark.parametrize("result", [object(), float("nan"), b"\xff", 2**63, "x" * 1_048_577], ids=lambda r: str(r)[:9])
def test_a_result_that_is_no_json_is_a_failure_for_good(bench: Bench, result: Any):
    row = bench.run(lambda _context: result)
    assert (row["state"], row["result"]) == (State.DEAD, None)
    assert row["error"]["code"] == "result-not-serialisable"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("base")])
def test_not_even_an_exit_ends_the_worker(bench: Bench, error: BaseException):
    row = bench.run(raising(error))
    assert (row["state"], row["error"]["type"]) == (State.QUEUED, type(error).__name__)


def test_words_that_no_database_takes_are_cleaned(bench: Bench):
    row = bench.run(raising(ValueError("a\x00b\ud800")))
    assert row["error"]["message"] == "a\ufffdb\ufffd"
    assert bench.run(lambda _context: {"a\x00": "\udc00"})["result"] == {"a\ufffd": "\ufffd"}


def test_stopping_as_if_cancelled_without_being_asked_is_a_failure(bench: Bench):
    row = bench.run(raising(CancelRequested()))
    assert (row["state"], row["error"]["type"]) == (State.QUEUED, "CancelRequested")


def test_a_failure_of_a_job_that_is_to_be_cancelled_cancels_it(bench: Bench, database: Database):
    def behave(context: Context) -> NoReturn:
        database.run(lambda session: moves.cancel(session, [context.job_id], "tester"))
        raise ValueError("too late")

    row = bench.run(behave)
    assert row["state"] == State.CANCELLED
    assert [event["move"] for event in bench.history(row)] == ["cancel", "stop"]


def test_what_a_quick_handler_said_last_is_kept(bench: Bench):
    row = bench.run(lambda context: context.progress(40, "nearly"))
    assert (row["progress_percent"], row["progress_message"]) == (40, "nearly")


def test_a_message_may_name_many_jobs_and_each_ends_its_own_way(bench: Bench):
    fine, broken, last = (bench.plant(behave) for behave in (lambda _: 1, raising(ValueError("x")), lambda _: 2))
    stale = bench.plant(lambda _: 3, State.QUEUED)
    bench.executor.run([fine, stale, broken, last, fine])
    assert [bench.row(ref)["state"] for ref in (fine, stale, broken, last)] == [
        State.SUCCEEDED,
        State.QUEUED,
        State.QUEUED,
        State.SUCCEEDED,
    ]
    assert bench.row(stale)["attempt"] == 0


def test_the_jobs_of_a_message_run_in_its_order(bench: Bench):
    ran: list[int] = []

    def noting(number: int) -> Callable[[Context], None]:
        return lambda _context: ran.append(number)

    refs = [bench.plant(noting(number)) for number in range(10)]
    bench.executor.run(refs[::-1])
    assert ran == list(range(10))[::-1]


def test_the_successes_of_a_message_are_recorded_by_one_statement(bench: Bench, database: Database):
    refs = [bench.plant(lambda _context: "done") for _ in range(20)]
    with statements() as seen:
        bench.executor.run(refs)
    assert {bench.row(ref)["state"] for ref in refs} == {State.SUCCEEDED}
    assert sum("UPDATE jobs" in statement for statement in seen) == 2  # one starts them, one ends them


def test_a_result_that_the_database_refuses_costs_the_others_of_its_set_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    refs = [bench.plant(lambda _context: "done") for _ in range(3)]
    succeed = moves.succeed_unheard

    def refuse_one(session: Session, endings: Sequence[Ending]) -> Any:
        if refs[1] in {ending.ref for ending in endings}:
            raise DataError("UPDATE jobs", {}, Exception("refused"))
        return succeed(session, endings)

    monkeypatch.setattr(moves, "succeed_unheard", refuse_one)
    bench.executor.run(refs)
    assert [bench.row(ref)["state"] for ref in refs] == [State.SUCCEEDED, State.RUNNING, State.SUCCEEDED]


def test_a_row_that_somebody_holds_keeps_no_other_result_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
):
    refs = [bench.plant(lambda _context: "done") for _ in range(3)]
    succeed, let_go = moves.succeed_unheard, threading.Event()

    def held(session: Session, endings: Sequence[Ending]) -> Any:
        if refs[0] in {ending.ref for ending in endings} and not let_go.wait(0.05):
            raise Unavailable("a lock was not to be had", Trouble.TIMEOUT)
        return succeed(session, endings)

    monkeypatch.setattr(moves, "succeed_unheard", held)
    thread = threading.Thread(target=bench.executor.run, args=[refs])
    thread.start()
    try:
        eventually(lambda: [bench.row(ref)["state"] for ref in refs[1:]] == [State.SUCCEEDED] * 2)
        assert bench.row(refs[0])["state"] == State.RUNNING
    finally:
        let_go.set()
        thread.join(10)
    assert bench.row(refs[0])["state"] == State.SUCCEEDED


def test_a_held_row_of_a_job_of_which_somebody_is_told_keeps_no_other_result_waiting(
    postgresql_database: Database, eventually: Callable[..., Any]
):
    bench = Bench(postgresql_database)
    begun, go_on = threading.Event(), threading.Event()

    def behave(_context: Context) -> str:
        begun.set()
        assert go_on.wait(WAIT)
        return "done"

    told = {"url": "https://example.com/hook", "events": ["job.succeeded"]}
    refs = [bench.plant(behave, webhook=told) for _ in range(3)]
    thread = threading.Thread(target=bench.executor.run, args=[refs])
    thread.start()
    assert begun.wait(WAIT)
    with postgresql_database.transaction() as session:
        session.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": refs[0].id})
        go_on.set()
        # By the usual limit it would be 5 s for all together, and 5 more for this one.
        eventually(lambda: [bench.row(ref)["state"] for ref in refs[1:]] == [State.SUCCEEDED] * 2, 4)
        assert bench.row(refs[0])["state"] == State.RUNNING
    thread.join(WAIT)
    assert bench.row(refs[0])["state"] == State.SUCCEEDED


def test_a_job_that_cannot_be_recorded_costs_the_next_of_its_message_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    first, second = bench.plant(raising(ValueError("x"))), bench.plant(lambda _context: "done")

    def broken(*_: Any) -> NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(bench.executor.recorder, "_make", broken)
    bench.executor.run([first, second])
    assert [bench.row(ref)["state"] for ref in (first, second)] == [State.RUNNING, State.SUCCEEDED]


# Stale and doubled messages


@pytest.mark.parametrize(
    ("state", "lease_off"),
    [
        (State.DISPATCHED, 1),
        (State.DISPATCHED, -1),
        (State.QUEUED, 0),
        (State.RUNNING, 0),
        (State.SUCCEEDED, 0),
        (State.DEAD, 0),
        (State.CANCELLED, 0),
        (State.DISCARDED, 0),
    ],
)
def test_a_stale_message_changes_nothing_and_is_counted(bench: Bench, state: State, lease_off: int):
    ran: list[int] = []
    ref = bench.plant(lambda _context: ran.append(1), state)
    row, before = bench.row(ref), counted("jobmill_stale_total", move="start")
    assert bench.executor.run([Ref(ref.id, ref.lease + lease_off)])  # the job is there
    assert bench.row(ref) == row
    assert ran == []
    assert counted("jobmill_stale_total", move="start") - before == 1


def test_a_message_for_no_job_at_all_is_stale_and_said_to_be_that(bench: Bench):
    before = counted("jobmill_stale_total", move="start")
    assert not bench.executor.run([Ref(new_id(), 1)])
    assert counted("jobmill_stale_total", move="start") - before == 1


def test_the_same_message_again_runs_nothing_again(bench: Bench):
    ran: list[int] = []
    ref = bench.plant(lambda _context: ran.append(1))
    for _ in range(3):
        bench.executor.run([ref])
    assert ran == [1]
    assert (bench.row(ref)["state"], bench.row(ref)["attempt"]) == (State.SUCCEEDED, 3)


@pytest.mark.parametrize("workers", [1, 4])
def test_the_same_message_at_the_same_time_runs_the_job_once(bench: Bench, database: Database, workers: int):
    ran: list[int] = []
    all_there, returned, all_others_returned = threading.Barrier(8, timeout=30), [], threading.Event()
    benches = [bench, *(Bench(database) for _ in range(workers - 1))]

    def behave(_context: Context) -> None:
        ran.append(1)
        all_others_returned.wait(10)

    ref = bench.plant(behave)

    def deliver(number: int) -> None:
        all_there.wait()
        benches[number % workers].executor.run([ref])
        returned.append(number)
        if len(returned) == 7:
            all_others_returned.set()

    before = counted("jobmill_duplicate_deliveries_total") + counted("jobmill_stale_total", move="start")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(deliver, range(8)))
    assert ran == [1]
    assert bench.row(ref)["attempt"] == 3
    assert counted("jobmill_duplicate_deliveries_total") + counted("jobmill_stale_total", move="start") - before == 7


def test_a_second_delivery_while_the_handler_runs_is_counted_and_let_go(bench: Bench):
    ran: list[int] = []
    ref: Ref

    def behave(_context: Context) -> None:
        ran.append(1)
        bench.executor.run([ref])

    ref = bench.plant(behave)
    before = counted("jobmill_duplicate_deliveries_total")
    bench.executor.run([ref])
    assert ran == [1]
    assert counted("jobmill_duplicate_deliveries_total") - before == 1


# Writing together with the job's success


def test_what_a_handler_writes_is_committed_with_its_success(bench: Bench):
    def behave(context: Context) -> str:
        write_effect(context, "one")
        write_effect(context, "two")
        return "written"

    row = bench.run(behave)
    assert (row["state"], row["result"]) == (State.SUCCEEDED, "written")
    assert bench.effects(row) == ["one", "two"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ValueError("after all"), State.QUEUED),
        (Permanent("never"), State.DEAD),
        (Snooze(timedelta(seconds=1)), State.QUEUED),
        (RetryLater(timedelta(seconds=1)), State.QUEUED),
        (SystemExit(1), State.QUEUED),
    ],
    ids=lambda part: type(part).__name__,
)
def test_and_rolled_back_with_whatever_else_happens(bench: Bench, error: BaseException, state: State):
    def behave(context: Context) -> NoReturn:
        write_effect(context)
        raise error

    row = bench.run(behave)
    assert (row["state"], bench.effects(row)) == (state, [])


def test_a_result_that_is_no_json_rolls_back(bench: Bench):
    def behave(context: Context) -> object:
        write_effect(context)
        return object()

    row = bench.run(behave)
    assert (row["state"], bench.effects(row)) == (State.DEAD, [])


def test_a_job_that_went_to_another_worker_meanwhile_is_left_alone_and_rolled_back(bench: Bench, database: Database):
    new: list[Ref] = []

    def behave(context: Context) -> str:
        new.append(take_away(database, ref))  # before the session is opened: SQLite has one writer
        write_effect(context)
        return "from the worker that was thought dead"

    ref = bench.plant(behave, queue=TAKEN_AWAY)
    before = counted("jobmill_stale_total", move="finish")
    bench.executor.run([ref])
    row = bench.row(ref)
    assert (row["state"], row["lease"], row["result"]) == (State.RUNNING, new[0].lease, None)
    assert row["worker_id"] != bench.worker_id
    assert bench.effects(ref) == []
    assert counted("jobmill_stale_total", move="finish") - before == 1


@pytest.mark.parametrize(
    "behave",
    [lambda _: 1, raising(ValueError("x")), raising(Permanent("x")), raising(Snooze(timedelta(0)))],
    ids=["success", "failure", "permanent", "snooze"],
)
def test_no_outcome_of_a_worker_that_was_thought_dead_counts(bench: Bench, database: Database, behave: Any):
    def lost(context: Context) -> Any:
        take_away(database, ref)
        return behave(context)

    ref = bench.plant(lost, queue=TAKEN_AWAY)
    bench.executor.run([ref])
    row = bench.row(ref)
    assert (row["state"], row["lease"], row["lost"]) == (State.RUNNING, ref.lease + 1, 1)
    assert [event["move"] for event in bench.history(ref)] == ["rescue"]


@pytest.mark.parametrize(
    ("behave", "lost", "state"),
    [
        (raising(ValueError("x")), 0, State.QUEUED),
        (raising(Snooze(timedelta(0))), 0, State.QUEUED),
        (raising(Permanent("x")), 2, State.DEAD),
    ],
    ids=["failure", "snooze", "permanent"],
)
def test_an_outcome_that_came_too_late_is_stale_also_where_the_job_is_where_it_would_have_gone(
    bench: Bench, database: Database, behave: Any, lost: int, state: State
):
    def rescued_meanwhile(context: Context) -> Any:
        ending = Ending(ref, error='{"type": "WorkerLost"}', reason="test")
        database.run(lambda session: moves.rescue(session, [ending], "tester"))
        return behave(context)

    ref = bench.plant(rescued_meanwhile, lost=lost)
    stale = counted("jobmill_stale_total", move="finish")
    bench.executor.run([ref])
    assert bench.row(ref)["state"] == state
    assert [entry["move"] for entry in bench.history(ref)] == ["rescue"]
    assert counted("jobmill_stale_total", move="finish") - stale == 1


def test_a_requested_cancellation_rolls_back_when_the_handler_yields_and_not_when_it_is_done(
    bench: Bench, database: Database
):
    def behave(context: Context) -> str:
        database.run(lambda session: moves.cancel(session, [context.job_id], "tester"))
        context.cancel()  # as the watchdog would
        write_effect(context)
        if context.tags:
            context.raise_if_cancelled()
        return "done all the same"

    yields, finishes = bench.run(behave, tags={"yields": "yes"}), bench.run(behave)
    assert (yields["state"], bench.effects(yields)) == (State.CANCELLED, [])
    assert (finishes["state"], bench.effects(finishes)) == (State.SUCCEEDED, ["done"])


def test_a_session_whose_statement_failed_unnoticed_fails_the_attempt(bench: Bench):
    def behave(context: Context) -> str:
        write_effect(context)
        with suppress(SQLAlchemyError):
            context.session.execute(text("INSERT INTO effects VALUES (NULL, NULL)"))
        return "all is well"

    row = bench.run(behave)
    if bench.database.path is None:
        assert (row["state"], row["error"]["code"], bench.effects(row)) == (State.QUEUED, "commit-failed", [])
    else:  # on SQLite the failure of one statement leaves its transaction whole
        assert (row["state"], bench.effects(row)) == (State.SUCCEEDED, ["done"])


def end(context: Context, how: str) -> str:
    write_effect(context)
    getattr(context.session, how)()
    return "all is well"


@pytest.mark.parametrize("how", ["rollback", "close", "commit", "invalidate"])
def test_a_handler_that_ends_its_session_itself_fails_the_attempt_and_harms_no_other(bench: Bench, how: str):
    row = bench.run(lambda context: end(context, how))
    assert (row["state"], row["attempt"], row["error"]["code"]) == (State.QUEUED, 3, "commit-failed")
    assert bench.effects(row) == (["done"] if how == "commit" else [])
    assert bench.run(write_effect)["state"] == State.SUCCEEDED


def test_sessions_are_given_back_however_attempts_end(bench: Bench):
    def fails(context: Context) -> NoReturn:
        write_effect(context)
        raise ValueError("x")

    for _ in range(40):  # more than there are connections
        bench.run(fails)
    assert bench.run(write_effect)["state"] == State.SUCCEEDED


# Checkpoints


def test_a_checkpoint_is_there_at_the_next_attempt(bench: Bench, database: Database):
    found: list[Any] = []

    def behave(context: Context) -> str:
        found.append(context.last_checkpoint)
        context.checkpoint({"row": 10 + len(found)})
        assert context.last_checkpoint == {"row": 10 + len(found)}
        if len(found) < 3:
            raise RetryLater(timedelta(0))
        return "done"

    ref = bench.plant(behave, queue="checkpoints")
    for _ in range(3):
        bench.executor.run([ref])
        claimed = database.run(lambda s: moves.claim(s, "checkpoints", 0, 1, timedelta(seconds=60)))
        ref = claimed[0].ref if claimed else ref
    assert found == [None, {"row": 11}, {"row": 12}]
    assert bench.row(ref)["state"] == State.SUCCEEDED


def test_a_checkpoint_is_committed_when_it_returns_whatever_follows(bench: Bench):
    def behave(context: Context) -> NoReturn:
        context.checkpoint([1])
        raise Permanent("over")

    assert bench.run(behave)["checkpoint"] == [1]


def test_a_checkpoint_is_refused_once_the_lease_is_lost(bench: Bench, database: Database):
    went_on: list[int] = []

    def behave(context: Context) -> None:
        take_away(database, ref)
        context.checkpoint("from the grave")
        went_on.append(1)

    ref = bench.plant(behave, queue=TAKEN_AWAY)
    bench.executor.run([ref])
    row = bench.row(ref)
    assert went_on == []
    assert (row["state"], row["checkpoint"], row["lease"]) == (State.RUNNING, None, ref.lease + 1)


@pytest.mark.parametrize("value", [object(), "x" * 65_536, float("inf"), {1: 2}])
def test_a_checkpoint_that_cannot_be_kept_fails_the_attempt(bench: Bench, value: Any):
    row = bench.run(lambda context: context.checkpoint(value))
    assert (row["state"], row["checkpoint"]) == (State.QUEUED, None)


def test_a_checkpoint_beside_an_open_session(bench: Bench):
    def behave(context: Context) -> None:
        write_effect(context)
        context.checkpoint(1)

    row = bench.run(behave)
    if bench.database.path is None:
        assert (row["state"], row["checkpoint"], bench.effects(row)) == (State.SUCCEEDED, 1, ["done"])
    else:
        assert (row["state"], bench.effects(row)) == (State.QUEUED, [])
        assert "one writer" in row["error"]["message"]


# A database that is away, or whose answer was lost


def test_a_start_whose_answer_was_lost_is_found_and_run_once(database: Database):
    forgetful, ran = LosesAnswers(database), []
    bench = Bench(forgetful)
    ref = bench.plant(lambda _context: ran.append(1))
    before = counted("jobmill_stale_total", move="start")
    forgetful.times = 1
    bench.executor.run([ref])
    row = bench.row(ref)
    assert forgetful.times == 0
    assert ran == [1]
    assert (row["state"], row["attempt"]) == (State.SUCCEEDED, 3)
    assert counted("jobmill_stale_total", move="start") == before


@pytest.mark.parametrize(
    ("behave", "state", "events"),
    [
        (lambda _: 1, State.SUCCEEDED, []),
        (raising(ValueError("x")), State.QUEUED, ["retry"]),
        (raising(Permanent("x")), State.DEAD, ["bury"]),
        (raising(Snooze(timedelta(hours=1))), State.QUEUED, ["snooze"]),
    ],
    ids=["success", "failure", "permanent", "snooze"],
)
def test_a_finish_whose_answer_was_lost_is_known_for_done_and_not_for_stale(
    database: Database, behave: Any, state: State, events: list[str]
):
    forgetful = LosesAnswers(database)
    bench = Bench(forgetful)

    def then_forget(context: Context) -> Any:
        forgetful.times = 1
        return behave(context)

    before = counted("jobmill_stale_total", move="finish")
    row = bench.run(then_forget)
    assert forgetful.times == 0
    assert row["state"] == state
    assert [event["move"] for event in bench.history(row)] == events
    assert counted("jobmill_stale_total", move="finish") == before


def test_a_cancellation_between_two_attempts_whose_answer_was_lost_is_known_for_done(database: Database):
    forgetful = LosesAnswers(database)
    bench = Bench(forgetful)

    def behave(context: Context) -> None:
        database.run(lambda session: moves.cancel(session, [context.job_id], "tester"))
        forgetful.times = 1
        raise ValueError("x")

    stale, stopped = counted("jobmill_stale_total", move="finish"), counted("jobmill_moves_total", move="stop")
    row = bench.run(behave)
    assert forgetful.times == 0
    assert (row["state"], [entry["move"] for entry in bench.history(row)]) == (State.CANCELLED, ["cancel", "stop"])
    assert counted("jobmill_stale_total", move="finish") == stale
    assert counted("jobmill_moves_total", move="stop") - stopped == 1


class LosesOneTransaction(LosesAnswers):
    """The handler's transaction: its COMMIT's answer is lost, and the COMMIT with it unless it `arrives`."""

    arrives = True

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with super().transaction() as session:
            yield session
            if self.times and not self.arrives:
                self.times -= 1
                raise Unavailable("lost before COMMIT")
        if self.times:
            self.times -= 1
            raise Unavailable("lost after COMMIT")


@pytest.mark.parametrize("arrives", [True, False])
def test_a_handlers_own_commit_whose_answer_was_lost_is_looked_up(database: Database, arrives: bool):
    forgetful = LosesOneTransaction(database)
    forgetful.arrives = arrives
    bench = Bench(forgetful)

    def behave(context: Context) -> str:
        write_effect(context)
        forgetful.times = 1
        return "written"

    before = counted("jobmill_stale_total", move="finish")
    row = bench.run(behave)
    assert counted("jobmill_stale_total", move="finish") == before
    if arrives:
        assert (row["state"], bench.effects(row), bench.history(row)) == (State.SUCCEEDED, ["done"], [])
    else:
        # A database that goes away is no failure of the handler: the attempt is given back.
        assert (row["state"], row["attempt"], row["error"], bench.effects(row)) == (State.QUEUED, 2, None, [])


@pytest.mark.parametrize("often", [False, True])
def test_a_database_that_is_lost_under_a_handlers_session_is_no_failure_of_its_unless_it_comes_to_that_again_and_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, often: bool
):
    busy = sqlite3.OperationalError("busy")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY

    def refuse(*_: Any) -> NoReturn:
        raise OperationalError("UPDATE jobs", {}, busy)

    def behave(context: Context) -> str:
        write_effect(context)
        if bench.database.path is None:
            backend = context.session.scalar(text("SELECT pg_backend_pid()"))
            bench.database.run(
                lambda session: session.scalar(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
            )
        else:
            monkeypatch.setattr(moves, "succeed", refuse)
        return "written"

    if often:
        monkeypatch.setattr(recorder_module, "MOST_LOST_COMMITS", 0)
    row = bench.run(behave)
    told = (3, "commit-failed") if often else (2, None)
    assert (row["state"], row["attempt"], row["error"] and row["error"]["code"]) == (State.QUEUED, *told)
    assert bench.effects(row) == []


def test_a_database_that_stays_away_at_the_start_leaves_the_job_where_it_was(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    class Away(LosesAnswers):
        def _once(self, opened: Any, step: Any) -> NoReturn:
            raise Unavailable("away")

    monkeypatch.setattr("models.database.RETRIED_FOR", timedelta(0))
    monkeypatch.setattr(Database.run_single, "__defaults__", (timedelta(seconds=0.1),))
    ran: list[int] = []
    bench = Bench(database)
    ref = bench.plant(lambda _context: ran.append(1))
    cut_off = Bench(Away(database))
    cut_off.executor.run([ref])  # raises nothing, or Dramatiq's thread would end
    assert ran == []
    assert bench.row(ref)["state"] == State.DISPATCHED
    assert cut_off.executor.in_hand.wait_until_empty(0)
    bench.executor.run([ref])
    assert ran == [1]


def test_a_message_of_which_one_job_is_there_is_of_a_job(bench: Bench):
    ref = bench.plant(lambda _context: 1)
    assert bench.executor.run([Ref(new_id(), 1), ref])
    assert bench.executor.run([Ref(new_id(), 1), ref])  # it is done, and there
    assert bench.row(ref)["state"] == State.SUCCEEDED


def test_a_message_that_cannot_be_judged_is_not_put_aside(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def away(*_: Any) -> Any:
        raise RuntimeError("no answer")

    monkeypatch.setattr(bench.executor, "_any_is_there", away)
    assert bench.executor.run([Ref(new_id(), 1)])
