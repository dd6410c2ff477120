"""Tokens to be refused, for one reason each: of ours, and of an outside issuer whose key this test holds."""

import base64
import json
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ISSUER = "https://login.example.org"
AUDIENCE = "jobmill"
_OURS, _NOBODYS = Ed25519PrivateKey.from_private_bytes(b"1" * 32), Ed25519PrivateKey.from_private_bytes(b"2" * 32)
HEADER = {"alg": "EdDSA", "typ": "at+jwt", "kid": "known"}


def issuers(folder: Path) -> str:
    """The setting that has the installation trust the outside issuer."""
    keys = folder / "outside_keys.json"
    keys.write_text(json.dumps({"keys": [_public(_OURS, "known")]}))
    return json.dumps([{"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(keys), "tenant": "default"}])


def tokens(known: dict[str, str], published: dict[str, Any]) -> dict[str, str]:
    """By name: GOOD ones, those of the outside issuer, and those that pretend to be ours."""
    return _outside() | _of_ours(known, published)


def _outside() -> dict[str, str]:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": "jobs:read", "iat": now, "exp": now + 3600}

    def told(**changed: Any) -> str:
        return signed(HEADER, _changed(claims, changed))

    def headed(**changed: Any) -> str:
        return signed(_changed(HEADER, changed), claims)

    good = told()
    head, body, signature = good.split(".")
    wrong = signature[:-2] + ("A" if signature[-2] != "A" else "B") + signature[-1]
    return {
        "GOOD": good,
        "EXPIRED": told(exp=now - 120),
        "NEVER_EXPIRES": told(exp=None),
        "EXPIRES_IN_WORDS": told(exp=str(now + 3600)),
        "EXPIRES_TRULY": told(exp=True),
        "EXPIRES_BEYOND_ALL": signed(HEADER, json.dumps(claims).replace(str(now + 3600), "1e400")),
        "EXPIRES_NEVER_A_NUMBER": signed(HEADER, json.dumps(claims).replace(str(now + 3600), "NaN")),
        "NOT_YET": told(nbf=now + 600),
        "FROM_THE_FUTURE": told(iat=now + 600),
        "NO_AUDIENCE": told(aud=None),
        "OTHER_AUDIENCE": told(aud="other"),
        "AUDIENCE_WITHIN": told(aud=f"{AUDIENCE} other"),
        "AUDIENCE_OF_OBJECTS": told(aud=[{AUDIENCE: AUDIENCE}]),
        "NO_ISSUER": told(iss=None),
        "OTHER_ISSUER": told(iss="https://login.example.net"),
        "ISSUER_WITH_SLASH": told(iss=f"{ISSUER}/"),
        "ISSUER_LIST": told(iss=[ISSUER]),
        "NOBODY": told(sub=None),
        "EMPTY_SUBJECT": told(sub=""),
        "FORGING_SUBJECT": told(sub='alice\n{"event":"forged"}'),
        "NUMBER_SUBJECT": told(sub=1),
        "NO_SCOPE": told(scope=None),
        "REPEATED_CLAIM": signed(HEADER, json.dumps(claims)[:-1] + ',"scope":"keys:write"}'),
        "REPEATED_HEADER": signed(json.dumps(HEADER)[:-1] + ',"kid":"known"}', claims),
        "CLAIMS_IN_A_LIST": signed(HEADER, json.dumps([claims])),
        "CLAIMS_ARE_NONE": signed(HEADER, "not json"),
        "CLAIMS_TOO_DEEP": signed(HEADER, '{"a":' * 1000 + "1" + "}" * 1000),
        "NESTED": signed({**HEADER, "cty": "JWT"}, good),
        "NO_TYPE": headed(typ=None),
        "OTHER_TYPE": headed(typ="logout+jwt"),
        "NO_KEY": headed(kid=None),
        "UNKNOWN_KEY": headed(kid="unknown"),
        "NUMBER_KEY": headed(kid=1),
        "LIST_KEY": headed(kid=["known"]),
        "PATH_KEY": headed(kid="../../../../dev/null"),
        "SQL_KEY": headed(kid="' OR '1'='1"),
        "NUL_KEY": headed(kid="known\0"),
        "LONG_KEY": headed(kid="k" * 3000),
        "CRITICAL": headed(crit=["exp"], exp=1),
        "UNENCODED": headed(crit=["b64"], b64=False),
        "SMALL_ALGORITHM": headed(alg="eddsa"),
        "OTHER_ALGORITHM": headed(alg="RS256"),
        "NO_ALGORITHM": headed(alg=None),
        "WRONG_SIGNATURE": f"{head}.{body}.{wrong}",
        "CUT_SIGNATURE": f"{head}.{body}.{signature[:-4]}",
        "NO_SIGNATURE": f"{head}.{body}.",
        "PADDED": f"{head}.{body}.{signature}=",
        "OTHER_BODY": f"{head}.{_part(_changed(claims, {'scope': 'keys:write'}))}.{signature}",
        "FOUR_PARTS": f"{good}.{signature}",
        "FIVE_PARTS": f"{good}.{signature}.{signature}",
        "TOO_LARGE": told(filler="x" * 5900),
    }


def _of_ours(known: dict[str, str], published: dict[str, Any]) -> dict[str, str]:
    """Forged from a good token of ours and the published key."""
    head, body, signature = known["TOKEN"].split(".")
    header, trap = json.loads(_unpart(head)), f"http://127.0.0.1:{known['TRAP']}/keys.json"
    claims = json.loads(_unpart(body))
    raw = _unpart(published["x"])

    def by_nobody(**changed: Any) -> str:
        return signed(_changed(header, changed), claims, _NOBODYS)

    def by_secret(secret: bytes, algorithm: str = "HS256") -> str:
        return _joined({**header, "alg": algorithm}, claims, lambda told: _hmac(secret, told))

    return {
        "OUR_NONE": _joined({**header, "alg": "none"}, claims, lambda _: b""),
        "OUR_NONE_SIGNED": _joined({**header, "alg": "none"}, claims, lambda _: b"x"),
        "OUR_NONE_SPELT": _joined({**header, "alg": "nOnE"}, claims, lambda _: b"x"),
        "OUR_SECRET_KEY": by_secret(raw),
        "OUR_SECRET_JWK": by_secret(json.dumps(published).encode()),
        "OUR_SECRET_PEM": by_secret(_pem(raw)),
        "OUR_SECRET_EMPTY": by_secret(b""),
        "OUR_SECRET_AS_EDDSA": by_secret(raw, "EdDSA"),
        "OUR_BY_NOBODY": by_nobody(),
        "OUR_BY_ITS_OWN_KEY": by_nobody(jwk=_public(_NOBODYS, "known")),
        "OUR_BY_ITS_URL": by_nobody(jku=trap),
        "OUR_BY_ITS_CERTIFICATE": by_nobody(x5u=trap, x5c=["MIIB"]),
        "OUR_BY_NULL_KEY": by_nobody(kid="/dev/null"),
        "OUR_BY_THE_OUTSIDE": signed({**header, "kid": "known"}, claims),
        "OUR_WITH_MORE": f"{head}.{_part({**claims, 'scope': 'keys:write', 'exp': 2**40})}.{signature}",
        "OUR_OF_ANOTHER": f"{head}.{_part({**claims, 'sub': known['OTHER_ID']})}.{signature}",
    }


def signed(header: dict[str, Any] | str, claims: dict[str, Any] | str, key: Ed25519PrivateKey = _OURS) -> str:
    return _joined(header, claims, key.sign)


def _joined(header: Any, claims: Any, sign: Any) -> str:
    told = f"{_part(header)}.{_part(claims)}"
    return f"{told}.{_encoded(sign(told.encode()))}"


def _changed(members: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**members, **changed}.items() if value is not None}


def _part(content: Any) -> str:
    return _encoded((content if isinstance(content, str) else json.dumps(content)).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _unpart(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _public(key: Ed25519PrivateKey, key_id: str) -> dict[str, str]:
    raw = key.public_key().public_bytes_raw()
    return {"kty": "OKP", "crv": "Ed25519", "x": _encoded(raw), "kid": key_id}


def _pem(raw: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return Ed25519PublicKey.from_public_bytes(raw).public_bytes(serialization.Encoding.PEM, form)


def _hmac(secret: bytes, told: bytes) -> bytes:
    signer = hmac.HMAC(secret, hashes.SHA256())
    signer.update(told)
    return signer.finalize()
