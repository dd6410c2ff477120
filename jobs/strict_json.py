"""The one parser for JSON from outside (RFC 8259, and stricter where a later step would stumble).

What Python's parser lets pass and our databases or other readers do not: UTF-16, NaN, 1e400, duplicate
members, NUL characters, lone surrogates, integers beyond 64 bits, any depth. All are refused here.
"""

import json
import math
import re
from itertools import accumulate
from typing import NoReturn

from jobs.outcomes import Json
from jobs.serialise import LEAST_INTEGER, MOST_DEPTH, MOST_INTEGER

_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
# Only such numbers can leave the range; without one, the parser's own number types are safe and faster.
_MAYBE_OUT_OF_RANGE = re.compile(rb"\d{19}|\d[eE]")
# Reads escape after escape, so that the second half of `\\` is not taken for the start of `\u0000`.
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|\\u(?:(?P<nul>0000)|(?P<surrogate>[dD][89a-fA-F][0-9a-fA-F]{2}))"
    r"|\\.",
    re.DOTALL,
)
_LONGEST_INTEGER = len(str(LEAST_INTEGER))


class BadJson(ValueError):  # noqa: N818 - reads as the sentence it is
    """The bytes are no JSON that we take. `code` is for programs, `offset` counts bytes where known."""

    def __init__(self, code: str, detail: str, offset: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.offset = offset


def parse(body: bytes) -> Json:
    """The value that the bytes express; raises BadJson. Time is linear in the length of the body."""
    if not body:
        raise BadJson("empty", "The body is empty; send a JSON document.", 0)
    text = _decode(body)
    _check_depth(body)
    _check_escapes(text)
    decoder = _CAREFUL if _MAYBE_OUT_OF_RANGE.search(body) else _QUICK
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise BadJson("malformed", f"This is not JSON: {error}.", _byte_offset(text, error.pos)) from None


def _decode(body: bytes) -> str:
    if body.startswith(b"\xef\xbb\xbf"):
        raise BadJson("not-utf-8", "Send UTF-8 without a byte order mark.", 0)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadJson("not-utf-8", f"This is not UTF-8: {error.reason}.", error.start) from None
    if "\x00" in text:
        raise BadJson("nul-character", "NUL characters are not accepted (is this UTF-16?).", body.index(0))
    return text


def _check_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= MOST_DEPTH:
        return
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    outside_strings = b"".join(unescaped.split(b'"')[::2])
    brackets = outside_strings.translate(None, delete=_NOT_BRACKETS)
    if max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets), default=0) > MOST_DEPTH:
        raise BadJson("too-deep", f"The document is nested deeper than {MOST_DEPTH} levels.")


def _check_escapes(text: str) -> None:
    if "\\u" not in text:
        return
    for escape in _ESCAPE.finditer(text):
        if escape["nul"]:
            raise BadJson("nul-character", "NUL characters are not accepted.", _byte_offset(text, escape.start()))
        if escape["surrogate"]:
            raise BadJson("lone-surrogate", "Half of a surrogate pair.", _byte_offset(text, escape.start()))


def _byte_offset(text: str, position: int) -> int:
    return len(text[:position].encode())


def _members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise BadJson("duplicate-member", f"The member {twice[:100]!r} stands twice in one object.")
    return members


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER or not LEAST_INTEGER <= (value := int(digits)) <= MOST_INTEGER:
        raise BadJson("integer-out-of-range", f"{digits[:40]} is outside -2^63 to 2^63 - 1.")
    return value


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise BadJson("number-not-finite", f"{digits[:40]} is too large for a double.")
    return value


def _no_constant(name: str) -> NoReturn:
    raise BadJson("number-not-finite", f"{name} is not JSON; send null or a string.")


_QUICK = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_no_constant)
_CAREFUL = json.JSONDecoder(
    object_pairs_hook=_members, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite
)
