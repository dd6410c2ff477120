"""How keys, tokens and the audit log look in JSON; what is done like this for all other records, documents.py does."""

from typing import Annotated, Any

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api import examples
from api.documents import Id, Instant, shown
from jobs.scopes import Scope, role_of
from models.audit import Entry
from models.documents import moment, moment_or_none
from models.identity import ApiKey


@with_config(shown(examples.KEY))
class KeyDocument(TypedDict):
    """An API key, without its secret."""

    id: str
    tenant_id: Annotated[Id | None, Field(description="Whose it is; null is a platform key.")]
    name: str
    role: Annotated[str | None, Field(description="The role that bundles exactly its scopes.")]
    scopes: list[Scope]
    rate_limits: Annotated[dict[str, str], Field(description="Its own, by class; else the installation's hold.")]
    created_at: Instant
    expires_at: Instant | None
    last_used_at: Annotated[Instant | None, Field(description="May be a minute old.")]
    revoked_at: Instant | None


@with_config(shown(examples.NEW_KEY))
class NewKeyDocument(KeyDocument):
    """An API key just made, with its secret, which is shown this once."""

    token: Annotated[str, Field(description="What to send as `Authorization: Bearer`.")]
    secret: Annotated[str, Field(description="The part of the token behind the id, for /oauth/token.")]


@with_config(shown(examples.TOKEN))
class TokenDocument(TypedDict):
    """A token for an API key."""

    access_token: str
    token_type: str
    expires_in: Annotated[int, Field(description="Seconds until it is worth nothing.")]
    scope: Annotated[str, Field(description="What it grants, with blanks between.")]


@with_config(shown(examples.AUDIT_ENTRY))
class AuditEntryDocument(TypedDict):
    """One change: who, what, which, from where, when."""

    id: Id
    at: Instant
    tenant_id: Annotated[Id | None, Field(description="Whose thing was changed; null if that is the installation's.")]
    actor: Annotated[str, Field(description="`key:<id>`, `subject:<issuer>#<who>` or `cli:<user>@<host>`.")]
    action: Annotated[str, Field(description="The operation, as `revoke_key`.")]
    resource: Annotated[str, Field(description="The kind of thing, as in its address: `keys`.")]
    resource_id: str | None
    address: Annotated[str | None, Field(description="The client's address; see JOBMILL_TRUSTED_PROXIES.")]
    request_id: str | None
    detail: Annotated[Any, Field(description="What else is worth knowing; never a secret.")]


class OAuthErrorDocument(TypedDict):
    """Why no token was given (RFC 6749, 5.2)."""

    error: str
    error_description: str


@with_config(shown(examples.KEY_SET))
class KeySetDocument(TypedDict):
    """The keys that tokens are signed with (RFC 7517)."""

    keys: list[dict[str, Any]]


@with_config(shown(examples.SERVER_METADATA))
class ServerMetadataDocument(TypedDict):
    """Where tokens are given, and how (RFC 8414)."""

    issuer: str
    token_endpoint: str
    jwks_uri: str
    grant_types_supported: list[str]
    response_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    scopes_supported: list[str]


def key_document(key: ApiKey) -> KeyDocument:
    """An API key, without its secret."""
    return {
        "id": key.id,
        "tenant_id": str(key.tenant_id) if key.tenant_id else None,
        "name": key.name,
        "role": role_of(key.scopes),
        "scopes": [scope for scope in Scope if scope in key.scopes],
        "rate_limits": dict(key.rate_limits or {}),
        "created_at": moment(key.created_at),
        "expires_at": moment_or_none(key.expires_at),
        "last_used_at": moment_or_none(key.last_used_at),
        "revoked_at": moment_or_none(key.revoked_at),
    }


def audit_entry_document(entry: Entry) -> AuditEntryDocument:
    """An entry of the audit log."""
    return {
        "id": str(entry.id),
        "at": moment(entry.at),
        "tenant_id": str(entry.tenant_id) if entry.tenant_id else None,
        "actor": entry.actor,
        "action": entry.action,
        "resource": entry.resource,
        "resource_id": entry.resource_id,
        "address": entry.address,
        "request_id": entry.request_id,
        "detail": entry.detail,
    }
