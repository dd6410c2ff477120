"""The secrets that webhooks are signed with: kept sealed, rotated with an overlap, opened to sign."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from jobs import secret_key
from jobs.sealing import Sealer
from models import identity, webhook_endpoints
from models.ids import new_id
from models.webhook_endpoints import SealedSecret

OVERLAP = timedelta(hours=24)
MOST_SECRETS = 5
"""So many sign at most: the headers must fit, and nobody rotates more often than that within an overlap in earnest."""


def rotate(
    session: Session, pepper: bytes, tenant_id: UUID, endpoint_id: UUID | None, secret: str, overlap: timedelta
) -> None:
    """Sign with this secret from now on, and for `overlap` with the ones before too; None: of URLs that come with jobs.

    May be called again with the same secret after an unknown outcome.
    """
    if endpoint_id is None:  # an endpoint is held by whoever rotates its own
        identity.hold_tenant(session, tenant_id)
    known = webhook_endpoints.secrets(session, tenant_id, endpoint_id)
    newest = known[0] if known else None
    if newest is not None and newest.ends_at is None and opened(pepper, newest) == secret:
        return
    webhook_endpoints.end_secrets(session, tenant_id, endpoint_id, overlap)
    webhook_endpoints.forget_secrets(session, [one.id for one in known[MOST_SECRETS - 1 :]])
    add_secret(session, pepper, tenant_id, endpoint_id, secret, new_id())


def previous_valid_until(session: Session, tenant_id: UUID, endpoint_id: UUID | None) -> datetime | None:
    """How long secrets sign that were rotated out; None: the newest signs alone."""
    ends = [one.ends_at for one in webhook_endpoints.secrets(session, tenant_id, endpoint_id)]
    return max((end for end in ends if end is not None), default=None)


def add_secret(
    session: Session, pepper: bytes, tenant_id: UUID, endpoint_id: UUID | None, secret: str, secret_id: UUID
) -> None:
    """Keep a secret that signs from now on; without an endpoint, what goes to URLs that come with jobs.

    Raises WrongSecretKey if other processes could not open it.
    """
    secret_key.pledge(session, pepper)
    sealed = _sealer(pepper).seal(secret.encode(), str(secret_id))
    webhook_endpoints.add_secret(session, secret_id, tenant_id, endpoint_id, sealed)


def opened(pepper: bytes, kept: SealedSecret) -> str | None:
    """A secret in plain; None if it was sealed under another pepper."""
    raw = _sealer(pepper).open(kept.sealed, str(kept.id))
    return None if raw is None else raw.decode()


def _sealer(pepper: bytes) -> Sealer:
    return Sealer(pepper, "webhook secrets")
