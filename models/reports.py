"""What a running attempt writes besides its moves: progress and checkpoints, fenced by lease like every move."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from uuid import UUID

from sqlalchemy import Update, bindparam, select, update
from sqlalchemy.orm import Session

from models.dialect import dialect_of, document, given, looked_up, now, rows_parameter, seconds_from_now
from models.job import Ref, jobs, still_in
from models.states import State

_c = jobs.c


@dataclass(frozen=True)
class Report:
    """How far a running job is, `percent` in [0, 100]."""

    ref: Ref
    percent: float
    message: str | None


def write_progress(session: Session, reports: Sequence[Report]) -> None:
    """Keep the progress of those jobs that still run under their lease."""
    rows = [
        {"id": report.ref.id, "lease": report.ref.lease, "percent": report.percent, "message": report.message}
        for report in reports
    ]
    session.execute(_progress(dialect_of(session)), rows_parameter(rows))


@cache
def _progress(dialect: str) -> Update:
    rows = given(dialect, id=UUID, lease=int, percent=float, message=str)
    asked = select(given(dialect, "asked", id=UUID).c.id)
    return (
        update(jobs)
        .where(_c.id == rows.c.id, looked_up(dialect, _c.id, asked), _c.lease == rows.c.lease, still_in(State.RUNNING))
        .values(progress_percent=rows.c.percent, progress_message=rows.c.message)
    )


def write_checkpoint(session: Session, ref: Ref, value: str) -> bool:
    """Keep a checkpoint (a JSON text); False if the lease is lost, in which case nothing changed."""
    statement = _checkpoint(dialect_of(session))
    return session.execute(statement, {"of_id": ref.id, "of_lease": ref.lease, "value": value}).rowcount > 0  # type: ignore[attr-defined,no-any-return]


@cache
def _checkpoint(dialect: str) -> Update:
    return (
        update(jobs)
        .where(_c.id == bindparam("of_id"), _c.lease == bindparam("of_lease"), still_in(State.RUNNING))
        .values(checkpoint=document(bindparam("value"), dialect))
    )


def forget_losses(session: Session, ref: Ref) -> None:
    """Say that a running job did no harm to its worker for a while: it is not what took down those before."""
    unharmed = update(jobs).where(_c.id == ref.id, _c.lease == ref.lease, still_in(State.RUNNING), _c.lost > 0)
    session.execute(unharmed.values(lost=0))


def renew_claims(session: Session, refs: Sequence[Ref], expires_after: timedelta) -> None:
    """Give claims more time whose messages are known to wait on the broker."""
    rows = rows_parameter([{"id": job_id, "lease": lease} for job_id, lease in refs])
    session.execute(_renewal(dialect_of(session)), {**rows, "seconds": expires_after.total_seconds()})


@cache
def _renewal(dialect: str) -> Update:
    rows = given(dialect, id=UUID, lease=int)
    asked = select(given(dialect, "asked", id=UUID).c.id)
    return (
        update(jobs)
        .where(
            _c.id == rows.c.id, looked_up(dialect, _c.id, asked), _c.lease == rows.c.lease, still_in(State.DISPATCHED)
        )
        .values(lease_expires_at=seconds_from_now(bindparam("seconds")))
    )


def keep_claim(session: Session, ref: Ref, expires_after: timedelta) -> bool:
    """Say that a claim's message is with a worker that will begin it soon; False if the claim is no longer good.

    It counts as dispatched just now: of an older one, whose message is not on the broker, *reconcile* thinks it lost.
    """
    statement = _keeping(dialect_of(session))
    told = {"of_id": ref.id, "held_lease": ref.lease, "seconds": expires_after.total_seconds()}
    return session.execute(statement, told).rowcount > 0  # type: ignore[attr-defined,no-any-return]


@cache
def _keeping(_dialect: str) -> Update:
    return (
        update(jobs)
        .where(_c.id == bindparam("of_id"), _c.lease == bindparam("held_lease"), still_in(State.DISPATCHED))
        .values(dispatched_at=now(), lease_expires_at=seconds_from_now(bindparam("seconds")))
    )
