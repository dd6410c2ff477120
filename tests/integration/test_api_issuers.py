"""Tokens of outside issuers that the operator trusts."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey, RSAKey
from pytest_httpserver import HTTPServer

from jobs import issuers, tokens
from jobs.issuers import IssuerAway, IssuerKeys
from jobs.scopes import ROLES, Scope
from models.dialect import POSTGRESQL, SQLITE
from tests.doors import JOBS, Caller, Doors, assert_problem
from tests.doors import settings as settings_of
from tests.factories import unique
from tests.oauth import parts


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def acme() -> str:
    """The name of a tenant of the test's own."""
    return unique("acme")


OUTSIDE = "https://login.example.org"
# Made once: that takes longer than all the rest.
THEIR_KEY, ANOTHER_KEY = (RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}) for _ in range(2))


class Issuer:
    """An identity provider with a key set at some place."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.key = THEIR_KEY

    def jwks(self, *keys: Any) -> bytes:
        return orjson.dumps({"keys": [key.as_dict(private=False) for key in keys or (self.key,)]})

    def settings(self, **told: Any) -> dict[str, Any]:
        trusted = {"issuer": OUTSIDE, "audience": "jobmill", "jwks": self.place, "tenant_claim": "org", **told}
        return {"jwt_issuers": orjson.dumps([trusted]).decode()}

    def token(self, key: Any = None, header: dict[str, Any] | None = None, **told: Any) -> str:
        key = key or self.key
        now = int(time.time())
        good = {"iss": OUTSIDE, "aud": "jobmill", "sub": "ann", "exp": now + 300, "iat": now, "scope": "jobs:read"}
        head = {"alg": "RS256", "typ": "JWT", "kid": key.kid, **(header or {})}
        return jwt.encode(head, {**good, **told}, key, algorithms=["RS256"])


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    made = Issuer(str(tmp_path / "jwks.json"))
    Path(made.place).write_bytes(made.jwks())
    return made


@pytest.fixture
def trusting(doors: Doors, issuer: Issuer) -> Doors:
    return Doors(doors.database, **issuer.settings())


def test_an_outside_token_acts_for_the_tenant_and_the_scopes_that_it_names(trusting: Doors, issuer: Issuer, acme: str):
    mine, theirs = (trusting.caller(name).submit() for name in (acme, unique("other")))
    ann = Caller(trusting, issuer.token(org=acme))
    assert [job["id"] for job in ann.get(JOBS).json["data"]] == [mine["id"]]
    assert_problem(ann.get(f"{JOBS}/{theirs['id']}"), 404, "not-found")
    assert_problem(ann.post(f"{JOBS}/{mine['id']}/cancel"), 403, "forbidden")


def test_who_did_something_with_an_outside_token_is_in_the_history(trusting: Doors, issuer: Issuer, acme: str):
    job = trusting.caller(acme).submit()
    ann = Caller(trusting, issuer.token(org=acme, scope="jobs:read jobs:write"))
    assert ann.post(f"{JOBS}/{job['id']}/cancel").status_code == 202
    [event] = ann.get(f"{JOBS}/{job['id']}/events").json["data"]
    assert event["actor"] == f"subject:{OUTSIDE}#ann"


@pytest.mark.parametrize(
    ("settings", "told", "scopes"),
    [
        ({}, {"scope": "jobs:read openid other:read"}, {Scope.JOBS_READ}),
        ({}, {"scope": ["jobs:read", 7, "viewer"]}, ROLES["viewer"]),
        ({"scope_claim": "roles"}, {"roles": ["submitter"]}, ROLES["submitter"]),
        ({"scope_prefix": "jobmill:"}, {"scope": "jobmill:jobs:write jobs:read"}, {Scope.JOBS_WRITE}),
        ({}, {"scope": 7}, set()),
    ],
)
def test_claims_stand_for_scopes_and_roles(
    issuer: Issuer, settings: dict[str, Any], told: dict[str, Any], scopes: set[Scope], acme: str
):
    [trusted] = settings_of(**issuer.settings(**settings)).jwt_issuers
    verified = tokens.verify(issuer.token(**told), {OUTSIDE: issuers.trust(trusted)}, time.time())
    assert issuers.granted(trusted, verified) == scopes


@pytest.mark.parametrize("org", [None, "nobody's", 7, ["acme"], ""])
def test_a_token_that_names_no_known_tenant_opens_nothing(trusting: Doors, issuer: Issuer, org: Any, acme: str):
    trusting.caller(acme)
    told = {} if org is None else {"org": org}
    assert_problem(Caller(trusting, issuer.token(**told)).get(JOBS), 403, "forbidden")


def test_an_issuer_may_be_of_one_tenant(doors: Doors, issuer: Issuer, acme: str):
    fixed = Doors(doors.database, **issuer.settings(tenant=acme, tenant_claim=None))
    mine = fixed.caller(acme).submit()
    fixed.caller("other").submit()
    assert [job["id"] for job in Caller(fixed, issuer.token(org="other")).get(JOBS).json["data"]] == [mine["id"]]


def test_an_outside_token_that_is_not_in_order_opens_nothing(trusting: Doors, issuer: Issuer, acme: str):
    trusting.caller(acme)
    for token in (
        issuer.token(ANOTHER_KEY, org=acme),
        issuer.token(org=acme, aud="elsewhere"),
        issuer.token(org=acme, exp=int(time.time()) - 61),
        issuer.token(org=acme, iss="https://evil.example"),
        issuer.token(org=acme, header={"kid": "two"}),
        issuer.token(org=acme, header={"typ": "dpop+jwt"}),
    ):
        assert_problem(Caller(trusting, token).get(JOBS), 401, "unauthenticated")


def test_an_outside_issuer_cannot_speak_for_us(doors: Doors, issuer: Issuer):
    ours = doors.services.settings.issuer
    cheated = Doors(doors.database, **issuer.settings(issuer=ours))
    token = issuer.token(iss=ours, aud=ours, sub=parts(doors.caller())[0], header={"typ": "at+jwt"})
    assert_problem(Caller(cheated, token).get(JOBS), 401, "unauthenticated")


def test_an_issuer_s_keys_come_over_http_too(doors: Doors, httpserver: HTTPServer, acme: str):
    issuer = Issuer(httpserver.url_for("/jwks"))
    trusting = Doors(doors.database, **issuer.settings())
    trusting.caller(acme)
    assert_problem(Caller(trusting, issuer.token(org=acme)).get(JOBS), 503, "issuer-away")
    httpserver.expect_request("/jwks").respond_with_data(issuer.jwks())
    trusting.services.trusted[OUTSIDE].find_key.__self__._asked_at -= 60  # type: ignore[attr-defined]
    assert Caller(trusting, issuer.token(org=acme)).get(JOBS).status_code == 200


@pytest.fixture
def clock() -> Iterator[Callable[[float], float]]:
    now = [0.0]

    def tick(seconds: float = 0) -> float:
        now[0] += seconds
        return now[0]

    return tick  # type: ignore[return-value]


def test_an_unknown_key_has_the_issuer_asked_once_a_minute(clock: Callable[..., float]):
    issuer, asked = Issuer(""), []
    answers = [issuer.jwks(), issuer.jwks()]
    keys = IssuerKeys(lambda: asked.append(1) or answers[0], clock)
    assert keys.find("one") is not None
    for number in range(20):
        assert keys.find(f"made up {number}") is None
    assert len(asked) == 1
    new = OKPKey.generate_key("Ed25519", {"kid": "two", "use": "sig"})
    answers[0] = issuer.jwks(issuer.key, new)
    assert keys.find("two") is None
    clock(60)
    assert keys.find("two") is not None
    assert len(asked) == 2


def test_keys_that_were_had_once_serve_while_their_issuer_is_away(clock: Callable[..., float]):
    issuer, away = Issuer(""), [False]

    def load() -> bytes:
        if away[0]:
            raise OSError("no route")
        return issuer.jwks()

    keys = IssuerKeys(load, clock)
    assert keys.find("one")
    away[0] = True
    clock(601)
    assert keys.find("one")


def test_a_key_that_its_issuer_withdrew_is_worth_nothing_ten_minutes_later(clock: Callable[..., float]):
    issuer = Issuer("")
    answers = [issuer.jwks(), orjson.dumps({"keys": []})]
    keys = IssuerKeys(lambda: answers.pop(0), clock)
    assert keys.find("one")
    clock(600)
    assert keys.find("one") is None


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"keys":7}', b"<html>", b'{"keys":[], "keys":[]}'])
def test_what_is_no_key_set_leaves_the_issuer_away(answer: bytes):
    with pytest.raises(IssuerAway):
        IssuerKeys(lambda: answer).find("one")


def test_keys_that_may_not_check_signatures_are_left_out():
    good = Issuer("").key
    listed = [
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {**good.as_dict(private=False), "kid": "encrypts", "use": "enc"},
        {"kty": "RSA", "kid": "broken"},
        {"kty": "XYZ", "kid": "new"},
        {"kid": 7, **{name: value for name, value in good.as_dict(private=False).items() if name != "kid"}},
        "nonsense",
        good.as_dict(private=False),
    ]
    assert set(issuers.usable_keys(orjson.dumps({"keys": listed}))) == {"one"}
