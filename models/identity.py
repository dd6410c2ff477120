"""Tenants, their API keys, and the installation's own secret: tables and every statement over them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    bindparam,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

from models.dialect import UtcTime, dialect_of, held, held_alike, insert_or_ignore, now, seconds_from_now
from models.ids import new_id
from models.schema import metadata
from models.tenancy import of_tenant
from setting_forms import OWN_TENANT_NAME

OWN_TENANT = UUID(int=0)
MOST_WEIGHT = 1000

tenants = Table(
    "tenants",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    # Of several tenants whose jobs wait in one queue, one with twice the weight gets twice the share.
    Column("weight", Integer, nullable=False, server_default=text("1")),
    CheckConstraint("weight >= 1", name="weight"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    # A platform key has no tenant: it is for operators of the whole installation.
    Column("tenant_id", Uuid, ForeignKey("tenants.id")),
    Column("name", Text, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime),
    # The limits of this key, by class of route, where they are not the installation's.
    Column("rate_limits", JSON(none_as_null=True)),
    # A UUIDv7 by which lists go on.
    Column("position", Uuid, nullable=False),
    Index("api_keys_page", "tenant_id", "position"),
)

installation = Table(
    "installation",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)


@dataclass(frozen=True)
class Tenant:
    """Whom jobs and keys belong to; nothing of one is visible to another."""

    id: UUID
    name: str
    created_at: datetime
    weight: int = 1


@dataclass(frozen=True)
class ApiKey:
    """An API key as it is kept: the secret only as its hash. Lists go on by `position`."""

    id: str
    tenant_id: UUID | None
    name: str
    scopes: tuple[str, ...]
    secret_hash: bytes
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = None
    rate_limits: Mapping[str, str] | None = None
    position: UUID = field(default_factory=new_id)


def ensure_tenant(session: Session, name: str) -> tuple[Tenant, bool]:
    """The tenant of that name, and whether it was made just now."""
    values = {"id": new_id(), "name": name, "created_at": now()}
    made = session.scalar(insert_or_ignore(dialect_of(session), tenants).values(values).returning(tenants.c.id))
    found = find_tenant(session, name)
    if found is None:
        raise LookupError(f"tenant {name!r} was neither made nor found")
    return found, made is not None


def own_tenant(session: Session) -> UUID:
    """Whose the jobs of the installation itself are; its name finds it for nobody, and is no other's."""
    values = {"id": OWN_TENANT, "name": OWN_TENANT_NAME, "created_at": now()}
    session.execute(insert_or_ignore(dialect_of(session), tenants).values(values))
    return OWN_TENANT


def find_tenant(session: Session, name: str) -> Tenant | None:
    """The tenant of that name, if there is one."""
    found = select(tenants).where(tenants.c.name == name, tenants.c.id != OWN_TENANT)
    row = session.execute(found).mappings().one_or_none()
    return Tenant(**row) if row else None


def hold_tenant(session: Session, tenant_id: UUID) -> None:
    """Let nobody else who does this go on until the transaction ends; jobs and all else may be added meanwhile."""
    session.execute(held_alike(select(tenants.c.id).where(tenants.c.id == tenant_id), dialect_of(session)))


def list_tenants(session: Session, limit: int = 1000) -> list[Tenant]:
    """The first `limit` tenants by name."""
    found = select(tenants).where(tenants.c.id != OWN_TENANT).order_by(tenants.c.name).limit(limit)
    return [Tenant(**row) for row in session.execute(found).mappings()]


def weigh_tenant(session: Session, name: str, weight: int) -> tuple[Tenant, Tenant] | None:
    """Give a tenant another weight; gives the tenant before and after, None if there is none of that name."""
    known = held(select(tenants).where(tenants.c.name == name, tenants.c.id != OWN_TENANT), dialect_of(session))
    row = session.execute(known).mappings().one_or_none()
    if row is None:
        return None
    before = Tenant(**row)
    session.execute(update(tenants).where(tenants.c.id == before.id).values(weight=weight))
    return before, replace(before, weight=weight)


def add_key(session: Session, key: ApiKey) -> bool:
    """Keep a key; False if its id is taken, in which case nothing changed."""
    values = {**vars(key), "scopes": list(key.scopes), "created_at": now()}
    return (
        session.scalar(insert_or_ignore(dialect_of(session), api_keys).values(values).returning(api_keys.c.id))
        is not None
    )


def replace_key_secret(session: Session, key_id: str, secret_hash: bytes, scopes: Sequence[str]) -> None:
    """Give an unrevoked key another hash and scopes: the bootstrap key follows its setting."""
    session.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(secret_hash=secret_hash, scopes=list(scopes))
    )


# Every request asks this, so it is built once.
_KEY = tuple(api_keys.c[known.name] for known in fields(ApiKey))
_USABLE_KEYS = select(*_KEY).where(
    api_keys.c.id.in_(bindparam("key_ids", expanding=True)),
    api_keys.c.revoked_at.is_(None),
    api_keys.c.expires_at.is_(None) | (api_keys.c.expires_at > now()),
)


def find_key(session: Session, key_id: str) -> ApiKey | None:
    """The unrevoked, unexpired key of that id."""
    return find_keys(session, [key_id]).get(key_id)


def find_keys(session: Session, key_ids: Collection[str]) -> dict[str, ApiKey]:
    """Those of the keys that are unrevoked and unexpired, by their ids."""
    # Past the session, which has nothing to add to a statement over a table and takes its time for that.
    rows = session.connection().execute(_USABLE_KEYS, {"key_ids": sorted(set(key_ids))}).mappings()
    return {row["id"]: _key(row) for row in rows}


def find_any_key(session: Session, key_id: str, tenant_id: UUID | None) -> ApiKey | None:
    """The key of that id, revoked and expired ones too, if it is of that tenant (None: any)."""
    query = select(*_KEY).where(api_keys.c.id == key_id, of_tenant(api_keys.c.tenant_id, tenant_id))
    row = session.execute(query).mappings().one_or_none()
    return _key(row) if row else None


def list_keys(
    session: Session, tenant_id: UUID | None = None, limit: int = 1000, before: UUID | None = None
) -> list[ApiKey]:
    """The newest `limit` keys, of one tenant or of all, older than the one at the position `before`."""
    position = api_keys.c.position
    query = select(*_KEY).where(of_tenant(api_keys.c.tenant_id, tenant_id)).order_by(position.desc()).limit(limit)
    if before is not None:
        query = query.where(position < before)
    return [_key(row) for row in session.execute(query).mappings()]


def list_expiring(session: Session, within: timedelta, limit: int) -> list[ApiKey]:
    """The unrevoked keys of anybody that expire within that time, the next first."""
    c = api_keys.c
    soon = (c.revoked_at.is_(None), c.expires_at > now(), c.expires_at <= seconds_from_now(within.total_seconds()))
    query = select(*_KEY).where(*soon).order_by(c.expires_at).limit(limit)
    return [_key(row) for row in session.execute(query).mappings()]


def revoke_key(session: Session, key_id: str, tenant_id: UUID | None = None) -> bool:
    """Make a key worthless from now on; False if there is no such unrevoked key of that tenant (None: any)."""
    c = api_keys.c
    unrevoked = (c.id == key_id, c.revoked_at.is_(None), of_tenant(c.tenant_id, tenant_id))
    revoked = session.execute(update(api_keys).where(*unrevoked).values(revoked_at=now()))
    return bool(revoked.rowcount)  # type: ignore[attr-defined]


def touch_keys(session: Session, key_ids: Collection[str], at_most_every: timedelta) -> None:
    """Say that the keys were used just now, unless that was said lately."""
    last = api_keys.c.last_used_at
    lately = last > seconds_from_now(-at_most_every.total_seconds())
    unsaid = (api_keys.c.id.in_(key_ids), last.is_(None) | ~lately)
    session.execute(update(api_keys).where(*unsaid).values(last_used_at=now()))


def installation_secret(session: Session) -> bytes:
    """The 32 random bytes that were made with the database."""
    secret: bytes = session.execute(select(installation.c.value).where(installation.c.name == "secret")).scalar_one()
    return secret


def _key(row: Any) -> ApiKey:
    return ApiKey(**{**row, "scopes": tuple(row["scopes"])})
