"""Recording jobs: what is new goes in as queued, what is there already is left alone."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from models import moves, queries
from models.job import Job, jobs
from models.states import FINAL, LIVE, State
from tests.factories import ago, job_in, new_job, row_of, tenant_id_of


def ids_of(recorded: Iterable[Job]) -> set[UUID]:
    return {job.id for job in recorded}


def _count(session: Session) -> int:
    return session.execute(select(func.count()).select_from(jobs)).scalar_one()


def test_a_recorded_job_is_queued_with_everything_that_was_given(session: Session) -> None:
    job = new_job(
        session,
        args={"value": [1, 1e22, "ü", None, {"b": 1, "a": 2}]},
        priority=-7,
        unique_key="customer-42",
        idempotency_key="k1",
        request_hash=b"\x00\xff",
        request_id="req-1",
        traceparent="00-a-b-01",
        tracestate="a=1",
    )

    assert ids_of(moves.record(session, [job])) == {job.id}

    row = row_of(session, job.id)
    told = {name: value for name, value in vars(job).items() if name not in {"due_at", "delay_seconds"}}
    assert {name: row[name] for name in told} == told
    assert list(row["args"]["value"][4]) == ["b", "a"], "the order of members is the client's"
    assert (row["state"], row["attempt"], row["lost"], row["lease"]) == (State.QUEUED, 0, 0, 0)


@pytest.mark.parametrize("due_at", [None, datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)])
def test_a_recorded_job_is_told_as_it_will_be_read(session: Session, due_at: datetime | None) -> None:
    job = new_job(
        session,
        args={"value": [1, 1.0, 1e22, "ü", None]},
        tags={"longer": "1", "b": "2"},
        priority=-7,
        unique_key="customer-42",
        idempotency_key="k1",
        due_at=due_at,
    )

    (told,) = moves.record(session, [job])

    assert told == queries.find_job(session, job.id, job.tenant_id)


def test_of_two_jobs_with_one_id_the_one_that_was_recorded_is_told(session: Session) -> None:
    first = new_job(session, args={"value": "first"})
    second = new_job(session, id=first.id, args={"value": "second"})

    (told,) = moves.record(session, [first, second])

    assert told == queries.find_job(session, first.id, first.tenant_id)


def test_a_document_is_kept_in_the_bytes_that_orjson_gives_it(session: Session) -> None:
    job = new_job(session, args={"value": "ü"})
    moves.record(session, [job])

    assert session.scalar(select(cast(jobs.c.args, Text)).where(jobs.c.id == job.id)) == '{"value":"ü"}'


def test_a_job_without_a_delay_is_due_when_it_is_created(session: Session) -> None:
    job = new_job(session)
    moves.record(session, [job])

    row = row_of(session, job.id)
    assert abs(row["created_at"] - ago()) < timedelta(seconds=5)
    assert abs(row["due_at"] - row["created_at"]) < timedelta(milliseconds=50)


def test_a_delay_counts_from_the_database_s_clock(session: Session) -> None:
    job = new_job(session, delay_seconds=90.5)
    moves.record(session, [job])

    row = row_of(session, job.id)
    assert abs(row["due_at"] - row["created_at"] - timedelta(seconds=90.5)) < timedelta(milliseconds=50)


def test_a_due_time_that_is_given_wins_over_a_delay(session: Session) -> None:
    due_at = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    job = new_job(session, due_at=due_at, delay_seconds=5)
    moves.record(session, [job])

    assert row_of(session, job.id)["due_at"] == due_at


def test_each_job_of_a_set_has_its_own_due_time(session: Session) -> None:
    due_at = datetime(2031, 5, 6, tzinfo=UTC)
    now, later, fixed = new_job(session), new_job(session, delay_seconds=60), new_job(session, due_at=due_at)

    assert ids_of(moves.record(session, [now, later, fixed])) == {now.id, later.id, fixed.id}

    due = [row_of(session, job.id)["due_at"] for job in (now, later, fixed)]
    assert due == sorted(due)
    assert due[1] - due[0] > timedelta(seconds=59)
    assert due[2] == due_at


@pytest.mark.parametrize("state", State)
def test_an_idempotency_key_makes_one_job_whatever_became_of_it(session: Session, state: State) -> None:
    first = job_in(session, state, idempotency_key="k1")

    assert ids_of(moves.record(session, [new_job(session, idempotency_key="k1")])) == set()
    assert _count(session) == 1
    assert row_of(session, first)["state"] == state


def test_tenants_do_not_share_idempotency_keys(session: Session) -> None:
    job_in(session, State.QUEUED, idempotency_key="k1")
    other = new_job(session, tenant_id=tenant_id_of(session, "other"), idempotency_key="k1")

    assert ids_of(moves.record(session, [other])) == {other.id}


@pytest.mark.parametrize("state", LIVE)
def test_an_unfinished_job_holds_its_unique_key(session: Session, state: State) -> None:
    job_in(session, state, unique_key="customer-42")

    assert ids_of(moves.record(session, [new_job(session, unique_key="customer-42")])) == set()
    assert _count(session) == 1


@pytest.mark.parametrize("state", FINAL)
def test_a_finished_job_frees_its_unique_key(session: Session, state: State) -> None:
    job_in(session, state, unique_key="customer-42")
    again = new_job(session, unique_key="customer-42")

    assert ids_of(moves.record(session, [again])) == {again.id}


def test_a_unique_key_is_of_one_tenant_and_type(session: Session) -> None:
    job_in(session, State.QUEUED, unique_key="customer-42")
    others = [
        new_job(session, unique_key="customer-42", type="demo.sleep"),
        new_job(session, unique_key="customer-42", tenant_id=tenant_id_of(session, "other")),
    ]

    assert ids_of(moves.record(session, others)) == {job.id for job in others}


def test_of_two_jobs_in_one_set_with_the_same_key_the_first_is_recorded(session: Session) -> None:
    first, second, free = (
        new_job(session, idempotency_key="k1"),
        new_job(session, idempotency_key="k1"),
        new_job(session),
    )

    assert ids_of(moves.record(session, [first, second, free])) == {first.id, free.id}


def test_an_id_is_recorded_once(session: Session) -> None:
    job = new_job(session)

    assert ids_of(moves.record(session, [job, job])) == {job.id}
    assert ids_of(moves.record(session, [new_job(session, id=job.id, args={"value": "other"})])) == set()
    assert row_of(session, job.id)["args"] == job.args


def test_a_set_larger_than_one_statement_holds_is_recorded_whole(session: Session) -> None:
    many = [new_job(session) for _ in range(1500)]

    assert ids_of(moves.record(session, many)) == {job.id for job in many}
