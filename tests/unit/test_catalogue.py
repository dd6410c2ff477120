"""The catalogue of faults and the tests agree."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from tests.faults.catalogue import LONG, LONGER, TESTS, UNCHECKED, Claim, claims, names


@pytest.fixture(scope="module")
def known() -> list[Claim]:
    return claims()


def test_every_fault_is_provoked_by_a_test(known: list[Claim]):
    assert names() - {claim.fault for claim in known} == set()


def test_no_test_claims_a_fault_that_is_not_in_the_catalogue(known: list[Claim]):
    assert {claim.fault for claim in known} <= names()


def test_every_figure_on_the_page_is_one_that_a_test_makes():
    figures = json.loads((TESTS.parent / "docs" / "reliability.json").read_text(encoding="utf-8"))
    assert figures.keys() <= names()
    makers = [*(TESTS / "faults").glob("*.py"), TESTS / "integration" / "test_parent.py"]
    words = "\n".join(path.read_text(encoding="utf-8") for path in makers)
    shown = [what for measured in figures.values() for what in measured]
    assert [what for what in shown if f'"{what}"' not in words] == []


def test_every_claim_says_how(known: list[Claim]):
    assert all(claim.provoked for claim in known)


def test_every_fault_has_a_test_that_ends_with_a_look_at_the_invariants(known: list[Claim]):
    assert names() - {claim.fault for claim in known if claim.checked} == set(UNCHECKED)


def test_when_a_test_runs_and_whether_it_checks_is_read_from_its_source(tmp_path: Path):
    path = tmp_path / "test_marks.py"
    source = dedent("""
        CASES = [1, pytest.param(2, marks=pytest.mark.long)]

        @pytest.mark.fault("one", "always")
        def test_always():
            check()

        @pytest.mark.long
        @pytest.mark.fault("two", "long")
        def test_long():
            helper()

        @pytest.mark.fault("three", "one of its cases is")
        @pytest.mark.parametrize("case", CASES)
        def test_some(case):
            helped = helper

        def helper():
            judge()
    """)
    path.write_text(source)
    found = [(claim.fault, claim.when, claim.checked) for claim in claims(tmp_path)]
    assert found == [("one", "", True), ("two", LONG, True), ("three", LONGER, False)]
    path.write_text("pytestmark = [pytest.mark.long]\n" + source)
    assert {claim.when for claim in claims(tmp_path)} == {LONG}
