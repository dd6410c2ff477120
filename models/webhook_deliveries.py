"""Webhook deliveries: what is sent to whom, frozen when it was told, and what was answered. Each is a job of its id."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Select,
    Table,
    Text,
    Uuid,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

from models import lineup
from models.dialect import UtcTime, now
from models.job import GATED_QUEUE, SHARE, Ref, jobs
from models.schema import metadata
from models.states import State
from models.tenancy import of_tenant

TYPE = "webhook.deliver"
PRIORITY = 0
MOST_ATTEMPTS = 10
TIMEOUT_SECONDS = 60
MOST_ANSWER_BYTES = 4096
MOST_BYTES_AT_ONCE = 4 * 1024 * 1024

_TELLS = text("job_id IS NOT NULL")
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    # It goes with its job, when the retention of that ends.
    Column("id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("endpoint_id", Uuid),  # NULL: to the URL that came with the job
    Column("url", Text),  # NULL: to where its endpoint is
    Column("event_id", Uuid, nullable=False),
    Column("event", Text, nullable=False),
    Column("job_id", Uuid),  # of whose end it tells
    Column("body", LargeBinary, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("answered_at", UtcTime),  # the last attempt's end, and what came of it
    Column("status_code", Integer),
    Column("answer", Text),
    Column("duration_ms", Integer),
    Column("failure", Text),
    Index("webhook_deliveries_of_endpoint", "tenant_id", "endpoint_id", "id"),
    # Without the tenant, whom a job that was pruned tells no more.
    Index("webhook_deliveries_by_job", "job_id", "id", sqlite_where=_TELLS, postgresql_where=_TELLS),
)
_c = webhook_deliveries.c


@dataclass(frozen=True)
class NewDelivery:
    """A delivery to record beside its job, which has the same id."""

    id: UUID
    tenant_id: UUID
    endpoint_id: UUID | None
    url: str | None
    event_id: UUID
    event: str
    job_id: UUID | None
    body: bytes


@dataclass(frozen=True)
class Delivery:
    """A delivery and where its job is; `body` is left out."""

    id: UUID
    tenant_id: UUID
    endpoint_id: UUID | None
    url: str | None
    event_id: UUID
    event: str
    job_id: UUID | None
    created_at: datetime
    answered_at: datetime | None
    status_code: int | None
    answer: str | None
    duration_ms: int | None
    failure: str | None
    state: State
    attempt: int
    max_attempts: int
    due_at: datetime
    lease: int


@dataclass(frozen=True)
class Answered:
    """What came of an attempt: a status with the first 4 KiB of the answer, or why there was none."""

    duration_ms: int
    status_code: int | None = None
    answer: str | None = None
    failure: str | None = None


_OF_JOB = ("state", "attempt", "max_attempts", "due_at", "lease")
_DELIVERY = [(jobs.c if field.name in _OF_JOB else _c)[field.name] for field in fields(Delivery)]


def add(session: Session, new: Sequence[NewDelivery]) -> None:
    """Keep deliveries whose jobs are recorded in the same transaction."""
    for some in _portions(new):
        session.execute(insert(webhook_deliveries).values(created_at=now()), [vars(one) for one in some])


def _portions(new: Sequence[NewDelivery]) -> Iterator[list[NewDelivery]]:
    """As many as one statement holds: a body has up to a megabyte, and a hundred endpoints may be told of it."""
    portion: list[NewDelivery] = []
    size = 0
    for one in new:
        if portion and size + len(one.body) > MOST_BYTES_AT_ONCE:
            yield portion
            portion, size = [], 0
        portion.append(one)
        size += len(one.body)
    if portion:
        yield portion


def find(session: Session, delivery_id: UUID, tenant_id: UUID | None) -> Delivery | None:
    """The delivery, if it is there and of that tenant (None: any)."""
    row = session.execute(_deliveries(tenant_id).where(_c.id == delivery_id)).mappings().one_or_none()
    return None if row is None else _delivery(row)


def page(
    session: Session,
    tenant_id: UUID | None,
    before: UUID | None,
    limit: int,
    *,
    endpoint_id: UUID | None = None,
    job_id: UUID | None = None,
) -> list[Delivery]:
    """Deliveries, all or those to an endpoint or of a job's end, newest first, older than `before`.

    Those of an endpoint are found by their tenant only.
    """
    query, place = _deliveries(tenant_id), _c.id
    if tenant_id is not None and endpoint_id is None and job_id is None:
        # Along the tenant's jobs of the type, which have an index in that order.
        query, place = query.where(of_tenant(jobs.c.tenant_id, tenant_id), jobs.c.type == TYPE), jobs.c.id
    query = query.order_by(place.desc()).limit(limit)
    if endpoint_id is not None:
        query = query.where(_c.endpoint_id == endpoint_id)
    if job_id is not None:
        query = query.where(_c.job_id == job_id)
    if before is not None:
        query = query.where(place < before)
    return [_delivery(row) for row in session.execute(query).mappings()]


def parcel(session: Session, delivery_id: UUID) -> NewDelivery | None:
    """What is to be sent, and to whom."""
    query = select(*(_c[field.name] for field in fields(NewDelivery))).where(_c.id == delivery_id)
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else NewDelivery(**row)


def keep_answer(session: Session, ref: Ref, answered: Answered) -> bool:
    """Keep what came of an attempt, if the job still runs under that lease."""
    runs = select(jobs.c.id).where(jobs.c.id == ref.id, jobs.c.lease == ref.lease, jobs.c.state == State.RUNNING)
    kept = (
        update(webhook_deliveries).where(_c.id.in_(runs.scalar_subquery())).values(answered_at=now(), **vars(answered))
    )
    return bool(session.execute(kept.returning(_c.id)).all())


def waiting_of(session: Session, endpoint_id: UUID, limit: int) -> list[UUID]:
    """Deliveries to an endpoint that wait, those first that are due longest."""
    # A redrive may have given them another priority, by which the index begins.
    used = [lane.priority for lane in lineup.lanes(session, GATED_QUEUE)]
    at_its_gate = (lineup.waits_in(GATED_QUEUE), SHARE.in_([endpoint_id]), jobs.c.priority.in_(used))
    return list(session.scalars(select(jobs.c.id).where(*at_its_gate).order_by(jobs.c.due_at).limit(limit)))


def _deliveries(tenant_id: UUID | None) -> Select[Any]:
    return select(*_DELIVERY).join(jobs, jobs.c.id == _c.id).where(of_tenant(_c.tenant_id, tenant_id))


def _delivery(row: Any) -> Delivery:
    return Delivery(**{**row, "state": State(row["state"])})
