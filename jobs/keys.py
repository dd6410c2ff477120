"""What a client may do with API keys: make, read and revoke those of its tenant, and grant no more than it has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from jobs import api_keys
from jobs.api_keys import Minted
from jobs.scopes import Principal, Scope
from models import identity
from models.identity import ApiKey

_KEY_ID = re.compile(r"[A-Za-z0-9]{1,32}")


class NoSuchKey(LookupError):  # noqa: N818
    """There is no key of that id, or it is another tenant's, which is the same to whoever asks."""


class GrantsTooMuch(Exception):  # noqa: N818
    """The new key would be worth more than the one it is made with; the message says in what."""


class NoSuchTenant(LookupError):  # noqa: N818
    """There is no tenant of that name."""


@dataclass(frozen=True)
class NewKey:
    """A key as it was asked for. `token` is made once, so that a step done twice makes one key."""

    name: str
    scopes: frozenset[Scope]
    expires_at: datetime | None
    token: str
    rate_limits: Mapping[str, str] | None = None


def create(session: Session, pepper: bytes, maker: Principal, new: NewKey, tenant_id: UUID | None) -> Minted:
    """Make a key. Raises GrantsTooMuch; ValueError if it would have expired already."""
    _refuse_more(maker, new)
    return api_keys.create_key(
        session,
        pepper,
        tenant_id=tenant_id,
        name=new.name,
        scopes=new.scopes,
        expires_at=new.expires_at,
        rate_limits=new.rate_limits,
        token=new.token,
    )


def tenant_named(session: Session, name: str) -> UUID:
    """The tenant of that name. Raises NoSuchTenant."""
    tenant = identity.find_tenant(session, name)
    if tenant is None:
        raise NoSuchTenant(f"There is no tenant {name!r}.")
    return tenant.id


def find(session: Session, principal: Principal, key_id: str) -> ApiKey:
    """The key, revoked or not. Raises NoSuchKey."""
    key = identity.find_any_key(session, key_id, principal.tenant_id) if _KEY_ID.fullmatch(key_id) else None
    if key is None:
        raise NoSuchKey(f"There is no key {key_id[:64]!r}.")
    return key


def revoke(session: Session, principal: Principal, key_id: str) -> ApiKey:
    """Make the key worthless, if it is not that already. Raises NoSuchKey."""
    key = find(session, principal, key_id)
    identity.revoke_key(session, key.id, principal.tenant_id)
    return key


def _refuse_more(maker: Principal, new: NewKey) -> None:
    if beyond := sorted(new.scopes - maker.scopes):
        raise GrantsTooMuch(f"A key grants no more than it has, and yours lacks {', '.join(beyond)}.")
    if maker.expires_at is not None and (new.expires_at is None or new.expires_at > maker.expires_at):
        raise GrantsTooMuch(f"A key makes none that outlives it, and yours expires at {maker.expires_at:%FT%TZ}.")
