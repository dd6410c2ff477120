"""`make bench ARGS=peers`: Jobmill and its peers through the same scenarios, in turns, in one run.

Every run of a scenario is in surroundings of its own; a round is one run of each subject, so that an hour hits all
alike. Tells medians with the least and the most, keeps docs/benchmarks/peers.json, and draws its figures.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from subprocess import PIPE

from bench import jobmill_side
from bench.machine import machine, provenance, versions
from bench.surroundings import PYTHON, provide, surroundings

SUBJECTS = {  # the peers by their module in bench/peers/
    "jobmill": None,
    "dramatiq": "plain_dramatiq",
    "celery-postgresql": "celery_postgresql",
    "celery-redis": "celery_redis",
    "procrastinate": "procrastinate_batches",
    "pgqueuer": "pgqueuer_batches",
}
SLOW = ("celery-postgresql", "celery-redis", "procrastinate")
COUNTS = {"end-to-end": (20_000, 2_000), "drain": (20_000, 2_000), "enqueue": (3_000, 3_000), "latency": (300, 300)}
QUICKER = 20
KEPT = Path("docs/benchmarks/peers.json")
DEADLINE = 900

Figures = dict[str, list[float]]


def main(arguments: Sequence[str]) -> None:
    """Measure, tell, keep, draw; fails at the end if a run failed."""
    chosen = _chosen(arguments)
    urls = {name: os.environ[f"JOBMILL_TEST_{name.upper()}_URL"] for name in ("database", "rabbitmq", "redis")}
    provide()
    about = {**provenance(), "machine": machine(urls), "versions": versions(PYTHON)}
    print("\n".join(f"{key}: {value}" for key, value in about.items()), flush=True)
    found, failed = _measured(urls, chosen)
    for scenario, subjects in found.items():
        _tell(scenario, {subject: subjects[subject] for subject in SUBJECTS if subject in subjects}, chosen.quick)
    if chosen.quick or failed or found.keys() != COUNTS.keys() or set(chosen.subjects) != SUBJECTS.keys():
        print("\nNot kept: only whole runs of all scenarios by all subjects are.")
    else:
        keep(about, chosen.rounds, found)
    if failed:
        sys.exit("These runs failed, see above: " + "; ".join(failed))


def _chosen(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scenarios", type=_among(COUNTS), default=list(COUNTS), help="some, with commas")
    parser.add_argument("--subjects", type=_among(SUBJECTS), default=list(SUBJECTS), help="some, with commas")
    parser.add_argument("--quick", action="store_true", help="one round of a twentieth, which is not kept")
    chosen = parser.parse_args(arguments)
    chosen.rounds = 1 if chosen.quick else chosen.rounds
    return chosen


def _among(known: Mapping[str, object]) -> "type[list[str]]":
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return names

    return parse  # type: ignore[return-value]


def count_of(scenario: str, subject: str, quick: bool) -> int:
    """How many jobs that subject gets: the slow ones fewer, since a rate needs no more of them."""
    count = COUNTS[scenario][subject in SLOW]
    return count // QUICKER if quick else count


def _measured(urls: Mapping[str, str], chosen: argparse.Namespace) -> tuple[dict[str, dict[str, Figures]], list[str]]:
    """Every figure of every run, by scenario and subject, and the runs that failed."""
    found: dict[str, dict[str, Figures]] = {scenario: {} for scenario in chosen.scenarios}
    failed = []
    for turn in range(chosen.rounds):
        for scenario in chosen.scenarios:
            for subject in _in_turn(chosen.subjects, turn):
                try:
                    figures = _run(urls, scenario, subject, count_of(scenario, subject, chosen.quick))
                except (subprocess.SubprocessError, OSError, RuntimeError) as error:
                    failed.append(f"{scenario} of {subject} in round {turn + 1}")
                    print(f"{failed[-1]} failed: {error}", flush=True)
                    continue
                told = ", ".join(f"{name} {value:,.1f}" for name, value in figures.items())
                print(f"round {turn + 1}, {scenario}, {subject}: {told}", flush=True)
                for name, value in figures.items():
                    found[scenario].setdefault(subject, {}).setdefault(name, []).append(value)
    return found, failed


def _in_turn(subjects: Sequence[str], turn: int) -> list[str]:
    """Another goes first in each round."""
    first = turn % len(subjects)
    return [*subjects[first:], *subjects[:first]]


def _run(urls: Mapping[str, str], scenario: str, subject: str, count: int) -> dict[str, float]:
    if SUBJECTS[subject] is None:
        return jobmill_side.measure(urls, scenario, count)
    command = [PYTHON, "-m", f"bench.peers.{SUBJECTS[subject]}", scenario, str(count)]
    with surroundings(urls) as environment:
        process = subprocess.Popen(command, stdout=PIPE, stderr=PIPE, env=environment, text=True)
        try:
            told, said = process.communicate(timeout=DEADLINE)
        finally:
            process.terminate()  # not killed, so that it ends its worker
            process.wait(60)
    if process.returncode:
        raise RuntimeError(f"it ended with {process.returncode} and these words:\n{said[-2000:]}")
    return dict(json.loads(told.splitlines()[-1]))


def _tell(scenario: str, subjects: Mapping[str, Figures], quick: bool) -> None:
    """One line a figure, with its ratio to Jobmill's."""
    print(f"\n{scenario:<38} {'jobs':>7} {'median':>10} {'least':>10} {'most':>10} {'to Jobmill':>11}")
    for subject, figures in subjects.items():
        for name, runs in figures.items():
            ours = subjects.get("jobmill", {}).get(name)
            ratio = f"{median(runs) / median(ours):.2f}" if ours else ""
            spread = f"{median(runs):>10,.1f} {min(runs):>10,.1f} {max(runs):>10,.1f}"
            print(f"{f'{subject}, {name}':<38} {count_of(scenario, subject, quick):>7,} {spread} {ratio:>11}")


def keep(about: Mapping[str, object], rounds: int, found: Mapping[str, Mapping[str, Figures]]) -> None:
    """Write the JSON, and draw it."""
    scenarios = {
        scenario: {
            subject: {
                "jobs": count_of(scenario, subject, quick=False),
                "medians": {name: round(median(runs), 2) for name, runs in figures.items()},
                "runs": {name: [round(value, 2) for value in runs] for name, runs in figures.items()},
            }
            for subject, figures in subjects.items()
        }
        for scenario, subjects in found.items()
    }
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps({**about, "rounds": rounds, "scenarios": scenarios}, indent=1) + "\n")
    subprocess.run([PYTHON, "-m", "bench.plot"], check=True)
