"""Every read but that of lists (lists.py): one function a question. None of them grows with finished jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Text, cast, func, select
from sqlalchemy.orm import Session

from models.dialect import now, seconds_from_now
from models.job import JOB_COLUMNS, Job, JobEvent, Ref, as_job, columns_without, in_state, job_events, jobs
from models.moves import Started
from models.states import LIVE, LOSSES_UNTIL_ALONE, Move, State
from models.tenancy import of_tenant

_c = jobs.c
_EVENT = tuple(job_events.c[field.name] for field in fields(JobEvent))
_SIGN = ("state", "lease", "attempt", "due_at", "cancel_requested_at", "progress_percent", "progress_message")
Sign = tuple[Any, ...]


@dataclass(frozen=True)
class Ended:
    """A job that succeeded: its type, when its last attempt was due and when it ended; and the database's clock."""

    type: str
    due_at: datetime
    finished_at: datetime
    now: datetime


@dataclass(frozen=True)
class Signal:
    """What the database has to say to a running attempt."""

    lease: int
    cancel_requested: bool


def find_job(
    session: Session, job_id: UUID, tenant_id: UUID | None, *, without: frozenset[str] = frozenset()
) -> Job | None:
    """The job, if it is there and of that tenant (None: any), `without` some of DOCUMENTS."""
    query = select(*columns_without(without)).where(_c.id == job_id)
    return _first_job(session, query.where(of_tenant(_c.tenant_id, tenant_id)))


def find_by_ids(
    session: Session, tenant_id: UUID | None, ids: Sequence[UUID], *, without: frozenset[str] = frozenset()
) -> dict[UUID, Job]:
    """Those of the jobs that are there and of that tenant (None: any), `without` some of DOCUMENTS."""
    query = select(*columns_without(without)).where(_c.id.in_(ids), of_tenant(_c.tenant_id, tenant_id))
    return {job.id: job for job in map(as_job, session.execute(query).mappings())}


def signs(session: Session, ids: Sequence[UUID]) -> dict[UUID, Sign]:
    """What tells of each of those jobs that are there whether it has changed since it was read."""
    query = select(_c.id, *(_c[name] for name in _SIGN)).where(_c.id.in_(ids))
    return {job_id: tuple(sign) for job_id, *sign in session.execute(query)}


def sign_of(job: Job) -> Sign:
    """The sign of a job as it was read."""
    return tuple(getattr(job, name) for name in _SIGN)


def find_by_idempotency_keys(
    session: Session, tenant_id: UUID, keys: Sequence[str], *, without: frozenset[str] = frozenset()
) -> dict[str, tuple[Job, bytes | None]]:
    """The jobs that were recorded under those keys, each with the hash of the request that made it."""
    known = select(*columns_without(without), _c.request_hash)
    query = known.where(of_tenant(_c.tenant_id, tenant_id), _c.idempotency_key.in_(keys))
    rows = [dict(row) for row in session.execute(query).mappings()]
    hashes = [row.pop("request_hash") for row in rows]
    return {row["idempotency_key"]: (as_job(row), told) for row, told in zip(rows, hashes, strict=True)}


def known_idempotency_keys(session: Session, tenant_id: UUID, keys: Sequence[str]) -> set[str]:
    """Those of the keys under which a job is recorded."""
    known = select(_c.idempotency_key)
    return set(session.scalars(known.where(of_tenant(_c.tenant_id, tenant_id), _c.idempotency_key.in_(keys))))


def document_lengths(session: Session, ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many characters the args and result of those jobs have together, as JSON."""
    length = func.coalesce(func.length(cast(_c.args, Text)), 0) + func.coalesce(func.length(cast(_c.result, Text)), 0)
    return {row.id: row[1] for row in session.execute(select(_c.id, length).where(_c.id.in_(ids)))}


def find_unparsed(session: Session, ids: Sequence[UUID]) -> dict[UUID, Job]:
    """Those of the jobs that are there, args and result as JSON texts, which nobody who passes them on need read."""
    texts = [
        cast(column, Text).label(column.name) if column.name in {"args", "result"} else column for column in JOB_COLUMNS
    ]
    rows = session.execute(select(*texts).where(_c.id.in_(ids))).mappings()
    return {job.id: job for job in map(as_job, rows)}


def find_unique_holders(session: Session, tenant_id: UUID, job_type: str, keys: Sequence[str]) -> dict[str, UUID]:
    """Those of a type's unique keys that are held, each with the unfinished job that holds it."""
    query = select(_c.unique_key, _c.id).where(
        of_tenant(_c.tenant_id, tenant_id), _c.type == job_type, _c.unique_key.in_(keys), in_state(*LIVE)
    )
    return {row.unique_key: row.id for row in session.execute(query)}


def list_events(session: Session, job_id: UUID, before: UUID | None, limit: int) -> list[JobEvent]:
    """A job's history, newest first, entries older than `before`."""
    query = select(*_EVENT).where(job_events.c.job_id == job_id).order_by(job_events.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(job_events.c.id < before)
    rows = session.execute(query).mappings()
    return [JobEvent(**{**row, "state": State(row["state"])}) for row in rows]


def ended_lately(session: Session, limit: int) -> list[Ended]:
    """The jobs that succeeded last."""
    query = select(_c.type, _c.due_at, _c.finished_at, now().label("now"))
    succeeded = query.where(in_state(State.SUCCEEDED), _c.finished_at.is_not(None))
    return [Ended(*row) for row in session.execute(succeeded.order_by(_c.finished_at.desc()).limit(limit))]


def expired_claims(session: Session, limit: int) -> list[Ref]:
    """Claims whose time is over."""
    query = select(_c.id, _c.lease).where(in_state(State.DISPATCHED), _c.lease_expires_at < now())
    return _refs(session, query.order_by(_c.lease_expires_at).limit(limit))


def settled_claims(session: Session, queue: str, older_than: timedelta, limit: int) -> list[Ref]:
    """Claims of a queue whose message must have reached the broker by now, oldest first."""
    moment = seconds_from_now(-older_than.total_seconds())
    query = select(_c.id, _c.lease).where(in_state(State.DISPATCHED), _c.queue == queue, _c.dispatched_at < moment)
    return _refs(session, query.order_by(_c.dispatched_at).limit(limit))


def all_dispatched(session: Session, limit: int) -> list[Ref]:
    """Jobs that are on the broker and not begun."""
    return _refs(session, select(_c.id, _c.lease).where(in_state(State.DISPATCHED)).limit(limit))


def running_of(session: Session, worker_ids: Sequence[UUID], limit: int) -> list[Ref]:
    """The jobs those workers run."""
    query = select(_c.id, _c.lease).where(in_state(State.RUNNING), _c.worker_id.in_(worker_ids))
    return _refs(session, query.limit(limit))


def started_by(session: Session, refs: Sequence[Ref], worker_id: UUID) -> list[Started]:
    """Those of the jobs that this worker runs under exactly these leases."""
    wanted = [_c[name] for name in Started._fields]
    query = select(*wanted).where(
        in_state(State.RUNNING), _c.worker_id == worker_id, _c.id.in_([ref.id for ref in refs])
    )
    found = [Started(**row) for row in session.execute(query).mappings()]
    return [job for job in found if job.ref in set(refs)]


def lost_often(session: Session, refs: Sequence[Ref]) -> list[Ref]:
    """Those of the claims that are still good and whose jobs start only alone: one more loss would bury them."""
    query = select(_c.id, _c.lease).where(
        in_state(State.DISPATCHED), _c.lost >= LOSSES_UNTIL_ALONE, _c.id.in_([ref.id for ref in refs])
    )
    good = set(_refs(session, query))
    return [ref for ref in refs if ref in good]


def moves_because(session: Session, job_id: UUID, move: Move, reason: str) -> int:
    """How often a job made that move for that reason."""
    c = job_events.c
    query = select(func.count()).where(c.job_id == job_id, c.move == move, c.reason == reason)
    return session.scalars(query).one()


def moved_often(session: Session, ids: Sequence[UUID], move: Move, reason: str, times: int) -> set[UUID]:
    """Those of the jobs that made that move for that reason so many times at least."""
    c = job_events.c
    query = select(c.job_id).where(c.job_id.in_(ids), c.move == move, c.reason == reason).group_by(c.job_id)
    return set(session.scalars(query.having(func.count() >= times)))


def present(session: Session, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the ids that are a job's, in whatever state."""
    return set(session.scalars(select(_c.id).where(_c.id.in_(ids)))) if ids else set()


def signals(session: Session, worker_id: UUID) -> dict[UUID, Signal]:
    """For each job that worker runs: its lease and whether its cancellation was asked for."""
    query = select(_c.id, _c.lease, _c.cancel_requested_at).where(in_state(State.RUNNING), _c.worker_id == worker_id)
    return {row.id: Signal(row.lease, row.cancel_requested_at is not None) for row in session.execute(query)}


def states_of(session: Session, refs: Sequence[Ref]) -> dict[Ref, State]:
    """The present state of those jobs that are still under the same lease."""
    query = select(_c.id, _c.lease, _c.state).where(_c.id.in_([ref.id for ref in refs]))
    found = {Ref(row.id, row.lease): State(row.state) for row in session.execute(query)}
    return {ref: found[ref] for ref in refs if ref in found}


def ended_by(session: Session, ref: Ref, actor: str) -> Move | None:
    """The move off the straight path by which that actor ended the attempt under this lease, if it did."""
    c = job_events.c
    query = select(c.move).where(c.job_id == ref.id, c.lease == ref.lease, c.actor == actor).order_by(c.id.desc())
    move = session.scalar(query.limit(1))
    return None if move is None else Move(move)


def args_text(session: Session, job_id: UUID) -> str:
    """A job's arguments as they are kept, a JSON text."""
    return session.scalars(select(cast(_c.args, Text)).where(_c.id == job_id)).one()


def last_operation(session: Session, job_id: UUID) -> tuple[Move, str] | None:
    """What an operator did last with a dead job, and who it was."""
    c = job_events.c
    of_operators = c.move.in_((Move.EDIT, Move.REDRIVE, Move.DISCARD))
    query = select(c.move, c.actor).where(c.job_id == job_id, of_operators).order_by(c.id.desc()).limit(1)
    row = session.execute(query).one_or_none()
    return None if row is None else (Move(row.move), row.actor)


def _refs(session: Session, query: Select[Any]) -> list[Ref]:
    return [Ref(row.id, row.lease) for row in session.execute(query)]


def _first_job(session: Session, query: Select[Any]) -> Job | None:
    row = session.execute(query).mappings().one_or_none()
    return as_job(row) if row else None
