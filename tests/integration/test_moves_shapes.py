"""The table refuses rows that no move could have made; generated from SHAPES."""

from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models.dialect import SQLITE, dialect_of
from models.ids import new_id
from models.job import jobs
from models.states import SHAPES, State
from tests.factories import ago, job_in

FILLED: dict[str, Any] = {
    "dispatched_at": ago(),
    "lease_expires_at": ago(),
    "started_at": ago(),
    "finished_at": ago(),
    "cancel_requested_at": ago(),
    "worker_id": new_id(),
    "result": {"rows": 1},
    "error": {"type": "Boom"},
}
MISSING = [(state, column) for state, shape in SHAPES.items() for column in shape.present]
FORBIDDEN = [(state, column) for state, shape in SHAPES.items() for column in shape.absent]
LEASED = [State.DISPATCHED, State.RUNNING, State.SUCCEEDED, State.DEAD, State.DISCARDED]


def _refused(session: Session, state: State, constraint: str, **columns: Any) -> None:
    with pytest.raises(IntegrityError, match=rf"\b{constraint}\b"), session.begin_nested():
        job_in(session, state, **columns)


def test_every_state_has_a_shape() -> None:
    assert set(SHAPES) == set(State)


def test_no_shape_contradicts_itself() -> None:
    assert not any(set(shape.present) & set(shape.absent) for shape in SHAPES.values())


@pytest.mark.parametrize("state", State)
def test_a_coherent_row_is_accepted(session: Session, state: State) -> None:
    job_in(session, state)


@pytest.mark.parametrize(("state", "column"), MISSING)
def test_a_row_without_a_column_of_its_state_is_refused(session: Session, state: State, column: str) -> None:
    _refused(session, state, f"jobs_shape_{state}", **{column: None})


@pytest.mark.parametrize(("state", "column"), FORBIDDEN)
def test_a_row_with_a_column_of_another_state_is_refused(session: Session, state: State, column: str) -> None:
    _refused(session, state, f"jobs_shape_{state}", **{column: FILLED[column]})


@pytest.mark.parametrize(("state", "column"), MISSING)
def test_no_update_takes_a_column_of_its_state_away(session: Session, state: State, column: str) -> None:
    ref = job_in(session, state)

    with pytest.raises(IntegrityError, match=f"jobs_shape_{state}"), session.begin_nested():
        session.execute(update(jobs).where(jobs.c.id == ref.id).values({column: None}))


@pytest.mark.parametrize("state", LEASED)
def test_only_a_job_that_was_never_claimed_may_be_without_a_lease(session: Session, state: State) -> None:
    _refused(session, state, "jobs_leased", lease=0)


@pytest.mark.parametrize(
    ("constraint", "columns"),
    [
        ("jobs_priority", {"priority": 101}),
        ("jobs_priority", {"priority": -101}),
        ("jobs_counters", {"attempt": -1}),
        ("jobs_counters", {"lost": -1}),
        ("jobs_counters", {"lease": -1}),
        ("jobs_bounds", {"max_attempts": 0}),
        ("jobs_bounds", {"timeout_seconds": 0}),
    ],
)
def test_a_value_out_of_bounds_is_refused(session: Session, constraint: str, columns: dict[str, Any]) -> None:
    _refused(session, State.QUEUED, constraint, **columns)


def test_a_state_that_is_none_is_refused(session: Session) -> None:
    ref = job_in(session, State.QUEUED)

    with pytest.raises(IntegrityError, match="jobs_state"), session.begin_nested():
        session.execute(update(jobs).where(jobs.c.id == ref.id).values(state="waiting"))


def test_a_job_of_a_tenant_that_is_not_there_is_refused(session: Session) -> None:
    refused = "FOREIGN KEY" if dialect_of(session) == SQLITE else "fk_jobs_tenant_id"
    with pytest.raises(IntegrityError, match=refused), session.begin_nested():
        job_in(session, State.QUEUED, tenant_id=new_id())
