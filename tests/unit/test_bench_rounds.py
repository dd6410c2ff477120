"""The arithmetic and the order behind every figure that is measured in rounds."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from bench import rounds
from bench.rounds import Benchmark, Compared, Way, in_turn
from bench.spread import ratios, spread
from bench.tables import KEPT, parts


def running(*found: float | Exception) -> Callable[[], dict[str, float]]:
    """What a way does that finds these, run by run."""
    left = iter(found)

    def run() -> dict[str, float]:
        one = next(left)
        if isinstance(one, Exception):
            raise one
        return {"jobs per second": one, "threads": 8.0}

    return run


def compared(*, apart: bool, **ways: Callable[[], dict[str, float]]) -> Compared:
    return Compared("drain", {name: Way("3 jobs", run) for name, run in ways.items()}, ["jobs per second"], apart)


def test_a_spread_is_the_median_with_its_ends() -> None:
    assert spread([5.0, 1.0, 2.0]) == (2.0, 1.0, 5.0)
    assert spread([4.0, 2.0]) == (3.0, 2.0, 4.0)


def test_a_ratio_is_that_of_the_same_round() -> None:
    """The second round was a quick one for both. Their medians' ratio would be 0.5."""
    assert ratios([10.0, 30.0, 10.0], [10.0, 20.0, 20.0]) == (1.0, 0.5, 1.5)


def test_a_ratio_takes_two_runs_of_each_round() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


def test_another_goes_first_in_each_round() -> None:
    assert ["".join(in_turn("abc", turn)) for turn in range(4)] == ["abc", "bac", "cab", "acb"]


def test_what_is_told_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(apart=False, first=running(100, 200, 400), second=running(200, 200, 200))
    for turn in range(3):
        found.one_round(turn)
    capsys.readouterr()
    found.tell()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["jobs", "per", "second", "200.0", "100.0", "400.0"] in lines
    assert ["jobs", "per", "second", "200.0", "200.0", "200.0", "1.00", "(0.50", "to", "2.00)"] in lines
    assert lines.count(["threads", "8.0", "8.0", "8.0"]) == 2  # a setting is set against nothing
    assert found.kept()["second"] == {
        "sample": "3 jobs",
        "runs": {"jobs per second": [200, 200, 200], "threads": [8, 8, 8]},
    }


def test_a_failure_leaves_the_others_that_are_apart(capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(apart=True, first=running(OSError("away"), 100.0), second=running(50.0, 300.0))
    with pytest.raises(SystemExit, match="drain of first in round 1"):
        Benchmark("nothing", 2, {}).measure([found])
    assert found.found["first"][1] == {"jobs per second": 100.0, "threads": 8.0}
    told = capsys.readouterr().out
    assert "away" in told
    assert "3.00 (3.00 to 3.00)" in told  # of the second round alone


def test_a_failure_ends_what_shares_an_installation() -> None:
    found = compared(apart=False, first=running(1.0, OSError("away")), second=running(1.0, 2.0))
    with pytest.raises(SystemExit, match="drain of first in round 2"):
        Benchmark("nothing", 5, {}).measure([found])
    assert found.found == {
        "first": [{"jobs per second": 1.0, "threads": 8.0}, None],
        "second": [{"jobs per second": 1.0, "threads": 8.0}, {"jobs per second": 2.0, "threads": 8.0}],
    }


def test_a_signal_is_no_run_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "leaving", Event())
    rounds.leaving.set()
    found = compared(apart=True, first=running(OSError("broken on the way out")), second=running(1.0))
    with pytest.raises(OSError, match="on the way out"):
        found.one_round(0)


def test_five_whole_rounds_are_kept_and_fewer_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[str]] = []
    monkeypatch.setattr(rounds, "KEPT", tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: drawn.append(command))
    for count, unkept, kept in ((4, "", False), (5, "only some were asked for", False), (5, "", True)):
        found = compared(apart=False, first=running(*range(1, 7)), second=running(*range(1, 7)))
        Benchmark("drains", count, {"commit": "abc"}).measure([found], unkept=unkept)
        assert tmp_path.joinpath("drains.json").exists() == kept
    document = json.loads(tmp_path.joinpath("drains.json").read_text())
    assert (document["commit"], document["rounds"]) == ("abc", 5)
    assert document["scenarios"]["drain"]["compared"] == ["jobs per second"]
    assert len(drawn) == 1


def test_a_warm_up_is_not_counted() -> None:
    found, tidied = compared(apart=False, first=running(1.0, 100.0), second=running(2.0, 200.0)), []
    found.before = lambda: tidied.append(1)
    found.warm_up()
    found.one_round(0)
    assert len(tidied) == 4
    assert found.found["first"] == [{"jobs per second": 100.0, "threads": 8.0}]


def test_what_is_kept_is_of_five_rounds_and_shown() -> None:
    page = KEPT.with_suffix(".md").read_text(encoding="utf-8")
    shown = set(re.findall(r"<!-- made by bin/docs\.py: (figures-[a-z-]+) -->", page))
    assert shown == set(parts())
    for kept in KEPT.glob("*.json"):
        document = json.loads(kept.read_text(encoding="utf-8"))
        assert document["rounds"] >= rounds.ROUNDS
        for found in document["scenarios"].values():
            for way in found["ways"].values():
                assert {len(runs) for runs in way["runs"].values()} == {document["rounds"]}
