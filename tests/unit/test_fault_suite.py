"""What the fault suite takes from whoever runs it, and what it keeps."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import figures
from tests.faults.conftest import fault_settings


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where figures of these tests go, which are nobody else's."""
    file = tmp_path / "figures.json"
    monkeypatch.setenv(figures.VARIABLE, str(file))
    yield file
    figures.end(passed=False)


def test_figures_of_a_test_that_passed_replace_those_of_before(kept: Path):
    for seconds in (1.0, 2.0):
        figures.keep("child-dies", "queued again after", seconds, "s")
        figures.end(passed=True)
    figures.keep("child-dies", "running again after", 3.0, "s")
    figures.end(passed=True)
    assert json.loads(kept.read_text()) == {"child-dies": {"queued again after": "2 s", "running again after": "3 s"}}


def test_figures_of_a_test_that_failed_are_not_kept(kept: Path):
    figures.keep("child-dies", "queued again after", 1.0, "s")
    figures.end(passed=False)
    figures.end(passed=True)
    assert not kept.exists()


def test_a_file_of_settings_is_for_every_installation_but_what_the_suite_needs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "production.env"
    file.write_text("JOBMILL_THREADS=32\nJOBMILL_JOBS=mine\n")
    monkeypatch.setenv("JOBMILL_TEST_SETTINGS", str(file))
    settings = fault_settings()
    assert (settings["JOBMILL_THREADS"], settings["JOBMILL_JOBS"]) == ("32", "fault_jobs")
    monkeypatch.delenv("JOBMILL_TEST_SETTINGS")
    assert "JOBMILL_THREADS" not in fault_settings()
