import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.strict_json import BadJson, parse

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
DOCUMENTS = st.recursive(LEAVES | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=30)


@given(document=DOCUMENTS, ascii_only=st.booleans())
def test_whatever_json_can_say_is_read_as_it_was_written(document, ascii_only):
    assert parse(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b' {"a": 1}\n', {"a": 1}),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"1E400e"[:3], 10.0**4),
        (b"1e-400", 0.0),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'{"a": {"x": 1}, "b": {"x": 1}}', {"a": {"x": 1}, "b": {"x": 1}}),
        (b'"' + b"[" * 1000 + b'"', "[" * 1000),
        (b'["' + b'\\"[' * 1000 + b'"]', ['"[' * 1000]),
        (b"[" * 64 + b"]" * 64, json.loads("[" * 64 + "]" * 64)),
        (b"[" + b"[]," * 999 + b"[]]", [[]] * 1000),
    ],
)
def test_unusual_but_sound_json_is_taken(body, value):
    assert parse(body) == value


@pytest.mark.parametrize(
    ("body", "code", "offset"),
    [
        (b"", "empty", 0),
        (b"  ", "malformed", 2),
        (b"{", "malformed", 1),
        (b'{"a": 1} x', "malformed", 9),
        (b"[1,]", "malformed", 3),
        (b"01", "malformed", 1),
        (b"'a'", "malformed", 0),
        (b'"a\tb"', "malformed", 2),
        ('["é" x]'.encode(), "malformed", 6),
        (b"\xef\xbb\xbf{}", "not-utf-8", 0),
        ("{}".encode("utf-16"), "not-utf-8", 0),
        ("{}".encode("utf-16-le"), "nul-character", 1),
        (b'["\xff"]', "not-utf-8", 2),
        (b'"\xed\xa0\x80"', "not-utf-8", 1),
        (b'"\x00"', "nul-character", 1),
        (b'["\\u0000"]', "nul-character", 2),
        (b'{"\\u0000": 1}', "nul-character", 2),
        (b'"\\\\\\u0000"', "nul-character", 3),
        (b'"\\ud800"', "lone-surrogate", 1),
        (b'"\\uDC00\\uD800"', "lone-surrogate", 1),
        (b'"\\ud800x\\udc00"', "lone-surrogate", 1),
        (b"NaN", "number-not-finite", None),
        (b"[-Infinity]", "number-not-finite", None),
        (b"1e400", "number-not-finite", None),
        (b"-1" + b"0" * 400 + b".0", "number-not-finite", None),
        (b"9223372036854775808", "integer-out-of-range", None),
        (b"-9223372036854775809", "integer-out-of-range", None),
        (b"1" * 100_000, "integer-out-of-range", None),
        (b'{"a": 1, "b": 2, "a": 3}', "duplicate-member", None),
        (b'[{"x": {"a": 1, "\\u0061": 3}}]', "duplicate-member", None),
        (b"[" * 65 + b"]" * 65, "too-deep", None),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too-deep", None),
        (b"[" * 1_000_000, "too-deep", None),
        (b'["\\\\", ' + b"[" * 64 + b"]" * 64 + b', "x"]', "too-deep", None),
    ],
)
def test_what_a_later_step_would_stumble_over_is_refused_by_name(body, code, offset):
    with pytest.raises(BadJson) as refusal:
        parse(body)
    assert (refusal.value.code, refusal.value.offset) == (code, offset)


@pytest.mark.parametrize(
    "body",
    [
        b'["' + b'\\"' * 500_000,
        b'"' * 1_000_001,
        b"\\" * 1_000_000,
        b"[" * 65 + b'"' + b"\\" * 1_000_000,
        b"[]," * 300_000,
        b'"' + b"\\u00e9" * 170_000,
    ],
)
def test_a_hostile_mebibyte_costs_no_more_than_its_length(body):
    began = time.process_time()
    with pytest.raises(BadJson):
        parse(body)
    assert time.process_time() - began < 1
