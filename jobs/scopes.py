"""What a principal may do: scopes, the roles that bundle them, and who a request acts for."""

from dataclasses import dataclass
from enum import StrEnum
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


@dataclass(frozen=True)
class Principal:
    """Whom a request acts for. Without a tenant: an operator of the whole installation."""

    key_id: str
    tenant_id: UUID | None
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether this principal holds the scope."""
        return scope in self.scopes

    @property
    def actor(self) -> str:
        """How history names this principal."""
        return f"key:{self.key_id}"
