"""JSON Web Tokens, written and read by the rules of RFC 8725: nothing in a token chooses how it is checked.

Tokens of our own (RFC 9068) name the key they were got with, and are worth what that key is worth at the moment.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson
from joserfc import errors, jws
from joserfc.jwk import Key, OKPKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from jobs import strict_json
from setting_forms import SIGNATURES

LIFE_SECONDS = 15 * 60
LEEWAY_SECONDS = 60
"""How far the clocks of whoever writes and whoever reads a token may be apart."""
MOST_BYTES = 8 * 1024
OUR_ALGORITHM = "EdDSA"
OUR_TYPE = "at+jwt"

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")


class BadToken(Exception):  # noqa: N818
    """A token that cannot be believed; the message says why, and nothing that a forger does not know."""


@dataclass(frozen=True)
class Trust:
    """What is believed of one issuer: tokens for this audience, of these types, by these algorithms and its keys."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    types: tuple[str, ...]
    find_key: Callable[[str], Key | None]


@dataclass(frozen=True)
class Verified:
    """What a token says, and of whom it is known to be."""

    issuer: str
    subject: str
    claims: Mapping[str, Any]

    def words(self, claim: str) -> tuple[str, ...]:
        """The words of a claim that is a text with blanks between them, or a list."""
        value = self.claims.get(claim)
        if isinstance(value, str):
            return tuple(value.split())
        return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


# joserfc warns, once a token, that RFC 9864 has a newer name for what most libraries know by the older one only.
_EDDSA = copy.copy(JWSRegistry.algorithms["EdDSA"])
_EDDSA.security_warning = None
_ALGORITHMS = {**JWSRegistry.algorithms, "EdDSA": _EDDSA}


class _Registry(JWSRegistry):
    """Takes the algorithms that it is told, and no token that is larger than ours may be."""

    max_header_length = 2048
    max_payload_length = MOST_BYTES

    def __init__(self, *algorithms: str) -> None:
        super().__init__(algorithms=list(algorithms), strict_check_header=False)
        self.algorithms = _ALGORITHMS


def issue(key_id: str, key: OKPKey, issuer: str, holder: str, scopes: tuple[str, ...], now: float) -> str:
    """A token for the API key `holder`."""
    claims = {
        "iss": issuer,
        "aud": issuer,
        "sub": holder,
        "client_id": holder,
        "scope": " ".join(scopes),
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + LIFE_SECONDS,
        "jti": str(uuid4()),
    }
    header = {"alg": OUR_ALGORITHM, "typ": OUR_TYPE, "kid": key_id}
    return jws.serialize_compact(header, orjson.dumps(claims), key, registry=_Registry(OUR_ALGORITHM))


def looks_like_one(token: str) -> bool:
    """Whether this is a token rather than an API key; says nothing of its worth."""
    return token.count(".") == 2 and not token.startswith("jm_")  # noqa: PLR2004 - header, claims, signature


def verify(token: str, trusted: Mapping[str, Trust], now: float) -> Verified:
    """What the token says, if one of the trusted issuers says it. Raises BadToken."""
    if len(token) > MOST_BYTES or not _FORM.fullmatch(token):
        raise BadToken("The token is not a signed JSON Web Token of at most 8 KiB.")
    try:
        return _verify(token, trusted, now)
    except (errors.JoseError, strict_json.BadJson, ValueError) as error:
        raise BadToken("The token is malformed or not signed by a key of its issuer.") from error


def _verify(token: str, trusted: Mapping[str, Trust], now: float) -> Verified:
    found = jws.extract_compact(token.encode(), registry=_Registry(*SIGNATURES))
    # Its parser takes the last of two members, others take the first.
    strict_json.parse(urlsafe_b64decode(token.partition(".")[0].encode()))
    claims = strict_json.parse(found.payload or b"")
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    trust = trusted.get(issuer) if isinstance(issuer, str) else None
    if not isinstance(claims, dict) or trust is None:
        raise BadToken("The token is of an issuer that is not trusted here.")
    key = trust.find_key(_key_id(found.headers(), trust))
    if key is None:
        raise BadToken("The token is signed with a key that its issuer does not publish.")
    jws.deserialize_compact(token, key, registry=_Registry(*trust.algorithms))
    return Verified(trust.issuer, _checked(claims, trust, now), claims)


def _key_id(header: Mapping[str, Any], trust: Trust) -> str:
    """The key's id, once the rest of the header is as it must be."""
    if header.get("alg") not in trust.algorithms:
        raise BadToken("The token is signed by an algorithm that is not accepted of its issuer.")
    kind = str(header.get("typ", "")).lower().removeprefix("application/")
    if kind not in trust.types:
        raise BadToken("The token is of a type (typ) that is not accepted of its issuer.")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or "b64" in header:
        raise BadToken("The token does not name its key (kid).")
    return key_id


def _checked(claims: Mapping[str, Any], trust: Trust, now: float) -> str:
    """The token's subject, once it is known to be meant for us and now."""
    audience = claims.get("aud")
    if trust.audience not in (audience if isinstance(audience, list) else [audience]):
        raise BadToken("The token is meant for another audience (aud).")
    begins = max(_moment(claims, name, 0) for name in ("nbf", "iat"))
    if now + LEEWAY_SECONDS < begins:
        raise BadToken("The token is not valid yet (nbf, iat).")
    if now - LEEWAY_SECONDS >= _moment(claims, "exp"):
        raise BadToken("The token has expired (exp).")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise BadToken("The token does not say of whom it is (sub), in visible ASCII.")
    return subject


def _moment(claims: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(f"The token's {name} is no number of seconds.")
    return value
