import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from jobs import api_keys
from jobs.scopes import ROLES, Scope
from models import audit, identity
from models.database import connect_sqlite
from models.schema import metadata
from setting_forms import API_KEY_FORM
from settings import Settings

PEPPER = b"p" * 32
BOOTSTRAP = "jm_ops1_" + "a" * 43


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    database = connect_sqlite(tmp_path / "keys.db", pool_size=1)
    metadata.create_all(database.engine, [identity.tenants, identity.api_keys, identity.installation, audit.audit_log])
    with database.transaction() as session:
        yield session
    database.close()


def make(session: Session, **details) -> api_keys.Minted:
    wanted = {"tenant_id": None, "name": "ci", "scopes": ROLES["submitter"], **details}
    return api_keys.create_key(session, PEPPER, **wanted)


def test_a_minted_token_authenticates_as_its_tenant_with_its_scopes(session):
    tenant, _ = identity.ensure_tenant(session, "acme")
    minted = make(session, tenant_id=tenant.id)
    principal = api_keys.authenticate(partial(identity.find_key, session), PEPPER, minted.token)
    assert principal is not None
    assert (principal.key_id, principal.tenant_id) == (minted.key.id, tenant.id)
    assert principal.scopes == {Scope.JOBS_READ, Scope.JOBS_WRITE}
    assert principal.actor == f"key:{minted.key.id}"


def test_a_token_is_one_double_click_and_carries_256_bits():
    tokens = {api_keys.new_token() for _ in range(200)}
    assert len(tokens) == 200
    assert all(re.fullmatch(r"jm_[a-z0-9]{12}_[A-Za-z0-9]{43}", token) for token in tokens)
    assert all(API_KEY_FORM.fullmatch(token) for token in tokens)


def test_neither_the_row_nor_a_repr_holds_the_secret(session):
    minted = make(session)
    secret = minted.token.rsplit("_", 1)[1]
    assert secret not in repr(minted)
    assert secret.encode() not in minted.key.secret_hash


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1] + ("a" if token[-1] != "a" else "b"),
        lambda token: token + "a",
        lambda token: token.replace("jm_", "jm_0", 1),
        lambda token: token + " ",
        lambda token: token + "\n",
        lambda _: "",
        lambda _: "jm__",
        lambda _: "jm_" + "a" * 12 + "_" + "é" * 43,
        lambda _: "jm_a_" + "a" * 10_000_000,
    ],
)
def test_a_token_that_is_not_exactly_right_is_nobodys(session, spoil):
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, spoil(make(session).token)) is None


def test_another_pepper_recognises_nothing(session):
    assert api_keys.authenticate(partial(identity.find_key, session), b"q" * 32, make(session).token) is None


def test_a_hash_copied_into_another_keys_row_does_not_open_it(session):
    mine, other = make(session), make(session)
    identity.replace_key_secret(session, other.key.id, mine.key.secret_hash, [])
    forged = f"jm_{other.key.id}_{mine.token.rsplit('_', 1)[1]}"
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, forged) is None


def test_a_comparison_is_made_also_when_the_key_id_is_unknown(session, monkeypatch):
    compared = []
    monkeypatch.setattr(api_keys.hmac, "compare_digest", lambda *pair: compared.append(pair) or True)
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, api_keys.new_token()) is None
    assert len(compared) == 1


def test_a_revoked_key_and_an_expired_one_are_nobodys(session):
    revoked = make(session)
    identity.revoke_key(session, revoked.key.id)
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, revoked.token) is None
    kept = replace(revoked.key, id="expired", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    identity.add_key(session, replace(kept, secret_hash=api_keys.hash_secret(PEPPER, "expired", "s" * 43)))
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, "jm_expired_" + "s" * 43) is None


def test_a_key_works_until_it_expires(session):
    minted = make(session, expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, minted.token) is not None
    with pytest.raises(ValueError, match="expired"):
        make(session, expires_at=datetime.now(UTC) - timedelta(hours=1))


def test_a_taken_key_id_is_not_overwritten(session, monkeypatch):
    first = make(session)
    tokens = [f"jm_{first.key.id}_{'x' * 43}", api_keys.new_token()]
    monkeypatch.setattr(api_keys, "new_token", lambda: tokens.pop(0))
    assert make(session).key.id != first.key.id
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, first.token) is not None


def test_a_scope_of_a_newer_release_grants_nothing_and_breaks_nothing(session):
    minted = make(session)
    identity.replace_key_secret(session, minted.key.id, minted.key.secret_hash, ["jobs:read", "teleports:write"])
    principal = api_keys.authenticate(partial(identity.find_key, session), PEPPER, minted.token)
    assert principal is not None
    assert principal.scopes == {Scope.JOBS_READ}
    assert principal.may(Scope.JOBS_READ)
    assert not principal.may(Scope.JOBS_WRITE)


def test_the_pepper_is_the_setting_or_else_the_databases_own(session):
    session.execute(identity.installation.insert().values(name="secret", value=b"s" * 32))
    assert api_keys.pepper(session, Settings(_env_file=None)) == b"s" * 32
    assert api_keys.pepper(session, Settings(_env_file=None, secret_key="k" * 32)) == b"k" * 32


def test_the_bootstrap_key_is_an_admin_of_tenant_default(session):
    made = api_keys.ensure_bootstrap_key(session, PEPPER, BOOTSTRAP)
    assert api_keys.ensure_bootstrap_key(session, PEPPER, BOOTSTRAP) == made
    principal = api_keys.authenticate(partial(identity.find_key, session), PEPPER, BOOTSTRAP)
    tenant = identity.find_tenant(session, "default")
    assert tenant is not None
    assert principal is not None
    assert (principal.tenant_id, principal.scopes) == (tenant.id, frozenset(Scope))


def test_the_bootstrap_key_follows_its_setting(session):
    changed = "jm_ops1_" + "b" * 43
    api_keys.ensure_bootstrap_key(session, PEPPER, BOOTSTRAP)
    api_keys.ensure_bootstrap_key(session, PEPPER, changed)
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, BOOTSTRAP) is None
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, changed) is not None


def test_a_revoked_bootstrap_key_stays_revoked_and_says_so(session):
    api_keys.ensure_bootstrap_key(session, PEPPER, BOOTSTRAP)
    identity.revoke_key(session, "ops1")
    with pytest.raises(api_keys.BootstrapKeyRefused, match=r"ops1 .*revoked") as refusal:
        api_keys.ensure_bootstrap_key(session, PEPPER, BOOTSTRAP)
    assert BOOTSTRAP not in str(refusal.value)
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, BOOTSTRAP) is None


def test_the_bootstrap_key_does_not_take_over_a_key_of_another_tenant(session):
    tenant, _ = identity.ensure_tenant(session, "acme")
    minted = make(session, tenant_id=tenant.id)
    with pytest.raises(api_keys.BootstrapKeyRefused, match="outside tenant"):
        api_keys.ensure_bootstrap_key(session, PEPPER, f"jm_{minted.key.id}_{'b' * 43}")
    assert api_keys.authenticate(partial(identity.find_key, session), PEPPER, minted.token) is not None


def test_roles_hold_what_the_api_says():
    assert ROLES["admin"] == frozenset(Scope)
    assert {scope.value for scope in ROLES["admin"] - ROLES["operator"]} == {"keys:read", "keys:write"}
    assert {scope.value for scope in ROLES["viewer"]} == {
        "jobs:read",
        "dead_letters:read",
        "queues:read",
        "webhooks:read",
        "schedules:read",
        "keys:read",
        "audit:read",
    }
    assert {scope.value for scope in ROLES["submitter"]} == {"jobs:read", "jobs:write"}
