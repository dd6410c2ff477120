"""What makes two failures one: the class of the error, the place, and the words of the message."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fingerprint import error_type, fingerprint, normalised

WORDS = st.lists(st.sampled_from(["no", "such", "column", "of", "customer", "é", "数据", "in:", "(table)"]), min_size=1)
IDS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.uuids().map(str),
    st.uuids().map(lambda it: it.hex),
    st.integers(0, 2**64).map(hex),
    st.datetimes().map(lambda it: it.isoformat()),
    st.ip_addresses(v=4).map(str),
    st.integers(0).map(lambda number: f"cus_{number}x"),
)
ERROR = {"type": "KeyError", "message": "no column 17", "place": "acme.reports:monthly", "code": "exception"}


def interleaved(words: list[str], ids: list[str]) -> str:
    return " ".join(part for at, word in enumerate(words) for part in (word, ids[at % len(ids)]))


@settings(deadline=None)
@given(words=WORDS, some=st.lists(IDS, min_size=1), others=st.lists(IDS, min_size=1))
def test_ids_and_numbers_of_a_message_do_not_count(words: list[str], some: list[str], others: list[str]):
    one, other = (ERROR | {"message": interleaved(words, ids)} for ids in (some, others))
    assert fingerprint(one) == fingerprint(other)


@settings(deadline=None)
@given(message=st.text())
def test_what_is_normalised_stays_so_and_has_no_digit(message: str):
    once = normalised(message)
    assert normalised(once) == once
    assert len(once) <= 200
    assert not any(letter.isdecimal() for letter in once)


@settings(deadline=None)
@given(words=WORDS, word=st.sampled_from(["row", "file"]))
def test_a_message_of_other_words_is_another_failure(words: list[str], word: str):
    message = " ".join(words)[:150]
    assert fingerprint(ERROR | {"message": message}) != fingerprint(ERROR | {"message": f"{word} {message}"})


@pytest.mark.parametrize(
    ("message", "left"),
    [
        ("no column 17", "no column #"),
        ("'customer-42'", "'customer#'"),
        ("row 1,000.5 of [1, 2, 3]", "row # of [#]"),
        ("10.0.0.1:5432 refused after -1.5e-07 s", "# refused after # s"),
        ("job 01936f6e-2f5c-7a2b-9c3d-5e8f1a2b3c4d at 2027-01-01T00:00:00Z", "job # at #"),
        ("abcdefab-cdef-abcd-efab-cdefabcdefab is gone", "# is gone"),
        ("<Row object at 0x7F3A>", "<Row object at #>"),
        ("expected 3 columns, got 5", "expected # columns, got #"),
        ("  two\n\tlines ", "two lines"),
        ("", ""),
    ],
)
def test_what_is_left_of_a_message(message: str, left: str):
    assert normalised(message) == left


def test_the_end_of_a_long_message_does_not_count():
    """Where it was cut when it was recorded depends on how long its numbers are."""
    assert fingerprint(ERROR | {"message": "x " * 300 + "a"}) == fingerprint(ERROR | {"message": "x " * 300 + "…"})


@pytest.mark.parametrize(
    "changed",
    [{"type": "ValueError"}, {"place": "acme.reports:yearly"}, {"place": None}, {"message": "no row 17"}],
    ids=str,
)
def test_another_class_place_or_message_is_another_failure(changed: dict[str, Any]):
    assert fingerprint(ERROR | changed) != fingerprint(ERROR)


@pytest.mark.parametrize("changed", [{"trace": "line 7"}, {"code": "other"}], ids=str)
def test_nothing_else_makes_a_difference(changed: dict[str, Any]):
    assert fingerprint(ERROR | changed) == fingerprint(ERROR)


def test_parts_do_not_run_into_each_other():
    assert fingerprint({"type": "ab", "place": "c"}) != fingerprint({"type": "a", "place": "bc"})


def test_an_address_in_a_place_does_not_count():
    """As of a module that was made while the process ran."""
    one, other = ({**ERROR, "place": f"module_at_{address}:run"} for address in ("0x7f3a", "0x1c00"))
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize("error", [None, "x", 7, [], {}, {"type": 7, "message": None, "place": {}}], ids=repr)
def test_whatever_a_release_recorded_has_a_fingerprint(error: Any):
    assert fingerprint(error) == fingerprint({})
    assert error_type(error) is None


def test_a_fingerprint_is_the_same_in_every_release():
    """Groups that are in the database are found by it: a change would part each failure into two."""
    assert fingerprint(ERROR) == "7735e8c6f71e9306"
    assert error_type(ERROR) == "KeyError"
