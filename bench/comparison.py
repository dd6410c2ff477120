"""`make bench ARGS=peers`: Jobmill and its peers through the same scenarios, in turns, in one run.

Every run of a scenario is in surroundings of its own.
"""

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from subprocess import PIPE

from bench import jobmill_side
from bench.machine import described, services, versions
from bench.rounds import Benchmark, Compared, Way, takes_rounds
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
COMPARED = {
    "end-to-end": ["jobs per second"],
    "drain": ["jobs per second"],
    "enqueue": ["jobs per second"],
    "latency": ["p50 ms", "p99 ms"],
}
COUNTS = {"end-to-end": (20_000, 2_000), "drain": (20_000, 2_000), "enqueue": (3_000, 3_000), "latency": (300, 300)}
QUICKER = 20
PEERS = ("dramatiq", "celery", "kombu", "procrastinate", "pgqueuer", "psycopg", "asyncpg", "pika", "redis")
DEADLINE = 900


def main(arguments: Sequence[str]) -> None:
    """Measure, tell, keep, draw; fails at the end if a run failed."""
    chosen = _chosen(arguments)
    urls = services()
    provide()
    benchmark = Benchmark("peers", chosen.rounds, described(versions(PYTHON, PEERS)))
    print("\n".join(f"{key}: {value}" for key, value in benchmark.described.items()), flush=True)
    compared = [
        Compared(scenario, _ways(urls, scenario, chosen), COMPARED[scenario], apart=True)
        for scenario in chosen.scenarios
    ]
    whole = not chosen.quick and set(chosen.scenarios) == COUNTS.keys() and set(chosen.subjects) == SUBJECTS.keys()
    benchmark.measure(compared, unkept="" if whole else "that takes all scenarios of all subjects")
    if chosen.quick:
        print("So few jobs tell only that everything runs: starts, and what is fetched ahead, weigh too much in them.")


def _chosen(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=peers")
    takes_rounds(parser)
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


def _ways(urls: Mapping[str, str], scenario: str, chosen: argparse.Namespace) -> dict[str, Way]:
    """Each subject's, Jobmill's first."""
    ways = {}
    for subject in (name for name in SUBJECTS if name in chosen.subjects):
        count = count_of(scenario, subject, chosen.quick)
        ways[subject] = Way(f"{count:,} jobs", partial(_run, urls, scenario, subject, count))
    return ways


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
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if process.returncode:
        raise RuntimeError(f"it ended with {process.returncode} and these words:\n{said[-2000:]}")
    return dict(json.loads(told.splitlines()[-1]))
