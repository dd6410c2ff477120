"""API keys: minting them, recognising them, and the one that the settings bring.

A secret is 256 random bits, so a fast keyed hash is enough: there is nothing to guess that a slow one would
protect. The pepper keeps a stolen copy of the table from being of use where the two are stored apart.
"""

import hashlib
import hmac
import secrets
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy.orm import Session

from jobs.scopes import ROLES, Principal, Scope, known_scopes
from models import audit, identity
from models.audit import Entry
from models.identity import ApiKey
from models.ids import new_id
from setting_forms import API_KEY_FORM
from settings import Settings

DEFAULT_TENANT = "default"
BOOTSTRAP_NAME = "bootstrap"
ID_ALPHABET = string.ascii_lowercase + string.digits
ID_LENGTH = 12
# Letters and digits only, so that a double click selects the whole token; 43 of 62 are 256 bits.
SECRET_ALPHABET = string.ascii_letters + string.digits
SECRET_LENGTH = 43
LONGEST_TOKEN = len("jm_") + 32 + len("_") + 128

_NO_HASH = bytes(hashlib.sha256().digest_size)


class BootstrapKeyRefused(Exception):  # noqa: N818 - reads as the sentence it is
    """JOBMILL_BOOTSTRAP_API_KEY names a key id that cannot serve; the message says what to do."""


@dataclass(frozen=True)
class Minted:
    """A key just made, with its token: the only time it can be seen."""

    token: str = field(repr=False)
    key: ApiKey


def pepper(session: Session, settings: Settings) -> bytes:
    """What secrets are hashed with: JOBMILL_SECRET_KEY, else the secret made with the database."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    return identity.installation_secret(session)


def new_token() -> str:
    """A fresh random token, `jm_<key id>_<secret>`."""
    return f"jm_{_random(ID_ALPHABET, ID_LENGTH)}_{_random(SECRET_ALPHABET, SECRET_LENGTH)}"


def hash_secret(pepper: bytes, key_id: str, secret: str) -> bytes:
    """HMAC-SHA-256 over id and secret, so that one key's hash is worth nothing in another's row."""
    return hmac.digest(pepper, f"{key_id}_{secret}".encode(), "sha256")


def create_key(
    session: Session,
    pepper: bytes,
    *,
    tenant_id: UUID | None,
    name: str,
    scopes: Iterable[Scope],
    expires_at: datetime | None = None,
    rate_limits: Mapping[str, str] | None = None,
    token: str | None = None,
) -> Minted:
    """Make a key; without a tenant it is a platform key. Raises ValueError if it would have expired already.

    Whoever may have to try again, because the answer of the first try was lost, gives the same `token` each time.
    """
    while True:
        tried = token or new_token()
        key = _key(pepper, tried, tenant_id=tenant_id, name=name, scopes=scopes, expires_at=expires_at)
        if identity.add_key(session, replace(key, rate_limits=rate_limits)) or token:
            break
    kept = identity.find_key(session, key.id)
    if kept is None:
        raise ValueError(f"the key would have expired at {expires_at}, before it could be used")
    return Minted(tried, kept)


def authenticate(find: Callable[[str], ApiKey | None], pepper: bytes, token: str) -> Principal | None:
    """Whose token this is; None if it is malformed, unknown, expired or revoked.

    `find` gives the unrevoked, unexpired key of an id.
    """
    parts = _parse(token)
    if parts is None:
        return None
    key_id, secret = parts
    key = find(key_id)
    # Hashed and compared also for an unknown id, so that the time taken does not tell which ids exist.
    is_right = hmac.compare_digest(hash_secret(pepper, key_id, secret), key.secret_hash if key else _NO_HASH)
    if key is None or not is_right:
        return None
    return principal_of(key)


def principal_of(key: ApiKey) -> Principal:
    """Whom a request with this key acts for."""
    return Principal(
        key.id, key.tenant_id, known_scopes(key.scopes), expires_at=key.expires_at, rate_limits=key.rate_limits or {}
    )


def ensure_bootstrap_key(session: Session, pepper: bytes, token: str) -> ApiKey:
    """Make the token an admin key of tenant `default`; a known id gets the token's secret.

    Raises BootstrapKeyRefused if the id was revoked, which this does not undo, or belongs to another tenant.
    """
    tenant, _ = identity.ensure_tenant(session, DEFAULT_TENANT)
    wanted = _key(pepper, token, tenant_id=tenant.id, name=BOOTSTRAP_NAME, scopes=ROLES["admin"], expires_at=None)
    if identity.add_key(session, wanted):
        _tell(session, wanted, "create_key")
    kept = identity.find_key(session, wanted.id)
    if kept is None:
        raise BootstrapKeyRefused(_refusal(wanted.id, "was revoked or has expired, and stays so"))
    if kept.tenant_id != tenant.id:
        raise BootstrapKeyRefused(_refusal(wanted.id, f"exists outside tenant {DEFAULT_TENANT!r}"))
    if (kept.secret_hash, kept.scopes) == (wanted.secret_hash, wanted.scopes):
        return kept
    identity.replace_key_secret(session, wanted.id, wanted.secret_hash, wanted.scopes)
    _tell(session, wanted, "replace_key_secret")
    return identity.find_key(session, wanted.id) or kept


def _tell(session: Session, key: ApiKey, action: str) -> None:
    entry = Entry(new_id(), key.tenant_id, "setting:JOBMILL_BOOTSTRAP_API_KEY", action, "keys", key.id, None, None)
    audit.add(session, entry)


def _key(
    pepper: bytes,
    token: str,
    *,
    tenant_id: UUID | None,
    name: str,
    scopes: Iterable[Scope],
    expires_at: datetime | None,
) -> ApiKey:
    parts = _parse(token)
    if parts is None:
        raise ValueError("a token has the form jm_<key id>_<secret>")
    return ApiKey(
        id=parts[0],
        tenant_id=tenant_id,
        name=name,
        scopes=tuple(sorted(scope.value for scope in scopes)),
        secret_hash=hash_secret(pepper, *parts),
        created_at=datetime.now(UTC),  # the database writes its own
        expires_at=expires_at,
        revoked_at=None,
    )


def _parse(token: str) -> tuple[str, str] | None:
    if len(token) > LONGEST_TOKEN:
        return None
    form = API_KEY_FORM.fullmatch(token)
    return (form[1], form[2]) if form else None


def _refusal(key_id: str, why: str) -> str:
    return f"The key {key_id} of JOBMILL_BOOTSTRAP_API_KEY {why}. Set a key with another id, or unset it."


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
