"""Tokens of our own over HTTP: how one is got (RFC 6749), and what it is worth."""

import base64
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from joserfc.jwk import OKPKey
from sqlalchemy import update
from werkzeug.test import TestResponse

from jobs import tokens
from jobs.scopes import ROLES
from models import identity
from models.dialect import POSTGRESQL, SQLITE
from tests.doors import JOBS, KEYS, Caller, Doors, assert_problem
from tests.oauth import ask, basic, form, parts, with_token


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


def refused(answer: TestResponse, error: str, status: int = 400) -> dict[str, Any]:
    assert (answer.status_code, answer.content_type) == (status, "application/json"), answer.text
    document: dict[str, Any] = answer.json
    assert document["error"] == error, document
    assert set(document) == {"error", "error_description"}
    assert answer.headers["Cache-Control"] == "no-store"
    return document


# Getting one


def test_a_key_gets_a_token_for_a_quarter_of_an_hour_and_all_its_scopes(doors: Doors):
    caller = doors.caller(scopes=ROLES["submitter"])
    answer = ask(doors, form(caller))
    told = {name: answer.json[name] for name in ("token_type", "expires_in", "scope")}
    assert told == {"token_type": "Bearer", "expires_in": 900, "scope": "jobs:read jobs:write"}
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    assert with_token(doors, answer).submit()["state"] == "queued"


def test_credentials_may_stand_in_the_header(doors: Doors, caller: Caller):
    answer = ask(doors, {"grant_type": "client_credentials"}, Authorization=basic(*parts(caller)))
    assert with_token(doors, answer).get(JOBS).status_code == 200


def test_a_token_can_be_narrowed_and_opens_no_more_than_that(doors: Doors, caller: Caller):
    answer = ask(doors, form(caller, scope="jobs:read"))
    assert answer.json["scope"] == "jobs:read"
    narrow = with_token(doors, answer)
    assert narrow.get(JOBS).status_code == 200
    assert_problem(narrow.post(JOBS, {"type": "test.echo"}), 403, "forbidden")


def test_a_token_sees_its_keys_tenant_only(doors: Doors, caller: Caller):
    mine = with_token(doors, ask(doors, form(caller))).submit()
    assert caller.get(f"{JOBS}/{mine['id']}").status_code == 200
    stranger = with_token(doors, ask(doors, form(doors.caller())))
    assert_problem(stranger.get(f"{JOBS}/{mine['id']}"), 404, "not-found")


def test_a_scope_beyond_the_key_s_is_refused(doors: Doors):
    caller = doors.caller(scopes=ROLES["viewer"])
    for scope in ("jobs:write", "jobs:read jobs:write", "everything"):
        refused(ask(doors, form(caller, scope=scope)), "invalid_scope")


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
    ],
)
def test_what_is_wrong_with_a_request_for_a_token(doors: Doors, caller: Caller, told: dict[str, str], error: str):
    refused(ask(doors, form(caller, **told)), error)


@pytest.mark.parametrize(
    "change",
    [
        {"client_secret": "x" * 43},
        {"client_id": "nobody"},
        {"client_id": ""},
        {"client_secret": ""},
        {"client_id": "../../x"},
        {"client_secret": "x" * 10_000},
        {"client_id": "é"},
    ],
    ids=lambda change: str(change)[:30],
)
def test_a_client_that_is_not_known_is_refused_alike(doors: Doors, caller: Caller, change: dict[str, str]):
    answer = ask(doors, form(caller, **change))
    first = ask(doors, form(caller, client_id="another"))
    assert refused(answer, "invalid_client", 401) == refused(first, "invalid_client", 401)
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Basic " + base64.b64encode(b"noColon").decode(), "Bearer x"])
def test_a_header_that_is_no_basic_credentials_is_refused(doors: Doors, header: str):
    refused(ask(doors, {"grant_type": "client_credentials"}, Authorization=header), "invalid_client", 401)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("grant_type=client_credentials&grant_type=client_credentials", None),
        ("grant_type", None),
        ("&".join(f"a{n}=1" for n in range(150)), None),
        ("grant_type=client_credentials%ff", None),
        (orjson.dumps({"grant_type": "client_credentials"}).decode(), "application/json"),
        ("", "text/plain"),
    ],
    ids=lambda it: str(it)[:30],
)
def test_a_body_that_is_no_form_is_refused(doors: Doors, body: str, content_type: str | None):
    headers = {"Content-Type": content_type or "application/x-www-form-urlencoded"}
    refused(ask(doors, body, **headers), "invalid_request")


def test_credentials_in_two_ways_are_refused(doors: Doors, caller: Caller):
    refused(ask(doors, form(caller), Authorization=basic(*parts(caller))), "invalid_request")


# Its worth


def test_a_revoked_key_s_tokens_are_worth_nothing_from_then_on(doors: Doors, caller: Caller):
    holder = with_token(doors, ask(doors, form(caller)))
    assert holder.get(JOBS).status_code == 200
    with doors.database.transaction() as session:
        identity.revoke_key(session, parts(caller)[0])
    assert_problem(holder.get(JOBS), 401, "unauthenticated")
    refused(ask(doors, form(caller)), "invalid_client", 401)


def test_an_expired_key_s_tokens_are_worth_nothing(doors: Doors):
    caller = doors.caller(expires_at=datetime.now(UTC) + timedelta(hours=1))
    holder = with_token(doors, ask(doors, form(caller)))
    with doors.database.transaction() as session:
        past = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(
            update(identity.api_keys).where(identity.api_keys.c.id == parts(caller)[0]).values(expires_at=past)
        )
    assert_problem(holder.get(JOBS), 401, "unauthenticated")


def test_a_token_makes_no_key_that_grants_more_than_it(doors: Doors, caller: Caller):
    narrow = with_token(doors, ask(doors, form(caller, scope="keys:write jobs:read")))
    assert_problem(narrow.post(KEYS, {"name": "x", "role": "admin"}), 403, "forbidden")
    assert narrow.post(KEYS, {"name": "x", "scopes": ["jobs:read"]}).status_code == 201


def test_a_token_of_another_installation_opens_nothing(doors: Doors, caller: Caller):
    key = OKPKey.generate_key("Ed25519")
    ours = doors.services.settings.issuer
    forged = tokens.issue(key.thumbprint(), key, ours, parts(caller)[0], ("jobs:read",), time.time())
    answer = Caller(doors, forged).get(JOBS)
    assert_problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
