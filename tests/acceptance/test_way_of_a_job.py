"""The straight way of a job, and the ways in which it fails: submit, poll, see how it ended."""

import csv
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from tests.acceptance.installation import Installation

IRIS = Path(__file__).parents[2] / "examples" / "iris.csv"

NASTY = {
    "unicode": "Zürich, 北京, 👩‍👩‍👧‍👦, \u202eright to left, e\u0301, \ufeff, \u2028",
    "controls": "\t\n\r\x01\x1f\x7f\"\\/'`$(){};--",
    "large": 1e22,
    "small": 5e-324,
    "negative zero": -0.0,
    "integers": [0, -1, 2**63 - 1, -(2**63), 2**53 + 1],
    "nothing": [None, "", [], {}, [[]], {"": {"": ""}}, False],
    "nested": [[[[{"a": [{"b": [1, [2, [3]]]}]}]]]],
    "keys": {"__proto__": 1, "a.b": 2, "a/b": 3, "~": 4, "NULL": None},
}


def as_written(value: Any) -> str:
    """Tells what == does not: 1 from 1.0 and from true, 0.0 from -0.0."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def test_a_profile_of_a_real_csv_file_is_right_in_every_column(installation: Installation):
    job = installation.submit("csv.profile", {"text": IRIS.read_text()})
    result = installation.succeeded(job)["result"]
    with IRIS.open(newline="") as file:
        names, *rows = csv.reader(file)
    assert result["rows"] == len(rows) == 150
    assert [column["name"] for column in result["columns"]] == names
    *measures, species = result["columns"]
    for column, cells in zip(measures, zip(*rows, strict=True), strict=False):
        numbers = [float(cell) for cell in cells]
        assert column == {
            "name": column["name"],
            "type": "number",
            "nulls": 0,
            "distinct": len(set(cells)),
            "min": min(numbers),
            "max": max(numbers),
            "mean": pytest.approx(fmean(numbers), rel=1e-12),
        }
    nothing = {"min": None, "max": None, "mean": None}
    assert species == {"name": "species", "type": "string", "nulls": 0, "distinct": 3, **nothing}


@pytest.mark.parametrize("value", [NASTY, [], {}, "", None, 0, False], ids=repr)
def test_an_echo_comes_back_exactly_as_it_was_sent(installation: Installation, value: Any):
    job = installation.submit("demo.echo", {"value": value})
    assert as_written(job["args"]) == as_written({"value": value})
    assert as_written(installation.succeeded(job)["result"]) == as_written({"value": value})


def test_what_was_asked_for_stays_with_the_job(installation: Installation):
    asked = {"priority": -7, "tags": {"customer": "42", "Ort": "Zürich"}, "max_attempts": 2, "timeout_seconds": 9}
    job = installation.submit("demo.echo", {"value": 1}, **asked)
    end = installation.succeeded(job)
    for seen in (job, end):
        assert {name: seen[name] for name in asked} == asked
    assert (job["state"], job["attempt"], job["result"], job["started_at"]) == ("queued", 0, None, None)
    assert (end["attempt"], end["lost"], end["error"]) == (1, 0, None)
    moments = [end[name] for name in ("created_at", "due_at", "dispatched_at", "started_at", "finished_at")]
    assert moments == sorted(moments)
    assert installation.events(end) == []


def test_a_job_that_fails_twice_succeeds_with_its_third_attempt(installation: Installation):
    job = installation.submit("demo.flaky", {"failures": 2})
    end = installation.succeeded(job)
    assert (end["attempt"], end["result"], end["error"]) == (3, {"attempt": 3}, None)
    history = installation.events(job)
    assert [(event["move"], event["attempt"]) for event in history] == [("retry", 1), ("retry", 2)]
    assert [event["error"]["message"].split(" of ")[0] for event in history] == ["Attempt 1", "Attempt 2"]


def test_a_job_that_never_succeeds_is_dead_and_each_attempt_tells_its_error(installation: Installation):
    job = installation.submit("demo.flaky", {"failures": 100}, max_attempts=3)
    end = installation.ended(job)
    assert (end["state"], end["attempt"], end["result"]) == ("dead", 3, None)
    assert end["error"] == {
        "type": "jobs.builtin.demo.DemoFailure",
        "message": "Attempt 3 of 100 that were asked to fail.",
        "code": "exception",
    }
    history = installation.events(job)
    assert [(event["move"], event["attempt"]) for event in history] == [("retry", 1), ("retry", 2), ("bury", 3)]
    assert [event["error"]["message"].split(" of ")[0] for event in history] == ["Attempt 1", "Attempt 2", "Attempt 3"]


def test_a_failure_keeps_the_message_it_was_raised_with(installation: Installation):
    message = 'no such file: "Straße.csv" 👻'
    end = installation.ended(installation.submit("demo.fail", {"message": message}, max_attempts=1))
    assert (end["state"], end["error"]["message"]) == ("dead", message)
