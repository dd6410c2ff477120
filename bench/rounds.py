"""Ways to do one thing, measured in turns: a round is one run of each, and another goes first in each round.

So a slow hour hits all alike. Tells medians with the least and the most, and each way's ratio to the first one's, round
by round; keeps docs/benchmarks/<name>.json, and draws it.
"""

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.machine import described
from bench.spread import ratios, spread
from bench.surroundings import PYTHON, provide
from bench.tables import KEPT

ROUNDS = 5
"""Runs of fewer are told, and not kept."""

leaving = threading.Event()
"""Set by a signal that ends the benchmark."""

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Way:
    """What one run measures; `sample` says in words what a run is of."""

    sample: str
    run: Callable[[], Figures]


@dataclass
class Compared:
    """A scenario, its ways, the first of which the others are set against in those `figures`, and what was found.

    Where each run is `apart`, in surroundings of its own, one that fails leaves nothing behind for the next; else each
    begins with `before`, which is not measured.
    """

    scenario: str
    ways: Mapping[str, Way]
    figures: Sequence[str]
    apart: bool = False
    before: Callable[[], None] = lambda: None
    found: dict[str, list[Figures | None]] = field(init=False)
    """The runs of each way in the order of the rounds; None for one that failed."""
    failed: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.found = {name: [] for name in self.ways}

    def warm_up(self) -> None:
        """Run each way once, not counted: a service that is seconds old is slower."""
        for name in self.ways:
            _tell_run(f"not counted, {self.scenario}, {name}", self._run(name))

    def _run(self, name: str) -> Figures:
        self.before()
        return self.ways[name].run()

    def one_round(self, turn: int) -> None:
        """Run each way once. One that fails is told; where runs are not apart, the round ends with it."""
        for name in in_turn(list(self.ways), turn):
            try:
                figures = self._run(name)
            except Exception as error:
                if leaving.is_set():
                    raise
                # Whatever else it is, what the others found is worth telling.
                self.failed.append(f"{self.scenario} of {name} in round {turn + 1}")
                print(f"{self.failed[-1]} failed: {type(error).__name__}: {error}", flush=True)
                self.found[name].append(None)
                if not self.apart:
                    return
                continue
            _tell_run(f"round {turn + 1}, {self.scenario}, {name}", figures)
            self.found[name].append(figures)

    def tell(self) -> None:
        """One line a figure, and where the ways are set against each other its ratio to the first way's."""
        first = next(iter(self.ways))
        print(f"\n{self.scenario:<46} {'median':>10} {'least':>10} {'most':>10}   to {first}")
        for name, way in self.ways.items():
            print(f"{name}, {way.sample}")
            for figure, runs in self._by_figure(name).items():
                ratio = self._ratio(name, first, figure) if name != first and figure in self.figures else ""
                print(f"  {figure:<44} {' '.join(f'{value:>10,.1f}' for value in spread(runs))}   {ratio}")

    def _by_figure(self, name: str) -> dict[str, list[float]]:
        whole = [run for run in self.found[name] if run is not None]
        return {figure: [run[figure] for run in whole] for figure in (whole[0] if whole else ())}

    def _ratio(self, name: str, first: str, figure: str) -> str:
        rounds = zip(self.found[name], self.found[first], strict=False)
        pairs = [(run[figure], base[figure]) for run, base in rounds if run is not None and base is not None]
        if not pairs:
            return ""
        middle, least, most = ratios(*zip(*pairs, strict=True))
        return f"{middle:.2f} ({least:.2f} to {most:.2f})"

    def kept(self) -> dict[str, object]:
        """As the JSON has it; of whole rounds only."""
        return {
            name: {
                "sample": way.sample,
                "runs": {figure: [round(value, 2) for value in runs] for figure, runs in self._by_figure(name).items()},
            }
            for name, way in self.ways.items()
        }


@dataclass(frozen=True)
class Benchmark:
    """What somebody asked for, and the machine as it was before anything was measured."""

    name: str
    rounds: int
    described: Mapping[str, object]

    def compare(self, ways: Mapping[str, Way], *figures: str, before: Callable[[], None]) -> None:
        """Measure one scenario, whose ways share an installation."""
        compared = Compared(self.name, ways, figures, before=before)
        compared.warm_up()
        self.measure([compared])

    def measure(self, scenarios: Sequence[Compared], *, unkept: str = "") -> None:
        """Measure all, tell, keep and draw, if nothing says why it is `unkept`; exits if a run failed."""
        failed: list[str] = []
        for turn in range(self.rounds):
            for each in scenarios:
                each.one_round(turn)
            failed = [run for each in scenarios for run in each.failed]
            if failed and not all(each.apart for each in scenarios):
                break
        for each in scenarios:
            each.tell()
        if failed:
            sys.exit("Not kept, since these runs failed, see above: " + "; ".join(failed))
        unkept = unkept or (f"that takes {ROUNDS} rounds" if self.rounds < ROUNDS else "")
        if unkept:
            print(f"\nNot kept: {unkept}.")
        else:
            self._keep(scenarios)

    def _keep(self, scenarios: Sequence[Compared]) -> None:
        found = {each.scenario: {"compared": list(each.figures), "ways": each.kept()} for each in scenarios}
        document = {**self.described, "rounds": self.rounds, "scenarios": found}
        KEPT.mkdir(exist_ok=True)
        KEPT.joinpath(f"{self.name}.json").write_text(json.dumps(document, indent=1) + "\n")
        subprocess.run([PYTHON, "-m", "bench.plot"], check=True)


def in_turn(names: Sequence[str], turn: int) -> list[str]:
    """Another goes first in each round, and in every other round they go the other way round."""
    first = turn % len(names)
    turned = [*names[first:], *names[:first]]
    return turned if turn % 2 == 0 else [turned[0], *turned[:0:-1]]


def takes_rounds(parser: argparse.ArgumentParser) -> None:
    """Give the parser its `--rounds`."""
    parser.add_argument(
        "--rounds", type=_from_one, default=ROUNDS, help=f"{ROUNDS} unless said, and at least to be kept"
    )


def prepare(benchmark: str, arguments: Sequence[str]) -> Benchmark:
    """What somebody asks for; what draws its figures is made before anything is measured."""
    parser = argparse.ArgumentParser(prog=f"make bench ARGS={benchmark}")
    takes_rounds(parser)
    rounds = int(parser.parse_args(arguments).rounds)
    if rounds >= ROUNDS:
        provide()
    return Benchmark(benchmark, rounds, described())


def tell(name: str, value: float) -> None:
    """Print a figure that is measured once."""
    print(f"{name:<66} {value:>12,.3f}", flush=True)


def _tell_run(what: str, figures: Figures) -> None:
    print(f"{what}: {', '.join(f'{figure} {value:,.1f}' for figure, value in figures.items())}", flush=True)


def _from_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it takes one round at least")
    return number
