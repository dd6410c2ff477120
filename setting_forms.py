"""Forms that settings and the domain share, and a check for each setting that needs more than its type.

Beside settings.py, which every folder imports: a form that stood in `jobs/` could not be read by it without a circle.
"""

import json
import re
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator

API_KEY_FORM = re.compile(r"jm_([A-Za-z0-9]{1,32})_([A-Za-z0-9_-]{16,128})")
QUEUE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
OWN_TENANT_NAME = "(installation)"
"""The tenant whose jobs are those of the installation itself; no other may be called so."""
ORIGIN = re.compile(r"https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

# None that a public key, taken for a shared secret, could pass (RFC 8725, 2.1).
SIGNATURES = ("EdDSA", "Ed25519", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")


class OutsideIssuer(BaseModel, frozen=True, extra="forbid"):
    """An issuer whose tokens are accepted: where its keys are, and which of its claims name tenant and scopes."""

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    jwks: str = Field(min_length=1)
    """A file, or a URL: https, or http to this machine."""
    tenant: str | None = None
    tenant_claim: str | None = None
    scope_claim: str = "scope"
    scope_prefix: str = ""
    algorithms: tuple[str, ...] = ("EdDSA", "Ed25519", "ES256", "PS256", "RS256")
    types: tuple[str, ...] = ("at+jwt", "jwt")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.tenant is None) == (self.tenant_claim is None):
            raise ValueError("an issuer has either tenant or tenant_claim")
        if not self.algorithms or not set(self.algorithms) <= set(SIGNATURES):
            raise ValueError(f"algorithms are among {', '.join(SIGNATURES)}")
        url = urlsplit(self.jwks)
        local = url.hostname in {"localhost", "127.0.0.1", "::1"}
        if "://" in self.jwks and url.scheme != "https" and not (url.scheme == "http" and local):
            raise ValueError("jwks is a file, an https URL, or an http URL of this machine")
        return self


DEFAULT_RATE_LIMITS = {
    "submit": "600000/60",
    "read": "120000/60",
    "operate": "12000/60",
    "token": "600/60",
    "guess": "300/60",
}
RATE_LIMIT = r"^([1-9][0-9]{0,8}/[1-9][0-9]{0,5}|none)$"
_CLASS_AND_LIMIT = re.compile(rf"([a-z]+)={RATE_LIMIT[1:-1]}")


def split(value: object) -> object:
    """The parts of a comma-separated text; anything else as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def json_text(value: object) -> object:
    """What a JSON text says; anything else as it is. Raises ValueError."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("it is no JSON") from None


def each_once(value: tuple[OutsideIssuer, ...]) -> tuple[OutsideIssuer, ...]:
    """Issuers, each of which stands there once. Raises ValueError."""
    if len({one.issuer for one in value}) < len(value):
        raise ValueError("each issuer stands there once")
    return value


def queue_names(value: tuple[str, ...]) -> tuple[str, ...]:
    """Names of queues, one at least. Raises ValueError."""
    if not value or not all(QUEUE_NAME.fullmatch(name) for name in value):
        raise ValueError(f"queue names match {QUEUE_NAME.pattern}")
    return value


def origins(value: tuple[str, ...]) -> tuple[str, ...]:
    """Origins as browsers send them. Raises ValueError."""
    if not all(ORIGIN.fullmatch(origin) for origin in value):
        raise ValueError("an origin is http:// or https://, a host in small letters, and a port if need be; no path")
    return value


def rate_limits(value: tuple[str, ...]) -> tuple[str, ...]:
    """Limits, each `class=requests/seconds`. Raises ValueError."""
    found = [_CLASS_AND_LIMIT.fullmatch(one) for one in value]
    if not all(one and one[1] in DEFAULT_RATE_LIMITS for one in found):
        raise ValueError(f"it is class=requests/seconds, comma-separated; classes: {', '.join(DEFAULT_RATE_LIMITS)}")
    return value


def postgresql(value: SecretStr | None) -> SecretStr | None:
    """A URL of PostgreSQL. Raises ValueError."""
    return _of_scheme(value, "postgresql", "postgres")


def amqp(value: SecretStr | None) -> SecretStr | None:
    """URLs of RabbitMQ, comma-separated. Raises ValueError."""
    for url in value.get_secret_value().split(",") if value else ():
        _of_scheme(SecretStr(url.strip()), "amqp", "amqps")
    return value


def redis(value: SecretStr | None) -> SecretStr | None:
    """A URL of Redis. Raises ValueError."""
    return _of_scheme(value, "redis", "rediss", "unix")


def api_key(value: SecretStr | None) -> SecretStr | None:
    """An API key in its form. Raises ValueError."""
    if value and not API_KEY_FORM.fullmatch(value.get_secret_value()):
        raise ValueError("the form is jm_<key id>_<secret>: key id 1 to 32 letters and digits, secret 16 to 128")
    return value


def long_secret(value: SecretStr | None) -> SecretStr | None:
    """A secret that is long enough. Raises ValueError."""
    if value and len(value.get_secret_value()) < 32:  # noqa: PLR2004 - 128 bits in hex
        raise ValueError("it needs at least 32 characters")
    return value


def _of_scheme(value: SecretStr | None, *schemes: str) -> SecretStr | None:
    if value and urlsplit(value.get_secret_value()).scheme not in schemes:
        raise ValueError(f"it must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    return value
