"""Tenants, keys and the installation's secret."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from models import identity
from models.identity import ApiKey
from tests.factories import ago, tenant_id_of


def _key(session: Session, key_id: str = "ops1", **told: Any) -> ApiKey:
    fields = {
        "id": key_id,
        "tenant_id": tenant_id_of(session),
        "name": "for operators",
        "scopes": ("jobs:read", "jobs:write"),
        "secret_hash": b"\x00hash",
        "created_at": ago(days=900),
        "expires_at": None,
        "revoked_at": None,
    }
    return ApiKey(**{**fields, **told})


def test_a_tenant_is_made_once(session: Session) -> None:
    first, made = identity.ensure_tenant(session, "blue")
    again, made_again = identity.ensure_tenant(session, "blue")

    assert (made, made_again) == (True, False)
    assert again == first
    assert abs(first.created_at - ago()) < timedelta(seconds=5)


def test_tenants_are_listed_by_name(session: Session) -> None:
    for name in ("red", "blue", "green"):
        identity.ensure_tenant(session, name)

    assert [tenant.name for tenant in identity.list_tenants(session)] == ["blue", "green", "red"]
    assert [tenant.name for tenant in identity.list_tenants(session, limit=1)] == ["blue"]
    assert identity.find_tenant(session, "grey") is None


def test_a_key_is_found_as_it_was_kept_with_the_database_s_time(session: Session) -> None:
    key = _key(session)
    assert identity.add_key(session, key)

    found = identity.find_key(session, "ops1")

    assert found
    assert abs(found.created_at - ago()) < timedelta(seconds=5)
    assert {**vars(found), "created_at": key.created_at} == vars(key)


def test_a_key_id_is_given_once(session: Session) -> None:
    identity.add_key(session, _key(session))

    assert not identity.add_key(session, _key(session, secret_hash=b"another"))
    found = identity.find_key(session, "ops1")
    assert found
    assert found.secret_hash == b"\x00hash"


@pytest.mark.parametrize(("expires_in", "usable"), [(60, True), (-1, False)])
def test_a_key_is_worth_something_until_it_expires(session: Session, expires_in: int, usable: bool) -> None:
    identity.add_key(session, _key(session, expires_at=ago(seconds=-expires_in)))

    assert bool(identity.find_key(session, "ops1")) == usable


def test_a_revoked_key_is_worth_nothing_and_stays_listed(session: Session) -> None:
    identity.add_key(session, _key(session))

    assert identity.revoke_key(session, "ops1")
    assert identity.find_key(session, "ops1") is None
    assert not identity.revoke_key(session, "ops1")
    assert [bool(key.revoked_at) for key in identity.list_keys(session)] == [True]


def test_a_key_that_is_not_there_cannot_be_revoked(session: Session) -> None:
    assert not identity.revoke_key(session, "nobody")
    assert identity.find_key(session, "nobody") is None


def test_a_key_s_secret_follows_its_setting_unless_it_was_revoked(session: Session) -> None:
    identity.add_key(session, _key(session, "live"))
    identity.add_key(session, _key(session, "gone"))
    identity.revoke_key(session, "gone")

    for key_id in ("live", "gone"):
        identity.replace_key_secret(session, key_id, b"new", ["audit:read"])

    kept = {key.id: (key.secret_hash, key.scopes) for key in identity.list_keys(session)}
    assert kept == {"live": (b"new", ("audit:read",)), "gone": (b"\x00hash", ("jobs:read", "jobs:write"))}


def test_keys_are_listed_newest_first_and_by_tenant(session: Session) -> None:
    other = tenant_id_of(session, "other")
    identity.add_key(session, _key(session, "first"))
    identity.add_key(session, _key(session, "second", tenant_id=other))
    identity.add_key(session, _key(session, "third", tenant_id=None))

    assert [key.id for key in identity.list_keys(session)] == ["third", "second", "first"]
    assert [key.id for key in identity.list_keys(session, other)] == ["second"]
    assert [key.id for key in identity.list_keys(session, limit=1)] == ["third"]


def test_the_installation_s_secret_is_32_bytes_and_stays(session: Session) -> None:
    secret = identity.installation_secret(session)

    assert len(secret) == 32
    assert identity.installation_secret(session) == secret
