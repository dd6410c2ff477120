"""Every change by a request is told in the audit log, in the same transaction and by construction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flask import g, request
from sqlalchemy.orm import Session

from api.origin import client_address
from jobs.scopes import Principal
from models import audit
from models.audit import Entry
from models.ids import new_id


@dataclass(frozen=True)
class Change:
    """What was changed by an operation: which thing, and whose, if not of who changed it."""

    action: str
    resource_id: str | None
    tenant_id: UUID | None
    detail: Mapping[str, Any] | None


def tell(session: Session, entry_id: UUID, principal: Principal, change: Change) -> None:
    """Add what the request has changed to the log.

    The entry's id is the same at each try: one whose answer was lost may have been committed.
    """
    rule = request.url_rule.rule if request.url_rule else "///"
    entry = Entry(
        id=entry_id,
        tenant_id=principal.tenant_id if change.tenant_id is None else change.tenant_id,
        actor=principal.actor,
        action=change.action,
        resource=rule.split("/")[2],
        resource_id=change.resource_id,
        address=client_address(),
        request_id=g.request_id,
        detail=change.detail,
    )
    audit.add(session, entry)


def tell_of_ours(principal: Principal, action: str, resource: str, session: Session, resource_id: str) -> None:
    """Add that something of the installation itself was changed because of the request."""
    entry = Entry(new_id(), None, principal.actor, action, resource, resource_id, client_address(), g.request_id)
    audit.add(session, entry)
