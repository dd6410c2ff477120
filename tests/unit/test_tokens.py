"""Tokens that are believed, and every way we know to forge one (RFC 8725)."""

import base64
import hashlib
import hmac
from typing import Any

import orjson
import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from jobs import tokens
from jobs.tokens import BadToken, Trust

ISSUER, AUDIENCE, KID = "https://issuer.example", "https://jobs.example", "k1"
NOW = 1_800_000_000
OURS = OKPKey.generate_key("Ed25519")
THEIRS = OKPKey.generate_key("Ed25519")
RSA = RSAKey.generate_key(2048)
EC = ECKey.generate_key("P-256")
KEYS = {KID: OURS, "rsa": RSA, "ec": EC}
TRUST = Trust(ISSUER, AUDIENCE, ("EdDSA", "RS256", "ES256"), ("at+jwt",), KEYS.get)


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else orjson.dumps(value)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def claims(**told: Any) -> dict[str, Any]:
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ops1", "iat": NOW, "nbf": NOW, "exp": NOW + 900}
    return {name: value for name, value in {**good, **told}.items() if value is not ...}


def header(**told: Any) -> dict[str, Any]:
    return {
        name: value for name, value in {"alg": "EdDSA", "typ": "at+jwt", "kid": KID, **told}.items() if value is not ...
    }


def signed(key: Any = OURS, claims: Any = None, header: Any = None) -> str:
    body = claims if isinstance(claims, bytes) else orjson.dumps(claims if claims is not None else _claims())
    registry = tokens._Registry("EdDSA", "RS256", "ES256")
    return jws.serialize_compact(header or _header(), body, key, registry=registry)


_claims, _header = claims, header


def verify(token: str) -> tokens.Verified:
    return tokens.verify(token, {ISSUER: TRUST}, NOW)


@pytest.mark.parametrize(("key_id", "alg"), [(KID, "EdDSA"), ("rsa", "RS256"), ("ec", "ES256")])
def test_a_token_signed_by_its_issuer_is_believed(key_id: str, alg: str):
    verified = verify(signed(KEYS[key_id], header=header(alg=alg, kid=key_id)))
    assert (verified.issuer, verified.subject) == (ISSUER, "ops1")


def test_our_own_tokens_live_a_quarter_of_an_hour():
    token = tokens.issue(KID, OURS, ISSUER, "ops1", ("jobs:read", "jobs:write"), NOW)
    trust = {ISSUER: Trust(ISSUER, ISSUER, ("EdDSA",), ("at+jwt",), KEYS.get)}
    verified = tokens.verify(token, trust, NOW + 900)
    assert verified.words("scope") == ("jobs:read", "jobs:write")
    assert verified.claims["exp"] - verified.claims["iat"] == 900
    with pytest.raises(BadToken, match="exp"):
        tokens.verify(token, trust, NOW + 960)


def test_no_two_tokens_are_the_same():
    assert tokens.issue(KID, OURS, ISSUER, "a", (), NOW) != tokens.issue(KID, OURS, ISSUER, "a", (), NOW)


@pytest.mark.parametrize(
    "told",
    [
        {"aud": ["https://elsewhere", AUDIENCE]},
        {"typ_in_claims": "x"},
        {"nbf": ..., "iat": ...},
        {"nbf": NOW + 59},
        {"iat": NOW + 60},
        {"exp": NOW - 59},
        {"exp": NOW + 0.5},
    ],
    ids=str,
)
def test_claims_that_are_as_they_may_be(told: dict[str, Any]):
    assert verify(signed(claims=claims(**told))).subject == "ops1"


@pytest.mark.parametrize(
    "told",
    [
        {"iss": "https://evil.example"},
        {"iss": ...},
        {"iss": [ISSUER]},
        {"iss": ISSUER + "/"},
        {"aud": "https://elsewhere"},
        {"aud": ...},
        {"aud": []},
        {"aud": [[AUDIENCE]]},
        {"aud": AUDIENCE + "/x"},
        {"exp": ...},
        {"exp": NOW - 60},
        {"exp": str(NOW + 900)},
        {"exp": True},
        {"exp": None},
        {"nbf": NOW + 61},
        {"nbf": "soon"},
        {"iat": NOW + 61},
        {"sub": ...},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"sub": "x" * 256},
        {"sub": "ops\u0131"},
    ],
    ids=str,
)
def test_claims_that_are_not_believed(told: dict[str, Any]):
    with pytest.raises(BadToken):
        verify(signed(claims=claims(**told)))


@pytest.mark.parametrize(
    "told",
    [
        {"alg": "Ed25519"},
        {"typ": "JWT"},
        {"typ": ...},
        {"typ": "secevent+jwt"},
        {"kid": "k2"},
        {"kid": ...},
        {"kid": 1},
        {"kid": "../../../dev/null"},
        {"crit": ["exp"], "exp": 1},
        {"b64": False, "crit": ["b64"]},
    ],
    ids=str,
)
def test_headers_that_are_not_believed(told: dict[str, Any]):
    token = signed()
    forged = ".".join([encoded(header(**told)), *token.split(".")[1:]])
    resigned = forged.rsplit(".", 1)[0]
    signature = encoded(OURS.private_key.sign(resigned.encode()))  # type: ignore[union-attr]
    with pytest.raises(BadToken):
        verify(f"{resigned}.{signature}")


@pytest.mark.parametrize("told", [{"jwk": THEIRS.as_dict(private=False)}, {"jku": "https://evil.example/jwks.json"}])
def test_a_key_that_the_token_itself_brings_is_not_used(told: dict[str, Any]):
    with pytest.raises(BadToken):
        verify(signed(THEIRS, header=header(**told)))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
def test_an_unsigned_token_is_not_believed(alg: str):
    head = encoded(header(alg=alg))
    for signature in ("", "AA", signed().rsplit(".", 1)[1]):
        with pytest.raises(BadToken):
            verify(f"{head}.{encoded(claims())}.{signature}")


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("key_id", [KID, "rsa"])
def test_a_public_key_is_no_shared_secret(alg: str, key_id: str):
    content = f"{encoded(header(alg=alg, kid=key_id))}.{encoded(claims())}"
    digest = getattr(hashlib, "sha" + alg[2:])
    for secret in (KEYS[key_id].as_pem(private=False), orjson.dumps(KEYS[key_id].as_dict(private=False))):
        signature = encoded(hmac.new(secret, content.encode(), digest).digest())
        with pytest.raises(BadToken):
            verify(f"{content}.{signature}")


def test_a_key_of_another_kind_does_not_serve_for_an_algorithm():
    for alg, key_id in (("EdDSA", "rsa"), ("RS256", KID), ("ES256", "rsa")):
        content = f"{encoded(header(alg=alg, kid=key_id))}.{encoded(claims())}"
        with pytest.raises(BadToken):
            verify(f"{content}.{encoded(b'x' * 64)}")


def test_another_key_s_signature_is_not_believed():
    with pytest.raises(BadToken):
        verify(signed(THEIRS))


def test_a_changed_token_is_not_believed():
    head, body, signature = signed().split(".")
    changed = encoded(claims(sub="admin"))
    other = signed(claims=claims(sub="admin")).rsplit(".", 1)[1]
    for forged in (f"{head}.{changed}.{signature}", f"{head}.{body}.{other}", f"{head}.{body}.{signature[:-2]}"):
        with pytest.raises(BadToken):
            verify(forged)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"iss":"https://issuer.example","iss":"https://evil.example"}',
        b'{"exp":NaN}',
        b"[" * 3000,
        b"\xff\xfe",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_claims_that_are_no_json_object_are_not_believed(body: bytes):
    content = f"{encoded(header())}.{encoded(body)}"
    signature = encoded(OURS.private_key.sign(content.encode()))  # type: ignore[union-attr]
    with pytest.raises(BadToken):
        verify(f"{content}.{signature}")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d.e",
        "a.b.c\n",
        " a.b.c",
        "a+/.b.c",
        "é.b.c",
        "a.b.c=",
        "A" * 9000,
        f"{'A' * 9000}.b.c",
    ],
    ids=lambda token: repr(token[:12]),
)
def test_what_is_no_token_is_refused_before_it_is_read(token: str):
    with pytest.raises(BadToken):
        verify(token)


def test_a_token_cannot_be_larger_than_8_kib():
    assert verify(signed(claims=claims(note="x" * 5_000))).subject == "ops1"
    with pytest.raises(BadToken, match="8 KiB"):
        verify(signed(claims=claims(note="x" * 8_000)))
