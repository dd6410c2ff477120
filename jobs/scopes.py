"""What a principal may do: scopes, the roles that bundle them, and who a request acts for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID


class Scope(StrEnum):
    """One permission, as keys and tokens spell it."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    DEAD_LETTERS_READ = "dead_letters:read"
    DEAD_LETTERS_WRITE = "dead_letters:write"
    QUEUES_READ = "queues:read"
    QUEUES_WRITE = "queues:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    SCHEDULES_READ = "schedules:read"
    SCHEDULES_WRITE = "schedules:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    AUDIT_READ = "audit:read"


ALL_SCOPES = frozenset(Scope)

ROLES: dict[str, frozenset[Scope]] = {
    "submitter": frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}),
    "viewer": frozenset(scope for scope in Scope if scope.endswith(":read")),
    "operator": ALL_SCOPES - {Scope.KEYS_READ, Scope.KEYS_WRITE},
    "admin": ALL_SCOPES,
}


def role_of(scopes: Iterable[str]) -> str | None:
    """The role that bundles exactly these scopes."""
    named = set(scopes)
    return next((role for role, granted in ROLES.items() if granted == named), None)


_SCOPES: dict[str, Scope] = {scope.value: scope for scope in Scope}


def known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """The scopes among the names; one that a newer release granted means nothing here."""
    return frozenset(_SCOPES[name] for name in names if name in _SCOPES)


@dataclass(frozen=True)
class Principal:
    """Whom a request acts for. Without a tenant: an operator of the whole installation.

    Either a key, itself or by a token made with it, or a `subject` whom an outside issuer vouches for. `rate_limits`
    are its own, where they are not the installation's.
    """

    key_id: str | None
    tenant_id: UUID | None
    scopes: frozenset[Scope]
    subject: str | None = None
    expires_at: datetime | None = None
    rate_limits: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def may(self, scope: Scope) -> bool:
        """Whether this principal holds the scope."""
        return scope in self.scopes

    @property
    def actor(self) -> str:
        """How history names this principal."""
        return f"subject:{self.subject}" if self.key_id is None else f"key:{self.key_id}"
