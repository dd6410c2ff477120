"""`make bench ARGS=choices`: what each choice of the hot path costs or gives, by a drain without it.

Each run is of a fresh installation, in which 20,000 jobs are inserted and then done. Processor time and WAL are of both
together. `ARGS` may name some choices after it: `make bench ARGS="choices --rounds 3 --ways fillfactor"`.
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg

from bench.installation import Installation, of_its_own
from bench.machine import described
from bench.meters import differences, read
from bench.rounds import Benchmark, Compared, Way, takes_rounds
from bench.scenarios import WAITING, planted, when

JOBS = 20_000
LEAST_SECONDS = 2.0
"""What such a drain takes at the least."""
WITHOUT = Path(__file__).with_name("without")
_SIZES = """
    SELECT pg_table_size('jobs') / 1048576.0, pg_indexes_size('jobs') / 1048576.0,
        100.0 * n_tup_hot_upd / greatest(n_tup_upd, 1)
    FROM pg_stat_user_tables WHERE relname = 'jobs'"""
_TOOK = "SELECT extract(epoch FROM max(finished_at) - max(due_at)) FROM jobs"


@dataclass(frozen=True)
class Choice:
    """One installation unlike the product's: by statements about its tables, or by what its processes go without."""

    name: str
    statements: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


def _without(what: str) -> Choice:
    path = f"{WITHOUT}{os.pathsep}{Path.cwd()}"
    return Choice(f"without {what}", settings={"JOBMILL_BENCH_WITHOUT": what, "PYTHONPATH": path})


def _without_indexes(*names: str) -> Choice:
    return Choice(f"without {', '.join(names)}", [f"DROP INDEX {name}" for name in names])


CHOICES = [
    Choice("as it is"),
    Choice("fillfactor 50", ["ALTER TABLE jobs SET (fillfactor = 50)"]),
    Choice("fillfactor 100", ["ALTER TABLE jobs SET (fillfactor = 100)"]),
    _without("prepared statements"),
    _without("compiled statements"),
    _without_indexes("jobs_list_by_state"),
    _without_indexes("jobs_list_by_type", "jobs_list_by_queue"),
    _without_indexes("jobs_finished"),
    _without_indexes("jobs_claim_by_tenant"),
    _without_indexes("jobs_claim_expiry"),
]


def choices(arguments: Sequence[str] = ()) -> None:
    """Each choice against the product as it is."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=choices")
    takes_rounds(parser)
    parser.add_argument("--ways", default="", help="take only those whose name has this in it, and the first")
    asked = parser.parse_args(arguments)
    first, *others = CHOICES
    taken = [choice for choice in others if asked.ways in choice.name]
    if not taken:
        parser.error(f"none has {asked.ways!r} in its name; there are: {', '.join(choice.name for choice in others)}")
    ways = {choice.name: Way(f"{JOBS:,} jobs", partial(_measured, choice)) for choice in [first, *taken]}
    compared = Compared("choices", ways, ["jobs per second", "us of PostgreSQL", "bytes of WAL"], apart=True)
    Benchmark("choices", asked.rounds, described()).measure([compared], unkept="these are told only")


def _measured(choice: Choice) -> dict[str, float]:
    with of_its_own(choice.settings) as running:
        with psycopg.connect(running.database_url, autocommit=True) as connection:
            for statement in choice.statements:
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
        "jobs per second": JOBS / float(took),
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
