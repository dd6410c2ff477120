import base64
from uuid import UUID

import pytest

from api.paging import Cursors
from api.problems import Problem

KEY = b"k" * 32
TENANT, OTHER_TENANT = UUID(int=1), UUID(int=2)
LAST = str(UUID(int=3))
MINE = Cursors(KEY, "jobs", TENANT)


def test_a_cursor_leads_back_to_where_it_was_made():
    assert MINE.read(MINE.after(LAST)) == LAST


def test_a_cursor_needs_no_escaping_in_an_address():
    assert set(MINE.after("~" * 100 + "\xff\xfe")) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    )


@pytest.mark.parametrize(
    "foreign",
    [
        Cursors(KEY, "jobs", OTHER_TENANT),
        Cursors(KEY, "jobs", None),
        Cursors(KEY, f"events of {LAST}", TENANT),
        Cursors(b"x" * 32, "jobs", TENANT),
    ],
    ids=["another tenant's", "a platform key's", "another list's", "another installation's"],
)
def test_a_foreign_cursor_is_refused(foreign):
    with pytest.raises(Problem) as raised:
        MINE.read(foreign.after(LAST))
    assert raised.value.code == "invalid-cursor"


def _flipped(position: int) -> str:
    raw = bytearray(base64.urlsafe_b64decode(MINE.after(LAST) + "=="))
    raw[position] ^= 1
    return base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")


def test_a_cursor_may_name_anything():
    for last in ("a", "csv.profile", "x" * 100, "ü"):
        assert MINE.read(MINE.after(last)) == last


@pytest.mark.parametrize(
    "forged",
    [
        *[_flipped(position) for position in (0, 15, 16, 51)],
        MINE.after(LAST)[:-4],
        MINE.after(LAST) + "AAAA",
        base64.urlsafe_b64encode(LAST.encode()).decode(),
        base64.urlsafe_b64encode(bytes(16) + LAST.encode()).decode(),
        MINE.after(LAST) + "=",
        MINE.after(LAST)[:-1] + chr(ord(MINE.after(LAST)[-1]) + 1),
        "",
        "A",
        "=",
        "====",
        "null",
        str(LAST),
        "ünïcode",
        "\x00",
        "a b c",
        "+/+/",
        "A" * 200,
    ],
)
def test_a_forged_cursor_is_refused(forged):
    with pytest.raises(Problem) as raised:
        MINE.read(forged)
    assert raised.value.code == "invalid-cursor"
