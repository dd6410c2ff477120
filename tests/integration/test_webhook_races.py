"""What must hold when several change a tenant's webhooks at the same moment, each on a connection of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobs import delivering, signing, webhook_secrets, webhooks
from jobs.scopes import ALL_SCOPES, Principal
from jobs.webhooks import NewEndpoint
from models import moves, webhook_endpoints
from models.database import Database
from models.ids import new_id
from models.moves.telling import Notice, Receiver, send
from tests.factories import blocked, new_job, tenant_id_of

PATIENCE = 60
PEPPER = b"a pepper of the tests"
OPERATOR = Principal("ops", None, ALL_SCOPES)
HOUR = timedelta(hours=1)

Step = Callable[[Session], Any]
Eventually = Callable[..., Any]


def _while_open(database: Database, first: Step, second: Step, eventually: Eventually) -> "Future[Any]":
    """What came of the second step, which began while the first was done and not yet committed."""
    with ThreadPoolExecutor(1) as threads:
        with database.transaction() as session:
            first(session)
            later = threads.submit(database.run, second)
            eventually(lambda: later.done() or blocked(database))
        later.exception(PATIENCE)
        return later


def _rotate(session: Session, secret: str) -> None:
    webhook_secrets.rotate(session, PEPPER, tenant_id_of(session), None, secret, HOUR)


def _first_secret(session: Session, delivery_id: UUID) -> None:
    delivering.prepare(session, PEPPER, delivery_id)


def _to_a_url(session: Session) -> UUID:
    to = Receiver(tenant_id_of(session), "https://hooks.example.com/in")
    return send(session, [Notice(to, new_id(), "job.dead", b"{}")])[0]


def _endpoint(session: Session) -> None:
    told = {"url": "https://hooks.example.com/", "events": ["job.dead"], "types": None}
    new = NewEndpoint(new_id(), signing.new_secret(), **told, description="", enabled=True)  # type: ignore[arg-type]
    webhooks.create(session, PEPPER, OPERATOR, tenant_id_of(session), new)


def _unended(database: Database) -> list[str | None]:
    with database.reading() as session:
        kept = webhook_endpoints.secrets(session, tenant_id_of(session), None)
        return [webhook_secrets.opened(PEPPER, one) for one in kept if one.ends_at is None]


def test_of_two_rotations_at_once_the_later_ends_the_secret_of_the_other(
    postgresql_database: Database, eventually: Eventually
) -> None:
    postgresql_database.run(tenant_id_of)
    first, second = signing.new_secret(), signing.new_secret()
    rotations = (partial(_rotate, secret=secret) for secret in (first, second))
    _while_open(postgresql_database, *rotations, eventually).result()
    assert _unended(postgresql_database) == [second]


def test_two_deliveries_that_need_a_tenants_first_secret_make_one(
    postgresql_database: Database, eventually: Eventually
) -> None:
    needs = [partial(_first_secret, delivery_id=postgresql_database.run(_to_a_url)) for _ in range(2)]
    _while_open(postgresql_database, *needs, eventually).result()
    assert len(_unended(postgresql_database)) == 1


def test_two_who_make_a_tenants_last_endpoint_make_one(
    postgresql_database: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MOST_ENDPOINTS", 1)
    postgresql_database.run(tenant_id_of)
    later = _while_open(postgresql_database, _endpoint, _endpoint, eventually)
    assert isinstance(later.exception(), webhooks.TooManyEndpoints)


def test_a_tenants_jobs_are_taken_while_its_secret_is_rotated(postgresql_database: Database) -> None:
    """Each new job refers to its tenant, whose row is kept meanwhile."""
    postgresql_database.run(tenant_id_of)
    with postgresql_database.transaction() as session, postgresql_database.transaction() as other:
        _rotate(session, signing.new_secret())
        other.execute(text("SET LOCAL lock_timeout = '5s'"))
        assert moves.record(other, [new_job(other)])
