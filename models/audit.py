"""The audit log: who changed what, and from where. Rows are only ever added; the tables themselves refuse the rest."""

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Index, Table, Text, Uuid, select
from sqlalchemy.orm import Session

from models.dialect import Document, UtcTime, dialect_of, insert_or_ignore, now
from models.schema import metadata
from models.tenancy import of_tenant

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("at", UtcTime, nullable=False),
    # Whose thing was changed; NULL where that is the installation's. No foreign key: the log outlives what it tells of.
    Column("tenant_id", Uuid),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("resource_id", Text),
    Column("address", Text),
    Column("request_id", Text),
    Column("detail", Document),
    Index("audit_log_page", "tenant_id", "id"),
)
_c = audit_log.c


@dataclass(frozen=True)
class Entry:
    """One change. `actor` is `key:<id>`, `subject:<who>` or `cli:<user>@<host>`; `detail` holds no secret.

    The database writes a time of its own.
    """

    id: UUID
    tenant_id: UUID | None
    actor: str
    action: str
    resource: str
    resource_id: str | None
    address: str | None
    request_id: str | None
    detail: Any = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def add(session: Session, entry: Entry) -> None:
    """Add an entry, at the database's time; one that is there already, of a try whose answer was lost, stays."""
    values = {**vars(entry), "at": now()}
    session.execute(insert_or_ignore(dialect_of(session), audit_log).values(values))


def list_entries(session: Session, tenant_id: UUID | None, before: UUID | None, limit: int) -> list[Entry]:
    """The tenant's entries (None: all), newest first, those older than the id `before`."""
    wanted = [_c[known.name] for known in fields(Entry)]
    query = select(*wanted).where(of_tenant(_c.tenant_id, tenant_id)).order_by(_c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(_c.id < before)
    return [Entry(**row) for row in session.execute(query).mappings()]
