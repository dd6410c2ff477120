"""Changes that commands make directly on the database are told in the audit log as well."""

import getpass
import socket
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models import audit
from models.audit import Entry
from models.ids import new_id


def tell(
    session: Session,
    action: str,
    resource: str,
    resource_id: str,
    tenant_id: UUID | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add a change to the log, by whoever runs the command."""
    entry = Entry(new_id(), tenant_id, _actor(), action, resource, resource_id, None, None, detail)
    audit.add(session, entry)


def _actor() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "unknown"
    return f"cli:{user}@{socket.gethostname()}"
