"""The signatures of webhooks, by Standard Webhooks (https://www.standardwebhooks.com), version `v1`: HMAC-SHA-256.

A secret is shown as `whsec_` and base64. It signs `id.timestamp.body` with exactly the bytes that are sent, so neither
the id nor the time can be changed without its holder. While secrets overlap, each of them signs.
"""

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from secrets import token_bytes

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
VERSION = "v1"
TOLERANCE_SECONDS = 300

_PREFIX = "whsec_"
_NEW_BYTES = 32
_LEAST_BYTES, _MOST_BYTES = 24, 64
_MOST_DIGITS = 12


class NotVerified(Exception):  # noqa: N818 - named for what happened
    """A request that is not known to be its sender's; the message says why and holds no signature."""


def new_secret() -> str:
    """A fresh secret, as an endpoint's owner sees it."""
    return _PREFIX + b64encode(token_bytes(_NEW_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that a secret stands for, with or without its prefix. Raises ValueError, which does not repeat it."""
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):  # the latter for what is not ASCII
        raise ValueError(f"A secret is {_PREFIX} and base64; this one is not.") from None
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ValueError(f"A secret has {_LEAST_BYTES} to {_MOST_BYTES} bytes, not {len(key)}.")
    return key


def signature(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """One signature by each secret, in their order, with blanks between them."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        f"{VERSION},{b64encode(hmac.digest(key_of(secret), signed, 'sha256')).decode()}" for secret in secrets
    )


def headers(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """What is sent along with the body; the timestamp is that of this attempt, in whole seconds."""
    signatures = signature(secrets, message_id, timestamp, body)
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: signatures}


def verify(
    secrets: Sequence[str],
    received: Mapping[str, str],
    body: bytes,
    now: float,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> None:
    """Return if one of the secrets signed these headers and these bytes lately. Raises NotVerified."""
    named = {name.lower(): value for name, value in received.items()}
    message_id, timestamp = _field(named, ID), _seconds(_field(named, TIMESTAMP))
    off = now - timestamp
    if abs(off) > tolerance_seconds:
        which = "ago" if off > 0 else "ahead"
        raise NotVerified(f"It was signed {abs(off):.0f} seconds {which}, and {tolerance_seconds:g} are allowed.")
    given = _field(named, SIGNATURE).split()
    right = signature(secrets, message_id, timestamp, body).split()
    # Signatures of other versions are compared as well, and fit none.
    if not any(hmac.compare_digest(one, other) for one in right for other in given):
        raise NotVerified("No signature in it was made with this secret over these bytes.")


def _field(named: Mapping[str, str], name: str) -> str:
    value = named.get(name, "")
    if not value or not value.isascii():
        raise NotVerified(f"The header {name} is {'not ASCII' if value else 'missing'}.")
    return value


def _seconds(text: str) -> int:
    # int() alone would take blanks, signs and underscores, which other receivers read otherwise.
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        raise NotVerified(f"The header {TIMESTAMP} is not a whole number of seconds.")
    return int(text)
