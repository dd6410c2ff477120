"""What single moves promise beyond the matrix: claims, starts, retries, rescues, redrives and pruning."""

from datetime import timedelta

import pytest
from orjson import loads
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from models import moves, queries, reports
from models.dead_groups import dead_figures, dead_groups
from models.fingerprint import fingerprint
from models.ids import new_id
from models.job import Ref, job_events, jobs
from models.moves import Ending
from models.reports import Report
from models.states import FINAL, LIVE, LOSSES_UNTIL_DEAD, Move, State
from tests.factories import LEASE, ago, history_of, insert_jobs, job_in, jobs_in, new_job, row_of, tenant_id_of
from tests.factories import columns_in as columns

WORKER = new_id()
ACTOR = "tester"
ERROR = '{"type": "Boom"}'
EXPIRY = timedelta(seconds=30)


def _claim(session: Session, queue: str = "default", priority: int = 0, limit: int = 100) -> list[Ref]:
    return [moved.ref for moved in moves.claim(session, queue, priority, limit, EXPIRY)]


def _seconds_until(session: Session, ref: Ref, column: str) -> float:
    return -(ago() - row_of(session, ref)[column]).total_seconds()


# claim, release, start


def test_a_claim_takes_the_longest_due_first(session: Session) -> None:
    late, early, later = (job_in(session, State.QUEUED, due_at=ago(minutes=m)) for m in (5, 9, 1))

    assert [ref.id for ref in _claim(session, limit=1)] == [early.id]
    assert [ref.id for ref in _claim(session, limit=1)] == [late.id]
    assert [ref.id for ref in _claim(session, limit=1)] == [later.id]
    assert _claim(session) == []


def test_a_claim_takes_only_its_queue_and_priority(session: Session) -> None:
    mine = job_in(session, State.QUEUED, queue="media", priority=3)
    job_in(session, State.QUEUED, queue="media", priority=2)
    job_in(session, State.QUEUED, queue="default", priority=3)

    assert [ref.id for ref in _claim(session, "media", 3)] == [mine.id]


def test_a_claim_leaves_what_is_not_due(session: Session) -> None:
    job_in(session, State.QUEUED, due_at=ago(seconds=-5))

    assert _claim(session) == []


def test_a_claim_expires_after_the_time_it_was_given(session: Session) -> None:
    job_in(session, State.QUEUED)
    (claimed,) = _claim(session)

    assert 25 < _seconds_until(session, claimed, "lease_expires_at") <= 30
    assert abs(_seconds_until(session, claimed, "dispatched_at")) < 5


def test_a_worker_holding_an_older_claim_cannot_start_the_job(session: Session) -> None:
    job_in(session, State.QUEUED)
    (first,) = _claim(session)
    moves.release(session, [first])
    (second,) = _claim(session)

    assert second.lease == first.lease + 1
    assert moves.start(session, [first], WORKER) == []
    assert [started.ref for started in moves.start(session, [second], WORKER)] == [second]


def test_a_started_job_brings_all_that_its_handler_needs(session: Session) -> None:
    ref = job_in(
        session,
        State.DISPATCHED,
        args={"b": 1, "a": [1e22, "ü"]},
        checkpoint={"row": 7},
        tags={"team": "blue"},
        request_id="req-1",
        traceparent="00-a-b-01",
        tracestate="a=1",
    )

    (started,) = moves.start(session, [ref], WORKER)

    row = row_of(session, ref)
    assert started._asdict() == {name: row[name] for name in started._fields}
    assert list(started.args) == ["b", "a"]
    assert row["worker_id"] == WORKER


# succeed, retry, snooze, interrupt, bury


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("[1, 1e22]", [1, 1e22]),
        ('{"b": {"a": "ü"}}', {"b": {"a": "ü"}}),
        ('"x"', "x"),
        ("0", 0),
        ("1.0", 1.0),
    ],
)
def test_a_result_is_read_as_it_was_written(session: Session, text: str, value: object) -> None:
    ref = job_in(session, State.RUNNING)

    moves.succeed(session, [Ending(ref, result=text)])

    result = row_of(session, ref)["result"]
    assert (result, type(result)) == (value, type(value))


def test_each_job_of_a_set_gets_its_own_result(session: Session) -> None:
    refs = jobs_in(session, State.RUNNING, 5)

    moves.succeed(session, [Ending(ref, result=str(number)) for number, ref in enumerate(refs)])

    assert [row_of(session, ref)["result"] for ref in refs] == [0, 1, 2, 3, 4]


def test_success_clears_the_error_of_earlier_attempts(session: Session) -> None:
    ref = job_in(session, State.RUNNING, error={"type": "Boom"})

    moves.succeed(session, [Ending(ref, result="1")])

    assert row_of(session, ref)["error"] is None


def test_each_retry_waits_its_own_delay_and_shows_its_error(session: Session) -> None:
    soon, late = jobs_in(session, State.RUNNING, 2)

    moves.retry(
        session, [Ending(soon, error='"a"', delay_seconds=1.5), Ending(late, error='"b"', delay_seconds=600)], ACTOR
    )

    assert 0 < _seconds_until(session, soon, "due_at") <= 1.5
    assert 595 < _seconds_until(session, late, "due_at") <= 600
    assert (row_of(session, soon)["error"], row_of(session, late)["error"]) == ("a", "b")


def test_a_snoozed_job_waits_its_delay(session: Session) -> None:
    ref = job_in(session, State.RUNNING)

    moves.snooze(session, [Ending(ref, delay_seconds=60)], ACTOR)

    assert 55 < _seconds_until(session, ref, "due_at") <= 60


@pytest.mark.parametrize("move", [Move.RELEASE, Move.INTERRUPT, Move.RESCUE])
def test_a_job_that_is_taken_back_keeps_its_place_before_those_that_came_later(session: Session, move: Move) -> None:
    ref = job_in(session, State.DISPATCHED if move is Move.RELEASE else State.RUNNING, due_at=ago(minutes=9))
    job_in(session, State.QUEUED, due_at=ago(minutes=5))
    due_at = row_of(session, ref)["due_at"]

    if move is Move.RELEASE:
        moves.release(session, [ref])
    elif move is Move.INTERRUPT:
        moves.interrupt(session, [Ending(ref)], ACTOR)
    else:
        moves.rescue(session, [Ending(ref, error=ERROR)], ACTOR)

    assert row_of(session, ref)["due_at"] == due_at
    assert [again.id for again in _claim(session, limit=1)] == [ref.id]


@pytest.mark.parametrize("move", [moves.snooze, moves.interrupt], ids=lambda move: move.__name__)
def test_any_number_of_snoozes_costs_no_attempt(session: Session, move: object) -> None:
    ref = job_in(session, State.QUEUED, due_at=ago(minutes=1))
    for _ in range(5):
        (ref,) = _claim(session)
        moves.start(session, [ref], WORKER)
        assert move(session, [Ending(ref)], ACTOR)  # type: ignore[operator]

    assert row_of(session, ref)["attempt"] == 0


@pytest.mark.parametrize(("text", "value"), [('{"row": 7}', {"row": 7}), ("7", 7), ("null", None)])
def test_a_checkpoint_survives_to_the_next_attempt(session: Session, text: str, value: object) -> None:
    ref = job_in(session, State.RUNNING)
    assert reports.write_checkpoint(session, ref, text)
    moves.retry(session, [Ending(ref, error=ERROR)], ACTOR)

    (ref,) = _claim(session)
    (started,) = moves.start(session, [ref], WORKER)

    assert started.checkpoint == value


# reports are fenced too


@pytest.mark.parametrize("state", [state for state in State if state != State.RUNNING])
def test_only_a_running_job_takes_reports(session: Session, state: State) -> None:
    ref = job_in(session, state)
    before = row_of(session, ref)

    assert not reports.write_checkpoint(session, ref, "1")
    reports.write_progress(session, [Report(ref, 50, "half")])

    assert row_of(session, ref) == before


@pytest.mark.parametrize("off_by", [-1, 1])
def test_a_stale_worker_s_reports_change_nothing(session: Session, off_by: int) -> None:
    ref = job_in(session, State.RUNNING)
    before = row_of(session, ref)
    stale = Ref(ref.id, ref.lease + off_by)

    assert not reports.write_checkpoint(session, stale, "1")
    reports.write_progress(session, [Report(stale, 50, "half")])

    assert row_of(session, ref) == before


def test_each_job_shows_its_own_progress(session: Session) -> None:
    first, second = jobs_in(session, State.RUNNING, 2)

    reports.write_progress(session, [Report(first, 12.5, "rows"), Report(second, 100, None)])

    rows = [row_of(session, ref) for ref in (first, second)]
    assert [(row["progress_percent"], row["progress_message"]) for row in rows] == [(12.5, "rows"), (100, None)]


@pytest.mark.parametrize("state", State)
def test_only_a_dispatched_job_s_claim_is_renewed(session: Session, state: State) -> None:
    ref = job_in(session, state)
    before = row_of(session, ref)

    reports.renew_claims(session, [ref], timedelta(hours=5))
    reports.renew_claims(session, [Ref(ref.id, ref.lease + 1)], timedelta(hours=9))

    if state == State.DISPATCHED:
        assert 17_900 < _seconds_until(session, ref, "lease_expires_at") <= 18_000
    else:
        assert row_of(session, ref) == before


@pytest.mark.parametrize("state", State)
def test_a_claim_that_is_kept_counts_as_dispatched_now(session: Session, state: State) -> None:
    ref = job_in(session, state)
    before = row_of(session, ref)

    assert not reports.keep_claim(session, Ref(ref.id, ref.lease + 1), timedelta(hours=9))
    assert reports.keep_claim(session, ref, timedelta(hours=5)) == (state == State.DISPATCHED)

    if state == State.DISPATCHED:
        assert 17_900 < _seconds_until(session, ref, "lease_expires_at") <= 18_000
        assert -5 < _seconds_until(session, ref, "dispatched_at") <= 0
    else:
        assert row_of(session, ref) == before


# rescue


def _lose(session: Session, error: str = ERROR) -> State:
    (ref,) = _claim(session)
    moves.start(session, [ref], WORKER, alone=True)
    (rescued,) = moves.rescue(session, [Ending(ref, error=error, reason="SIGKILL")], ACTOR)
    return rescued.state


def test_a_job_that_kills_its_worker_again_and_again_is_dead_without_having_used_an_attempt(session: Session) -> None:
    ref = job_in(session, State.QUEUED)

    fates = [_lose(session) for _ in range(LOSSES_UNTIL_DEAD)]

    row = row_of(session, ref)
    assert fates == [State.QUEUED] * (LOSSES_UNTIL_DEAD - 1) + [State.DEAD]
    assert (row["lost"], row["attempt"], row["error"]) == (LOSSES_UNTIL_DEAD, 0, {"type": "Boom"})
    assert [event["reason"] for event in history_of(session, ref)] == ["SIGKILL"] * LOSSES_UNTIL_DEAD


@pytest.mark.parametrize("lost", range(LOSSES_UNTIL_DEAD))
def test_a_job_that_one_more_loss_would_bury_starts_only_alone(session: Session, lost: int) -> None:
    ref = job_in(session, State.DISPATCHED, lost=lost)

    if lost + 1 == LOSSES_UNTIL_DEAD:
        assert moves.start(session, [ref], WORKER) == []
        assert row_of(session, ref)["state"] == State.DISPATCHED
        assert moves.start(session, [Ref(ref.id, ref.lease - 1)], WORKER, alone=True) == []
    assert [started.ref for started in moves.start(session, [ref], WORKER, alone=True)] == [ref]


def test_a_rescued_job_tells_how_it_was_lost(session: Session) -> None:
    ref = job_in(session, State.RUNNING, error={"type": "Earlier"})

    moves.rescue(session, [Ending(ref, error=ERROR)], ACTOR)

    assert row_of(session, ref)["error"] == {"type": "Boom"}


# What died of what, and how many did


BOOM = '{"type": "Boom", "message": "no column 17", "place": "acme.reports:monthly"}'
BANG = '{"type": "Bang"}'


def _counts(session: Session) -> list[tuple[str, str, int]]:
    """Queue, what the group's jobs died of, and how many the group counts."""
    c = dead_groups.c
    names = {fingerprint(loads(error)): loads(error)["type"] for error in (BOOM, BANG)}
    found = session.execute(select(c.queue, c.fingerprint, func.sum(c.count)).group_by(c.queue, c.fingerprint))
    return sorted((queue, names[of], count) for queue, of, count in found)


def _dead_of(session: Session, error: str, how_many: int = 1, queue: str = "default") -> list[Ref]:
    refs = jobs_in(session, State.RUNNING, how_many, queue=queue)
    moves.bury(session, [Ending(ref, error=error) for ref in refs], ACTOR)
    return refs


def test_a_burial_says_of_what_in_the_same_statement(session: Session) -> None:
    (ref,) = _dead_of(session, BOOM)

    row = row_of(session, ref)
    assert (row["error_type"], row["fingerprint"]) == ("Boom", fingerprint(loads(BOOM)))


def test_a_loss_says_of_what_only_where_it_is_the_last(session: Session) -> None:
    living = job_in(session, State.RUNNING)
    dying = job_in(session, State.RUNNING, lost=LOSSES_UNTIL_DEAD - 1)
    cancelled = job_in(session, State.RUNNING, lost=LOSSES_UNTIL_DEAD - 1, cancel_requested_at=ago(minutes=1))

    moves.rescue(session, [Ending(ref, error=BOOM) for ref in (living, dying, cancelled)], ACTOR)

    told = [row_of(session, ref)["error_type"] for ref in (living, dying, cancelled)]
    assert told == [None, "Boom", None]
    assert _counts(session) == [("default", "Boom", 1)]


def test_the_dead_are_counted_by_queue_and_by_what_they_died_of(session: Session) -> None:
    _dead_of(session, BOOM, 3)
    _dead_of(session, BANG)
    _dead_of(session, BOOM, 2, queue="media")

    assert _counts(session) == [("default", "Bang", 1), ("default", "Boom", 3), ("media", "Boom", 2)]


def test_whatever_takes_a_job_from_the_dead_counts_it_down(session: Session) -> None:
    redriven, discarded, deleted, _ = _dead_of(session, BOOM, 4)

    moves.redrive(session, [redriven], ACTOR)
    moves.discard(session, [discarded], ACTOR)
    session.execute(delete(jobs).where(jobs.c.id == deleted.id))
    assert _counts(session) == [("default", "Boom", 1)]

    moves.prune(session, State.DISCARDED, timedelta(0), 10)
    assert _counts(session) == [("default", "Boom", 1)]
    moves.prune(session, State.DEAD, timedelta(0), 10)
    assert _counts(session) == []


def test_an_edit_of_args_that_are_others_by_now_changes_nothing(session: Session) -> None:
    """Else of two who edit at once, one would write over what he never saw."""
    (ref,) = _dead_of(session, BOOM)
    assert moves.edit(session, ref, '{"value":1}', '{"value":2}', ACTOR, "first")

    assert moves.edit(session, ref, '{"value":1}', '{"value":3}', ACTOR, "second") == []
    assert row_of(session, ref)["args"] == {"value": 2}
    assert [event["reason"] for event in history_of(session, ref)][1:] == ["first"]


def test_a_job_that_dies_again_of_something_else_is_of_that_group(session: Session) -> None:
    (ref,) = _dead_of(session, BOOM)
    moves.redrive(session, [ref], ACTOR)
    (ref,) = _claim(session)
    moves.start(session, [ref], WORKER)

    moves.bury(session, [Ending(ref, error=BANG)], ACTOR)

    assert _counts(session) == [("default", "Bang", 1)]


def test_a_dead_row_that_is_changed_by_hand_is_counted_where_it_is_then(session: Session) -> None:
    (ref,) = _dead_of(session, BOOM)
    session.execute(update(jobs).where(jobs.c.id == ref.id).values(queue="media"))
    assert _counts(session) == [("media", "Boom", 1)]
    session.execute(update(jobs).where(jobs.c.id == ref.id).values(fingerprint=None))
    assert _counts(session) == []


def test_the_figures_tell_how_many_of_a_type_are_dead_in_a_queue_and_since_when(session: Session) -> None:
    oldest = ago(hours=3)
    for queue, job_type, at in (
        ("default", "a", ago(hours=1)),
        ("default", "a", oldest),
        ("default", "b", ago()),
        ("media", "a", ago()),
    ):
        job_in(session, State.DEAD, queue=queue, type=job_type, finished_at=at)

    figures = dead_figures(session)

    assert [(figure.queue, figure.type, figure.count) for figure in figures] == [
        ("default", "a", 2),
        ("default", "b", 1),
        ("media", "a", 1),
    ]
    assert figures[0].oldest_at == oldest


def test_a_stale_worker_cannot_finish_a_rescued_job(session: Session) -> None:
    ref = job_in(session, State.RUNNING)
    moves.rescue(session, [Ending(ref, error=ERROR)], ACTOR)
    (again,) = _claim(session)
    moves.start(session, [again], WORKER)

    assert moves.succeed(session, [Ending(ref, result="1")]) == []
    assert moves.bury(session, [Ending(ref, error=ERROR)], ACTOR) == []
    assert [moved.id for moved in moves.succeed(session, [Ending(again, result="2")])] == [ref.id]


# cancel


def test_a_running_job_is_asked_to_stop_once(session: Session) -> None:
    ref = job_in(session, State.RUNNING)

    assert moves.cancel(session, [ref.id], "first")
    assert moves.cancel(session, [ref.id], "second") == []
    assert [event["actor"] for event in history_of(session, ref)] == ["first"]


def test_a_job_that_succeeds_although_it_was_asked_to_stop_has_succeeded(session: Session) -> None:
    ref = job_in(session, State.RUNNING, cancel_requested_at=ago(minutes=1))

    assert moves.succeed(session, [Ending(ref, result="1")])


def test_a_cancelled_claim_cannot_be_started(session: Session) -> None:
    ref = job_in(session, State.DISPATCHED)
    moves.cancel(session, [ref.id], ACTOR)

    assert moves.start(session, [ref], WORKER) == []


# redrive


def test_a_redriven_job_has_fresh_attempts_and_keeps_its_history(session: Session) -> None:
    ref = job_in(session, State.RUNNING, lost=2, attempt=5, progress_percent=40, progress_message="rows")
    moves.bury(session, [Ending(ref, error=ERROR, reason="permanent")], ACTOR)

    moves.redrive(session, [ref], "operator", "mended")

    row = row_of(session, ref)
    assert (row["attempt"], row["lost"], row["progress_percent"], row["progress_message"]) == (0, 0, None, None)
    assert [event["move"] for event in history_of(session, ref)] == [Move.BURY, Move.REDRIVE]


def test_a_job_that_was_asked_to_stop_and_died_can_be_redriven(session: Session) -> None:
    ref = job_in(session, State.DEAD, cancel_requested_at=ago(minutes=1))

    assert moves.redrive(session, [ref], ACTOR)


@pytest.mark.parametrize("state", LIVE)
def test_a_dead_job_whose_unique_key_is_held_stays_dead(session: Session, state: State) -> None:
    job_in(session, state, unique_key="customer-42")
    held, free = (job_in(session, State.DEAD, unique_key=key) for key in ("customer-42", "customer-43"))

    assert [job.id for job in moves.redrive(session, [held, free], ACTOR)] == [free.id]
    assert history_of(session, held) == []


@pytest.mark.parametrize("state", FINAL)
def test_a_finished_job_holds_no_key_against_a_redrive(session: Session, state: State) -> None:
    job_in(session, state, unique_key="customer-42")
    dead = job_in(session, State.DEAD, unique_key="customer-42")

    assert moves.redrive(session, [dead], ACTOR)


@pytest.mark.parametrize("of", [{"type": "demo.sleep"}, {"tenant": "other"}], ids=["another type", "another tenant"])
def test_a_key_of_another_type_or_tenant_does_not_stop_a_redrive(session: Session, of: dict[str, str]) -> None:
    other = {"tenant_id": tenant_id_of(session, "other")} if "tenant" in of else of
    job_in(session, State.QUEUED, unique_key="customer-42", **other)
    dead = job_in(session, State.DEAD, unique_key="customer-42")

    assert moves.redrive(session, [dead], ACTOR)


def test_of_dead_jobs_that_share_a_key_the_oldest_is_redriven(session: Session) -> None:
    first, second, third = jobs_in(session, State.DEAD, 3, unique_key="customer-42")

    assert [job.id for job in moves.redrive(session, [third, first, second], ACTOR)] == [first.id]


def test_a_dead_job_outside_the_set_does_not_stop_a_redrive(session: Session) -> None:
    _outside, inside = jobs_in(session, State.DEAD, 2, unique_key="customer-42")

    assert [job.id for job in moves.redrive(session, [inside], ACTOR)] == [inside.id]


def test_a_stale_entry_of_the_set_does_not_stop_the_redrive_of_its_twin(session: Session) -> None:
    first, second = jobs_in(session, State.DEAD, 2, unique_key="customer-42")

    moved = moves.redrive(session, [Ref(first.id, LEASE - 1), second], ACTOR)

    assert [job.id for job in moved] == [second.id]


def test_dead_jobs_without_a_key_are_all_redriven(session: Session) -> None:
    refs = jobs_in(session, State.DEAD, 3)

    assert len(moves.redrive(session, refs, ACTOR)) == 3


# prune


@pytest.mark.parametrize("state", FINAL)
def test_prune_takes_one_state_only(session: Session, state: State) -> None:
    refs = {other: job_in(session, other) for other in State}

    assert moves.prune(session, state, timedelta(minutes=5), limit=100) == 1
    assert _left(session) == {ref.id for other, ref in refs.items() if other != state}


def test_prune_keeps_what_is_younger_than_its_retention(session: Session) -> None:
    job_in(session, State.SUCCEEDED, finished_at=ago(days=31))
    young = job_in(session, State.SUCCEEDED, finished_at=ago(days=29))

    assert moves.prune(session, State.SUCCEEDED, timedelta(days=30), limit=100) == 1
    assert _left(session) == {young.id}


def test_prune_takes_the_oldest_first_and_no_more_than_its_limit(session: Session) -> None:
    tenant_id = tenant_id_of(session)
    ages = [3, 9, 5, 7, 4]
    refs = insert_jobs(session, [columns(State.DEAD, tenant_id, finished_at=ago(days=days)) for days in ages])

    assert moves.prune(session, State.DEAD, timedelta(days=1), limit=2) == 2
    assert _left(session) == {ref.id for ref, days in zip(refs, ages, strict=True) if days < 7}


def test_a_pruned_job_takes_its_history_along_and_leaves_that_of_others(session: Session) -> None:
    old, other = jobs_in(session, State.DEAD, 2)
    moves.discard(session, [old, other], ACTOR)
    moves.redrive(session, [job_in(session, State.DEAD)], ACTOR)

    assert moves.prune(session, State.DISCARDED, timedelta(0), limit=1) == 1

    assert session.execute(select(func.count()).select_from(job_events)).scalar_one() == 2


def test_a_pruned_job_s_keys_can_be_used_again(session: Session) -> None:
    job_in(session, State.SUCCEEDED, idempotency_key="k1")
    moves.prune(session, State.SUCCEEDED, timedelta(0), limit=1)

    assert moves.record(session, [new_job(session, idempotency_key="k1")])
    assert queries.find_by_idempotency_keys(session, tenant_id_of(session), ["k1"])


def _left(session: Session) -> set[object]:
    return set(session.scalars(select(jobs.c.id)))
