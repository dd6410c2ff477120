"""Rows for tests, coherent for the state they are in, without walking a job through its moves."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from models import identity
from models.database import Database
from models.fingerprint import error_type, fingerprint
from models.ids import new_id
from models.job import NewJob, Ref, job_events, jobs
from models.states import SHAPES, State

TENANT = "default"
LEASE = 3
DIED = {State.DEAD, State.DISCARDED}
_numbers = count(1)


def unique(name: str) -> str:
    """A name that no other test of this run uses."""
    return f"{name}-{next(_numbers)}"


def tenant_id_of(session: Session, name: str = TENANT) -> UUID:
    return identity.ensure_tenant(session, name)[0].id


def ago(**duration: float) -> datetime:
    return datetime.now(UTC) - timedelta(**duration)


def columns_in(state: State, tenant_id: UUID, **columns: Any) -> dict[str, Any]:
    """Every column of a job in that state: what its shape demands is there, what it forbids is not."""
    possible = {
        "dispatched_at": ago(minutes=30),
        "lease_expires_at": ago(minutes=-30),
        "started_at": ago(minutes=20),
        "worker_id": new_id(),
        "finished_at": ago(minutes=10),
        "cancel_requested_at": ago(minutes=15),
        "error": {"type": "ValueError", "message": "as planted"},
    }
    fixed = {
        "id": new_id(),
        "tenant_id": tenant_id,
        "type": "demo.echo",
        "queue": "default",
        "state": state,
        "priority": 0,
        "args": {"value": 1},
        "attempt": 0 if state == State.QUEUED else 2,
        "max_attempts": 5,
        "lost": 0,
        "timeout_seconds": 60,
        "lease": LEASE,
        "created_at": ago(hours=1),
        "due_at": ago(minutes=40),
        "tags": {},
    }
    absent = dict.fromkeys(set(jobs.c.keys()) - set(fixed))
    present = {name: possible[name] for name in SHAPES[state].present}
    made = absent | fixed | present | columns
    if state in DIED:  # what the moves that took it there have written of its error
        made |= {"error_type": error_type(made["error"]), "fingerprint": fingerprint(made["error"])}
    return made | columns


def job_in(session: Session, state: State, **columns: Any) -> Ref:
    """A job in that state, of the tenant `default` unless told otherwise, under lease 3."""
    return jobs_in(session, state, 1, **columns)[0]


def jobs_in(session: Session, state: State, how_many: int, **columns: Any) -> list[Ref]:
    tenant_id = columns.pop("tenant_id", None) or tenant_id_of(session)
    return insert_jobs(session, [columns_in(state, tenant_id, **columns) for _ in range(how_many)])


def insert_jobs(session: Session, rows: Sequence[dict[str, Any]]) -> list[Ref]:
    for first in range(0, len(rows), 1000):  # each within the time that a statement has
        session.execute(insert(jobs), rows[first : first + 1000])
    return [Ref(row["id"], row["lease"]) for row in rows]


def new_job(session: Session, **fields: Any) -> NewJob:
    """A job to record."""
    told = {
        "id": new_id(),
        "tenant_id": fields.get("tenant_id") or tenant_id_of(session),
        "type": "demo.echo",
        "queue": "default",
        "args": {"value": 1},
        "priority": 0,
        "max_attempts": 5,
        "timeout_seconds": 60,
        "tags": {"team": "blue"},
    }
    return NewJob(**{**told, **fields})


def row_of(session: Session, ref: Ref | UUID) -> dict[str, Any]:
    """The job's row as it stands, every column."""
    job_id = ref.id if isinstance(ref, Ref) else ref
    return dict(session.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one())


def history_of(session: Session, ref: Ref | UUID) -> list[dict[str, Any]]:
    """The job's events, oldest first."""
    job_id = ref.id if isinstance(ref, Ref) else ref
    events = select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.id)
    return [dict(row) for row in session.execute(events).mappings()]


def blocked(database: Database) -> bool:
    """Whether someone waits for another's row."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with database.reading() as session:
        return session.execute(text(waiting)).scalar_one() > 0
