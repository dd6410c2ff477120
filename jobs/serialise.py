"""JSON that every database here can store: what a handler returned, or saved, as checked UTF-8 bytes."""

import math
import re
from typing import NoReturn

import orjson

from jobs.outcomes import Json

MOST_BYTES = 1024 * 1024
MOST_DEPTH = 64
LEAST_INTEGER = -(2**63)
MOST_INTEGER = 2**63 - 1

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Place = tuple["Place", object] | None
"""Where a part stands: its container's place and its key there. Linked, since a path of each part is costly."""


class NotSerialisable(ValueError):  # noqa: N818 - reads as the sentence it is
    """The value is no JSON that can be stored; the message says which part and why."""


def to_json(value: Json, most_bytes: int = MOST_BYTES) -> bytes:
    """The value as JSON in UTF-8, its text cleaned as `clean_text` does. Raises NotSerialisable."""
    body = orjson.dumps(_Walk(most_bytes).plain(value, None, 0))
    if len(body) > most_bytes:
        _too_large(most_bytes)
    return body


def clean_text(text: str) -> str:
    """The text with NULs and lone surrogates, which PostgreSQL refuses, replaced by U+FFFD."""
    if not _UNSTORABLE.search(text):
        return text
    # By way of UTF-16 two halves that belong together become the character that they meant.
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\x00", "\ufffd")


class _Walk:
    """Copies a value into plain JSON types; counts its parts, since shared lists may unfold without end."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._parts_left = most_bytes // 2 + 1  # each part takes a byte at least, and a comma or brackets another

    def plain(self, value: Json, place: Place, depth: int) -> Json:
        """The value as None, bool, int, float, str, list or dict."""
        self._count(place, depth)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return clean_text(value)
        if isinstance(value, int):
            return _integer(value, place)
        if isinstance(value, float):
            return _number(value, place)
        return self._container(value, place, depth + 1)

    def _count(self, place: Place, depth: int) -> None:
        self._parts_left -= 1
        if self._parts_left < 0:
            _too_large(self._most_bytes)
        if depth > MOST_DEPTH:
            _refuse(f"is nested deeper than {MOST_DEPTH} levels", place)

    def _container(self, value: Json, place: Place, depth: int) -> Json:
        if isinstance(value, (list, tuple)):
            return [self.plain(part, (place, number), depth) for number, part in enumerate(value)]
        if isinstance(value, dict):
            return {_key(key, place): self.plain(part, (place, key), depth) for key, part in value.items()}
        return _refuse(f"is a {type(value).__qualname__}, which JSON does not have", place)


def _integer(value: int, place: Place) -> int:
    if not LEAST_INTEGER <= value <= MOST_INTEGER:
        _refuse("is an integer outside -2^63 to 2^63 - 1; return it as a string", place)
    return int(value)


def _number(value: float, place: Place) -> float:
    if not math.isfinite(value):
        _refuse(f"is {value}, which JSON does not have; return null or a string", place)
    return float(value)


def _key(key: object, place: Place) -> str:
    if not isinstance(key, str):
        _refuse(f"has a key that is a {type(key).__qualname__}; JSON keys are strings", place)
    return clean_text(key)


def _refuse(problem: str, place: Place) -> NoReturn:
    where = clean_text(_pointer(place)[:200])
    raise NotSerialisable(f"The value at {where!r} {problem}." if where else f"The value {problem}.")


def _pointer(place: Place) -> str:
    return f"{_pointer(place[0])}/{place[1]}" if place else ""


def _too_large(most_bytes: int) -> NoReturn:
    raise NotSerialisable(f"The value is larger than {most_bytes} bytes as JSON; store it elsewhere, return where.")
