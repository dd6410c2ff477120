import math
from decimal import Decimal

import orjson
import pytest

from jobs.serialise import MOST_BYTES, NotSerialisable, clean_text, to_json


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 2**63 - 1, 1.5, "", "héllo 😀", [], {}, {"a": [1, {"b": None}]}, ["x"] * 1000],
)
def test_what_json_can_say_comes_back_as_it_was(value):
    assert orjson.loads(to_json(value)) == value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (2**63, "2^63"),
        (-(2**63) - 1, "2^63"),
        ({1: 2}, "key that is a int"),
        (object(), "is a object"),
        (b"x", "is a bytes"),
        (Decimal(1), "is a Decimal"),
        ({1, 2}, "is a set"),
        ({"rows": [{"mean": math.nan}]}, "'/rows/0/mean'"),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_place(value, words):
    with pytest.raises(NotSerialisable, match=words.replace("^", r"\^")):
        to_json(value)


def nested(levels: int) -> list:
    value: list = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_64_levels_are_taken_and_65_refused():
    assert to_json(nested(64)) == b"[" * 64 + b"]" * 64
    with pytest.raises(NotSerialisable, match="64 levels"):
        to_json([nested(65)])


def test_a_list_that_holds_itself_is_refused():
    ring: list = []
    ring.append(ring)
    with pytest.raises(NotSerialisable, match="64 levels"):
        to_json(ring)


def test_a_list_of_very_many_small_parts_may_fill_the_limit():
    assert len(to_json([1] * (2**19 - 1))) == MOST_BYTES - 1


def test_shared_lists_that_unfold_without_end_are_refused_soon():
    bomb: list = []
    for _ in range(50):
        bomb = [bomb, bomb]
    with pytest.raises(NotSerialisable, match="larger"):
        to_json(bomb)


def test_a_value_may_take_a_mebibyte_and_no_byte_more():
    assert len(to_json("x" * (MOST_BYTES - 2))) == MOST_BYTES
    with pytest.raises(NotSerialisable, match="larger than 1048576 bytes"):
        to_json("x" * (MOST_BYTES - 1))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\udfff", "\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
    ],
)
def test_text_that_postgresql_refuses_is_mended(text, cleaned):
    assert clean_text(text) == cleaned
    assert orjson.loads(to_json({text: [text]})) == {cleaned: [cleaned]}
