"""Ways to do one thing, measured in turns: a round is one run of each, and another goes first in each round.

So a slow hour hits all alike. Tells medians with the least and the most, keeps docs/benchmarks/<name>.json, and draws
it.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.machine import about
from bench.surroundings import PYTHON, provide

FOLDER = Path("docs/benchmarks")
ROUNDS = 5
"""Runs of fewer are told, and not kept."""

Figures = dict[str, list[float]]
"""The runs of each figure, by name, in the order of the rounds."""


@dataclass(frozen=True)
class Way:
    """What one run measures, of so many jobs."""

    jobs: int
    run: Callable[[], Mapping[str, float]]


@dataclass
class Compared:
    """A scenario, its ways, the first of which the others are set against, and what their runs have found."""

    scenario: str
    ways: Mapping[str, Way]
    found: dict[str, Figures] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.found = {name: {} for name in self.ways}

    def one_round(self, turn: int) -> None:
        """Run each way once. One that fails is told, and the others go on."""
        for name in in_turn(list(self.ways), turn):
            try:
                figures = self.ways[name].run()
            except (subprocess.SubprocessError, OSError, RuntimeError) as error:
                self.failed.append(f"{self.scenario} of {name} in round {turn + 1}")
                print(f"{self.failed[-1]} failed: {error}", flush=True)
                continue
            told = ", ".join(f"{figure} {value:,.1f}" for figure, value in figures.items())
            print(f"round {turn + 1}, {self.scenario}, {name}: {told}", flush=True)
            for figure, value in figures.items():
                self.found[name].setdefault(figure, []).append(value)

    def tell(self) -> None:
        """One line a figure, with its ratio to the first way's."""
        first = next(iter(self.ways))
        print(f"\n{self.scenario:<42} {'jobs':>7} {'median':>10} {'least':>10} {'most':>10} to {first}")
        for name, figures in self.found.items():
            for figure, runs in figures.items():
                base = self.found[first].get(figure)
                ratio = f"{median(runs) / median(base):.2f}" if base else ""
                spread = f"{median(runs):>10,.1f} {min(runs):>10,.1f} {max(runs):>10,.1f}"
                print(f"{f'{name}, {figure}':<42} {self.ways[name].jobs:>7,} {spread} {ratio:>11}")

    def kept(self) -> dict[str, object]:
        """As the JSON has it."""
        return {
            name: {
                "jobs": self.ways[name].jobs,
                "medians": {figure: round(median(runs), 2) for figure, runs in figures.items()},
                "runs": {figure: [round(value, 2) for value in runs] for figure, runs in figures.items()},
            }
            for name, figures in self.found.items()
        }


def in_turn(names: Sequence[str], turn: int) -> list[str]:
    """Another goes first in each round."""
    first = turn % len(names)
    return [*names[first:], *names[:first]]


def takes_rounds(parser: argparse.ArgumentParser) -> None:
    """Give the parser its `--rounds`."""
    parser.add_argument(
        "--rounds", type=_from_one, default=ROUNDS, help=f"{ROUNDS} unless said, and at least to be kept"
    )


def rounds_of(benchmark: str, arguments: Sequence[str]) -> int:
    """How many rounds somebody asks for; what draws their figures is made before anything is measured."""
    parser = argparse.ArgumentParser(prog=f"make bench ARGS={benchmark}")
    takes_rounds(parser)
    rounds = int(parser.parse_args(arguments).rounds)
    if rounds >= ROUNDS:
        provide()
    return rounds


def _from_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it takes one round at least")
    return number


def compare(scenario: str, ways: Mapping[str, Way], rounds: int) -> None:
    """A benchmark of one scenario: as `finish`."""
    finish(scenario, [Compared(scenario, ways)], rounds, about(), whole=True)


def finish(
    benchmark: str, scenarios: Sequence[Compared], rounds: int, described: Mapping[str, object], *, whole: bool
) -> None:
    """Measure all, tell, keep what is whole, and draw it; exits if a run failed."""
    for turn in range(rounds):
        for each in scenarios:
            each.one_round(turn)
    for each in scenarios:
        each.tell()
    failed = [run for each in scenarios for run in each.failed]
    if whole and rounds >= ROUNDS and not failed:
        _keep(benchmark, scenarios, rounds, described)
    else:
        print(f"\nNot kept: only whole runs of at least {ROUNDS} rounds are.")
    if failed:
        sys.exit("These runs failed, see above: " + "; ".join(failed))


def _keep(benchmark: str, scenarios: Sequence[Compared], rounds: int, described: Mapping[str, object]) -> None:
    document = {**described, "rounds": rounds, "scenarios": {each.scenario: each.kept() for each in scenarios}}
    FOLDER.mkdir(exist_ok=True)
    FOLDER.joinpath(f"{benchmark}.json").write_text(json.dumps(document, indent=1) + "\n")
    subprocess.run([PYTHON, "-m", "bench.plot"], check=True)
