"""Outside issuers whose tokens the operator trusts: their keys, and what their claims mean here.

The operator names where an issuer's keys are, no client does, so they may come from inside the own network; everything
else that the guarded way out sees to holds: no redirects, a deadline, a limit of bytes.
"""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from joserfc import errors
from joserfc.jwk import Key, RSAKey, import_key

from jobs import strict_json
from jobs.outbound import Outbound
from jobs.outbound_errors import OutboundError
from jobs.scopes import ROLES, Principal, Scope, known_scopes
from jobs.tokens import Trust, Verified
from setting_forms import OutsideIssuer

ASKED_EVERY_SECONDS = 60.0
KEPT_SECONDS = 600.0
DEADLINE_SECONDS = 3.0
MOST_BYTES = 256 * 1024
LEAST_RSA_BITS = 2048
_OK = 200
_EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_ASYMMETRIC = {"RSA", "EC", "OKP"}

Load = Callable[[], bytes]


class IssuerAway(Exception):  # noqa: N818
    """The issuer's keys could not be had yet, so nothing can be said of its tokens."""


class IssuerKeys:
    """The published keys of one issuer, read again every ten minutes and for an unknown id once a minute at most."""

    def __init__(self, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, Key] | None = None
        self._asked_at = -KEPT_SECONDS

    def find(self, key_id: str) -> Key | None:
        """The key of that id. Raises IssuerAway when none were ever had."""
        # Whoever has keys does not wait for those who ask again: a key that nobody knows may have been made up.
        if self._lock.acquire(blocking=self._keys is None):
            try:
                self._renew(KEPT_SECONDS if key_id in (self._keys or {}) else ASKED_EVERY_SECONDS)
            finally:
                self._lock.release()
        if self._keys is None:
            raise IssuerAway("The keys of the token's issuer cannot be had at the moment.")
        return self._keys.get(key_id)

    def _renew(self, kept_for: float) -> None:
        """Ask again, unless that was done lately. Keys that were had once serve on while their issuer is away."""
        if self._clock() - self._asked_at < kept_for:
            return
        self._asked_at = self._clock()
        try:
            self._keys = usable_keys(self._load())
        except (OSError, OutboundError, ValueError):
            return


def usable_keys(document: bytes) -> dict[str, Key]:
    """The keys of a JSON Web Key Set that may check signatures, by id. Raises ValueError if it is none.

    A key that we cannot read is left out: an issuer may publish kinds that are new to us beside those that we know.
    """
    parsed = strict_json.parse(document)
    if not (isinstance(parsed, dict) and isinstance(parsed.get("keys"), list)):
        raise ValueError("a JSON Web Key Set has a list of keys")  # noqa: TRY004 - what came, not how we were called
    listed: list[Any] = parsed["keys"]
    read = ((entry["kid"], _usable(entry)) for entry in listed if isinstance(entry, dict) and "kid" in entry)
    return {key_id: key for key_id, key in read if isinstance(key_id, str) and key is not None}


def _usable(entry: dict[str, Any]) -> Key | None:
    if entry.get("kty") not in _ASYMMETRIC or entry.get("use", "sig") != "sig":
        return None
    public = {name: value for name, value in entry.items() if name not in {"key_ops", "d"}}
    try:
        key = import_key(public)
    except (errors.JoseError, ValueError, TypeError, KeyError):
        return None
    weak = isinstance(key, RSAKey) and key.raw_value.key_size < LEAST_RSA_BITS
    return None if weak else key


def trust(issuer: OutsideIssuer, clock: Callable[[], float] = time.monotonic) -> Trust:
    """What is believed of this issuer."""
    keys = IssuerKeys(lambda: load(issuer.jwks), clock)
    return Trust(issuer.issuer, issuer.audience, issuer.algorithms, issuer.types, keys.find)


def load(place: str) -> bytes:
    """A key set, from a file or a URL. Raises OSError, OutboundError or ValueError."""
    if "://" not in place:
        return Path(place).read_bytes()
    way = Outbound(_EVERYWHERE, allow_http=place.startswith("http://"))
    answer = way.request("GET", place, deadline_seconds=DEADLINE_SECONDS, most_bytes=MOST_BYTES)
    if answer.status != _OK or answer.truncated:
        raise ValueError(f"the key set's address answered {answer.status}")
    return answer.body


def tenant_name(issuer: OutsideIssuer, token: Verified) -> str | None:
    """The tenant that the token is of."""
    if issuer.tenant is not None:
        return issuer.tenant
    claimed = token.claims.get(issuer.tenant_claim or "")
    return claimed if isinstance(claimed, str) else None


def granted(issuer: OutsideIssuer, token: Verified) -> frozenset[Scope]:
    """The scopes that the token's words stand for: scopes themselves, and roles."""
    words = token.words(issuer.scope_claim)
    ours = [word.removeprefix(issuer.scope_prefix) for word in words if word.startswith(issuer.scope_prefix)]
    return known_scopes(ours).union(*(ROLES[word] for word in ours if word in ROLES))


def principal(issuer: OutsideIssuer, token: Verified, tenant_id: Any) -> Principal:
    """Whom a request with the token acts for; what he makes ends with the token, since nobody asks the issuer again."""
    ends = datetime.fromtimestamp(token.claims["exp"], UTC)
    subject = f"{token.issuer}#{token.subject}"
    return Principal(None, tenant_id, granted(issuer, token), subject=subject, expires_at=ends)
