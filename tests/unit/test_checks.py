"""Checks: each for itself and within the deadline, what makes a secret weak, and how far clocks are surely apart."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from cli import check as check_module
from cli.check import CHECKS, check
from cli.checks.findings import Finding, Level, Patient, examine, fine, warning, wrong
from cli.checks.secrets import weakness
from cli.checks.truth import apart
from models import inspection
from models.errors import Unavailable
from models.ids import new_id
from tests.unit.test_docs import section, text

NOBODY: Any = None
CANARY = "hunter2canary"


def well(_patient: Patient) -> Iterator[Finding]:
    yield fine("It is well.")


def ill(_patient: Patient) -> Iterator[Finding]:
    yield wrong("It is ill.\x1b[31m")
    yield warning("It has a cold.")


def odd(_patient: Patient) -> Iterator[Finding]:
    yield warning("It has a cold.")


def broken(_patient: Patient) -> Iterator[Finding]:
    yield fine("Half of it is well.")
    raise RuntimeError(f"amqp://user:{CANARY}@mq")


def away(_patient: Patient) -> Iterator[Finding]:
    raise Unavailable("The database did not serve this: OperationalError")
    yield


def denied(_patient: Patient) -> Iterator[Finding]:
    raise PermissionError(13, "Permission denied", CANARY)
    yield


def frozen(_patient: Patient) -> Iterator[Finding]:
    threading.Event().wait()
    yield fine("Never.")


def test_a_check_that_fails_or_hangs_is_a_finding_and_the_others_are_made():
    began = time.monotonic()
    checks = {"well": well, "broken": broken, "frozen": frozen, "away": away, "denied": denied, "also": well}
    found = dict(examine(checks, NOBODY, 0.3))
    assert time.monotonic() - began < 1
    assert found == {
        "well": [fine("It is well.")],
        "broken": [wrong("could not be made: RuntimeError.")],
        "frozen": [wrong("gave no answer within 0.3 s.")],
        "away": [wrong("could not be made: The database did not serve this: OperationalError")],
        "denied": [wrong("could not be made: Permission denied.")],
        "also": [fine("It is well.")],
    }


@pytest.mark.parametrize(
    ("checks", "strict", "code"),
    [
        ({"a": well}, False, 0),
        ({"a": well, "b": odd}, False, 0),
        ({"a": well, "b": odd}, True, 1),
        ({"a": ill, "b": well}, False, 1),
        ({"a": ill}, True, 1),
    ],
)
def test_the_exit_code_says_whether_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, checks: Any, strict: bool, code: int
):
    monkeypatch.setattr(check_module, "CHECKS", checks)
    ended = CliRunner().invoke(check, ["--strict"] if strict else [])
    assert ended.exit_code == code


def test_a_finding_is_a_line_or_a_member_of_the_document(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(check_module, "CHECKS", {"first": well, "second": ill})
    lines = CliRunner().invoke(check, []).stdout.splitlines()
    assert [line.split(maxsplit=2) for line in lines] == [
        ["ok", "first", "It is well."],
        ["wrong", "second", "It is ill.\\x1b[31m"],
        ["warning", "second", "It has a cold."],
    ]
    document = orjson.loads(CliRunner().invoke(check, ["--json"]).stdout)
    assert document["status"] == "wrong"
    assert document["findings"][0] == {"check": "first", "level": "ok", "message": "It is well."}
    assert {finding["level"] for finding in document["findings"]} == set(Level)


def test_every_check_is_told_of_in_the_manual():
    page = text("operate/check.md")
    assert {name for name in CHECKS if section(page, name)} == set(CHECKS)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("4f1d9c0b7a2e8836d5c4417fe0ab93d21c6e5f70", None),
        ("Kz8wq3RtYvX1nB5mLpD7sGhJfA2cE9uT4iO6yW0kQbN", None),
        ("a" * 40, "different characters"),
        ("abababababcdcdcdcdcdefefefefefgh", "different characters"),
        ("0a9f8e7d6c5b4a3f0a9f8e7d6c5b4a3f", "repeats itself"),
        ("please-change-me-please-4f1d9c0b7a2e", "stands in examples"),
        ("my-jobmill-installation-4f1d9c0b7a", "stands in examples"),
        ("abcdefghijklmnopqrstuvwxyz4f1d9c", "counts up or down"),
        ("9876543210zq8wr7ty6ui5op4as3df2g", "counts up or down"),
    ],
)
def test_a_secret_that_may_be_guessed_is_seen_and_not_told(secret: str, why: str | None):
    told = weakness(secret)
    assert (why or "") in (told or "")
    assert (told is None) == (why is None)
    assert secret not in (told or "")


NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "theirs", "after", "difference"),
    [(0, 0, 0, 0), (0, 5, 10, 0), (0, 12, 10, 2), (0, -3, 10, -3), (0, 0, 10, 0), (0, 10, 10, 0)],
)
def test_clocks_are_apart_only_by_what_the_question_did_not_take(before: int, theirs: int, after: int, difference: int):
    moments = [NOON + timedelta(seconds=at) for at in (before, theirs, after)]
    assert apart(*moments) == timedelta(seconds=difference)


def test_an_id_tells_when_it_was_made():
    assert abs(inspection.made_at(new_id()) - datetime.now(UTC)) < timedelta(seconds=5)
