"""What a failure is told apart by: dead letters of one type and one fingerprint died of the same thing."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

_LENGTH = 16
_TOLD_OF_MESSAGE = 200
"""Characters of the message that count, once it is normalised: where a long one was cut depends on its numbers."""

_UUID = re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", re.IGNORECASE)
_ADDRESS = re.compile(r"0x[0-9a-f]+", re.IGNORECASE)
_NUMBERED = re.compile(r"\w*\d\w*")
# What stands between the parts of a time, a version, an IP address, a list of numbers.
_SEVERAL = re.compile(r"[-+]?#(?:[\s,.:;/+%-]*#)*")
_BLANKS = re.compile(r"\s+")


def fingerprint(error: Any) -> str:
    """16 hexadecimal digits made of an error document's `type`, `place` and `message`.

    The place names a function, not a line, and of the message the words count, not ids and numbers: so a group stays
    one over releases that only moved lines, and over all the customers whom it hit.
    """
    known = error if isinstance(error, Mapping) else {}
    parts = (error_type(error), _ADDRESS.sub("#", _text(known.get("place"))), normalised(_text(known.get("message"))))
    return hashlib.sha256("\0".join(map(_text, parts)).encode("utf-8", "replace")).hexdigest()[:_LENGTH]


def error_type(error: Any) -> str | None:
    """The class of the error, as its document names it."""
    kind = error.get("type") if isinstance(error, Mapping) else None
    return kind if isinstance(kind, str) else None


def normalised(message: str) -> str:
    """The message's beginning with `#` for every UUID, number, address, and word that has a digit in it."""
    words = _NUMBERED.sub("#", _UUID.sub("#", message))
    return _BLANKS.sub(" ", _SEVERAL.sub("#", words)).strip()[:_TOLD_OF_MESSAGE].strip()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
