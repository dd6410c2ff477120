"""Webhook endpoints: where a tenant is told of its jobs' ends, and the secrets that such requests are signed with."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    Uuid,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Session

from models.dialect import Document, UtcTime, dialect_of, held, now, seconds_from_now
from models.schema import metadata
from models.tenancy import of_tenant, of_tenants

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenants.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Document(), nullable=False),
    Column("types", Document()),  # patterns of job types; NULL: all
    Column("description", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_reason", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Index("webhook_endpoints_page", "tenant_id", "id"),
)
webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenants.id"), nullable=False),
    # Without an endpoint it signs what goes to URLs that came with a job.
    Column("endpoint_id", Uuid, ForeignKey("webhook_endpoints.id", ondelete="CASCADE")),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("ends_at", UtcTime),
    Index("webhook_secrets_of", "tenant_id", "endpoint_id"),
)
_c = webhook_endpoints.c
_s = webhook_secrets.c


@dataclass(frozen=True)
class Endpoint:
    """An endpoint as it is; `types` are patterns such as `csv.*`, None: all."""

    id: UUID
    tenant_id: UUID
    url: str
    events: list[str]
    types: list[str] | None
    description: str
    enabled: bool
    disabled_reason: str | None
    created_at: datetime
    created_by: str


@dataclass(frozen=True)
class SealedSecret:
    """A secret as it is kept; it signs until `ends_at`, None: until it is rotated."""

    id: UUID
    sealed: bytes
    ends_at: datetime | None


_ENDPOINT = [_c[field.name] for field in fields(Endpoint)]


def add(session: Session, endpoint_id: UUID, tenant_id: UUID, **told: Any) -> None:
    """Keep a new endpoint; `told` are its further columns but its times."""
    session.execute(insert(webhook_endpoints).values(id=endpoint_id, tenant_id=tenant_id, created_at=now(), **told))


def find(session: Session, endpoint_id: UUID, tenant_id: UUID | None) -> Endpoint | None:
    """The endpoint, if it is there and of that tenant (None: any)."""
    return _first(session, select(*_ENDPOINT).where(_c.id == endpoint_id, of_tenant(_c.tenant_id, tenant_id)))


def hold(session: Session, endpoint_id: UUID, tenant_id: UUID | None) -> Endpoint | None:
    """The same; nobody else changes it until the transaction ends."""
    query = select(*_ENDPOINT).where(_c.id == endpoint_id, of_tenant(_c.tenant_id, tenant_id))
    return _first(session, held(query, dialect_of(session)))


def page(session: Session, tenant_id: UUID | None, before: UUID | None, limit: int) -> list[Endpoint]:
    """A tenant's endpoints (None: everybody's), newest first, older than `before`."""
    query = select(*_ENDPOINT).where(of_tenant(_c.tenant_id, tenant_id)).order_by(_c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(_c.id < before)
    return [Endpoint(**row) for row in session.execute(query).mappings()]


def count(session: Session, tenant_id: UUID, upto: int) -> int:
    """How many endpoints a tenant has, counted as far as `upto`."""
    return len(session.scalars(select(_c.id).where(of_tenant(_c.tenant_id, tenant_id)).limit(upto)).all())


def listening(session: Session, tenant_ids: Collection[UUID]) -> list[Endpoint]:
    """The enabled endpoints of those tenants."""
    query = select(*_ENDPOINT).where(of_tenants(_c.tenant_id, tenant_ids), _c.enabled).order_by(_c.id)
    return [Endpoint(**row) for row in session.execute(query).mappings()]


def change(session: Session, endpoint_id: UUID, **values: Any) -> None:
    """Change columns of an endpoint that is held."""
    session.execute(update(webhook_endpoints).where(_c.id == endpoint_id).values(**values))


def remove(session: Session, endpoint_id: UUID) -> None:
    """Delete an endpoint and its secrets; what was delivered to it stays."""
    session.execute(delete(webhook_endpoints).where(_c.id == endpoint_id))


def add_secret(session: Session, secret_id: UUID, tenant_id: UUID, endpoint_id: UUID | None, sealed: bytes) -> None:
    """Keep a secret that signs from now on."""
    row = {"id": secret_id, "tenant_id": tenant_id, "endpoint_id": endpoint_id, "sealed": sealed, "created_at": now()}
    session.execute(insert(webhook_secrets).values(row))


def secrets(session: Session, tenant_id: UUID, endpoint_id: UUID | None) -> list[SealedSecret]:
    """The secrets that sign now, newest first."""
    unended = _s.ends_at.is_(None) | (_s.ends_at > now())
    query = select(_s.id, _s.sealed, _s.ends_at).where(of_tenant(_s.tenant_id, tenant_id), _of(endpoint_id), unended)
    return [SealedSecret(*row) for row in session.execute(query.order_by(_s.id.desc()))]


def end_secrets(session: Session, tenant_id: UUID, endpoint_id: UUID | None, ends_in: timedelta) -> None:
    """Let each secret that has no end yet, or a later one, end then; those that ended before are forgotten."""
    mine = (of_tenant(_s.tenant_id, tenant_id), _of(endpoint_id))
    session.execute(delete(webhook_secrets).where(*mine, _s.ends_at <= now()))
    end = seconds_from_now(ends_in.total_seconds())
    session.execute(update(webhook_secrets).where(*mine, _s.ends_at.is_(None) | (_s.ends_at > end)).values(ends_at=end))


def forget_secrets(session: Session, ids: Sequence[UUID]) -> None:
    """Delete secrets."""
    session.execute(delete(webhook_secrets).where(_s.id.in_(ids)))


def _of(endpoint_id: UUID | None) -> Any:
    return _s.endpoint_id.is_(None) if endpoint_id is None else _s.endpoint_id == endpoint_id


def _first(session: Session, query: Any) -> Endpoint | None:
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else Endpoint(**row)
