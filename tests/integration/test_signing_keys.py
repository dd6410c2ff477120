"""The keys that sign our tokens: published, rotated, kept encrypted, known to every process."""

from datetime import UTC, datetime, timedelta

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import update

from api.key_ring import KeyRing
from jobs import api_keys, signing_keys, tokens
from jobs.scopes import ROLES
from models import signing_keys as kept_keys
from models.dialect import POSTGRESQL, SQLITE
from tests.doors import JOBS, Caller, Doors, assert_problem
from tests.oauth import ask, form, parts, with_token

JWKS = "/.well-known/jwks.json"


@pytest.fixture(params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"{request.param}_database"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


def rotate(doors: Doors, *, at_once: bool = False) -> str:
    with doors.database.transaction() as session:
        return signing_keys.rotate(session, doors.services.pepper(session), at_once=at_once)


def listed(doors: Doors) -> dict[str, kept_keys.SigningKey]:
    with doors.database.reading() as session:
        return {key.id: key for key in kept_keys.list_published(session)}


def forget(doors: Doors) -> None:
    doors.services.key_ring._read_at = -1e9


def test_others_can_check_our_tokens_by_what_we_publish(doors: Doors, caller: Caller):
    token = ask(doors, form(caller)).json["access_token"]
    answer = Caller(doors, None).get(JWKS)
    [key] = answer.json["keys"]
    assert {name: key[name] for name in key if name not in {"x", "kid"}} == {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
    }
    found = jwt.decode(token, KeySet.import_key_set(answer.json), registry=tokens._Registry("EdDSA"))
    assert found.header == {"alg": "EdDSA", "typ": "at+jwt", "kid": key["kid"]}
    assert found.claims["sub"] == found.claims["client_id"] == parts(caller)[0]


def test_that_the_first_key_was_made_is_told(doors: Doors, caller: Caller):
    ask(doors, form(caller))
    ask(doors, form(caller))
    [key] = listed(doors)
    told = [
        entry for entry in doors.caller(None).get("/v1/audit-log").json["data"] if entry["resource"] == "signing-keys"
    ]
    assert [(entry["action"], entry["actor"], entry["resource_id"]) for entry in told] == [
        ("create_signing_key", f"key:{parts(caller)[0]}", key)
    ]
    assert told[0]["request_id"]
    assert told[0]["address"] == "127.0.0.1"


def test_the_metadata_names_the_doors(doors: Doors):
    told = Caller(doors, None).get("/.well-known/oauth-authorization-server").json
    assert told["issuer"] == doors.services.settings.issuer
    for name in ("token_endpoint", "jwks_uri"):
        assert told[name].startswith(told["issuer"])
        path = told[name].removeprefix(told["issuer"])
        assert Caller(doors, None).get(path).status_code in {200, 405}


def test_a_rotated_key_is_published_before_it_signs_and_after(doors: Doors, caller: Caller):
    holder = with_token(doors, ask(doors, form(caller)))
    old = next(iter(listed(doors)))
    new = rotate(doors)
    forget(doors)
    keys = listed(doors)
    assert (keys[old].signs, keys[new].signs) == (True, False)
    assert doors.services.key_ring.signing(lambda *_: None)[0] == old
    assert {key["kid"] for key in Caller(doors, None).get(JWKS).json["keys"]} == {old, new}
    assert keys[old].retires_at == pytest.approx(keys[new].signs_from + signing_keys.OVERLAP, abs=timedelta(seconds=5))
    assert holder.get(JOBS).status_code == 200
    with doors.database.transaction() as session:
        session.execute(update(kept_keys.signing_keys).values(signs_from=datetime.now(UTC) - timedelta(seconds=1)))
        c = kept_keys.signing_keys.c
        later = datetime.now(UTC)
        session.execute(update(kept_keys.signing_keys).where(c.id == new).values(signs_from=later))
    forget(doors)
    assert doors.services.key_ring.signing(lambda *_: None)[0] == new
    assert holder.get(JOBS).status_code == 200


def test_a_key_that_leaked_is_worth_nothing_at_once(doors: Doors, caller: Caller):
    holder = with_token(doors, ask(doors, form(caller)))
    new = rotate(doors, at_once=True)
    forget(doors)
    assert set(listed(doors)) == {new}
    assert_problem(holder.get(JOBS), 401, "unauthenticated")
    assert with_token(doors, ask(doors, form(caller))).get(JOBS).status_code == 200


def test_a_key_that_another_process_made_just_now_is_found(doors: Doors, caller: Caller):
    other = Doors(doors.database)
    assert_problem(Caller(other, "a.b.c").get(JOBS), 401, "unauthenticated")
    assert other.services.key_ring.published() == []
    other.services.key_ring._read_at -= 1
    token = ask(doors, form(caller)).json["access_token"]
    assert Caller(other, token).get(JOBS).status_code == 200


def test_made_up_key_ids_do_not_make_us_ask_the_database_each_time(doors: Doors, monkeypatch: pytest.MonkeyPatch):
    ring, read = KeyRing(doors.database, doors.services.pepper, lambda: 100.0), []
    monkeypatch.setattr(kept_keys, "list_published", lambda session: read.append(session) or [])
    for number in range(50):
        assert ring.find(f"made up {number}") is None
    assert len(read) == 1


def test_signing_keys_are_not_kept_in_plain_and_need_the_pepper(doors: Doors, caller: Caller):
    ask(doors, form(caller))
    [kept] = listed(doors).values()
    with doors.database.reading() as session:
        pepper = doors.services.pepper(session)
    key = signing_keys.private(kept, pepper)
    assert key is not None
    assert key.private_key.private_bytes_raw() not in kept.private_key  # type: ignore[union-attr]
    assert signing_keys.private(kept, b"another pepper of some length...") is None


def test_with_another_pepper_a_new_key_signs(doors: Doors, caller: Caller):
    ask(doors, form(caller))
    other = Doors(doors.database, secret_key="k" * 40)
    with doors.database.transaction() as session:
        minted = api_keys.create_key(session, b"k" * 40, tenant_id=caller.tenant_id, name="x", scopes=ROLES["viewer"])
    holder = with_token(other, ask(other, form(Caller(other, minted.token))))
    assert holder.get(JOBS).status_code == 200
    assert len(listed(doors)) == 2
