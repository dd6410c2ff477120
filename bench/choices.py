"""`make bench ARGS=choices`: what each choice of the hot path costs or gives, by a drain without it.

Each way is a fresh installation, of which 20,000 jobs are inserted and then done; rounds take all ways in turn, each
from another on, so that no way always has the same before it. `ARGS` may name some of them after it:
`make bench ARGS="choices --rounds 5 --ways fillfactor"`.
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psycopg

from bench.installation import Installation, installation
from bench.meters import differences, read
from bench.scenarios import WAITING, planted, when

JOBS, ROUNDS = 20_000, 3
LEAST_SECONDS = 2.0
"""What such a drain takes at the least."""
WITHOUT = Path(__file__).with_name("without")
_SIZES = """
    SELECT pg_table_size('jobs') / 1048576.0, pg_indexes_size('jobs') / 1048576.0,
        100.0 * n_tup_hot_upd / greatest(n_tup_upd, 1)
    FROM pg_stat_user_tables WHERE relname = 'jobs'"""
_TOOK = "SELECT extract(epoch FROM max(finished_at) - max(due_at)) FROM jobs"


@dataclass(frozen=True)
class Way:
    """One installation unlike the product's: by statements about its tables, or by what its processes go without."""

    name: str
    statements: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


def _without(what: str) -> Way:
    path = f"{WITHOUT}{os.pathsep}{Path.cwd()}"
    return Way(f"without {what}", settings={"JOBMILL_BENCH_WITHOUT": what, "PYTHONPATH": path})


def _without_indexes(*names: str) -> Way:
    return Way(f"without {', '.join(names)}", [f"DROP INDEX {name}" for name in names])


WAYS = [
    Way("as it is"),
    Way("fillfactor 50", ["ALTER TABLE jobs SET (fillfactor = 50)"]),
    Way("fillfactor 100", ["ALTER TABLE jobs SET (fillfactor = 100)"]),
    _without("prepared statements"),
    _without("compiled statements"),
    _without_indexes("jobs_list_by_state"),
    _without_indexes("jobs_list_by_type", "jobs_list_by_queue"),
    _without_indexes("jobs_finished"),
    _without_indexes("jobs_claim_by_tenant"),
    _without_indexes("jobs_claim_expiry"),
]


def choices(arguments: Sequence[str] = ()) -> None:
    """Medians of each way with the least and the most; processor time and WAL are of insertion and doing together."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=choices")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--ways", default="", help="take only those whose name has this in it, and the first")
    asked = parser.parse_args(arguments)
    ways = [WAYS[0], *(way for way in WAYS[1:] if asked.ways in way.name)]
    if len(ways) == 1:
        parser.error(f"no way has {asked.ways!r} in its name; there are: {', '.join(way.name for way in WAYS[1:])}")
    found: dict[str, list[dict[str, float]]] = {way.name: [] for way in ways}
    for number in range(asked.rounds):
        first = number * len(ways) // asked.rounds
        for way in ways[first:] + ways[:first]:
            found[way.name].append(_measured(way))
            print(f"round {number + 1}, {way.name}: {_line([found[way.name][-1]])}", flush=True)
    print(f"\nMedians of {asked.rounds}")
    for name, figures in found.items():
        print(f"{name}: {_line(figures)}")


def _measured(way: Way) -> dict[str, float]:
    database_url, rabbitmq_url = os.environ["JOBMILL_TEST_DATABASE_URL"], os.environ["JOBMILL_TEST_RABBITMQ_URL"]
    with installation(database_url, rabbitmq_url, way.settings) as running:
        with psycopg.connect(running.database_url, autocommit=True) as connection:
            for statement in way.statements:
                connection.execute(statement)
        before = read(running, statements=False)
        due_at = planted(running, ["default"], JOBS)
        ((waiting, _, _),) = _asked(running, _SIZES)
        # Nobody asks anything until then, and then only indexes that every way has: it would count as the product's.
        time.sleep((due_at - datetime.now(UTC)).total_seconds() + LEAST_SECONDS)
        when(running, WAITING, lambda rows: rows[0][0] == 0)
        after = read(running, statements=False)
        spent = {name.split(",")[0]: 1e6 * each.cpu / JOBS for name, each in differences(before, after).items()}
        ((took,),) = _asked(running, _TOOK)
        ((table, indexes, hot),) = _asked(running, _SIZES)
    return {
        "jobs a second": JOBS / float(took),
        "us of the worker": spent["worker child"],
        "us of the dispatcher": spent["dispatcher"],
        "us of PostgreSQL": spent["PostgreSQL"],
        "bytes of WAL": (after.wal_bytes - before.wal_bytes) / JOBS,
        "MB of table while they wait": float(waiting),
        "MB of table": float(table),
        "MB of indexes": float(indexes),
        "% HOT": float(hot),
    }


def _asked(running: Installation, question: str) -> list[tuple]:
    with psycopg.connect(running.database_url) as connection:
        return connection.execute(question).fetchall()


def _line(rounds: Sequence[Mapping[str, float]]) -> str:
    return ", ".join(f"{_spread([each[what] for each in rounds])} {what}" for what in rounds[0])


def _spread(values: Sequence[float]) -> str:
    some = f"{median(values):,.0f}"
    return some if len(values) == 1 else f"{some} ({min(values):,.0f} to {max(values):,.0f})"
