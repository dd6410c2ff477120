"""`make bench ARGS=idle`: what an installation costs at rest. `make bench ARGS=cost`: what a job costs."""

import json
import time

from bench.installation import Installation, of_its_own
from bench.meters import Reading, count_statements, differences, read
from bench.rounds import tell
from bench.scenarios import BATCH, BATCH_CONNECTIONS, DONE_SINCE, at_once, planted, post, when

SETTLING, RESTING = 15, 60
JOBS = 20_000
NO_STATEMENTS = "pg_stat_statements is not loaded here: commits by pg_stat_database, and no statements."


def idle() -> None:
    """A whole installation at rest for 60 s: processor share, commits, wake-ups."""
    with of_its_own() as running:
        counted = _countable(running)
        time.sleep(SETTLING)
        before = read(running, counted)
        time.sleep(RESTING)
        after = read(running, counted)
    seconds, total = after.at - before.at, 0.0
    for name, spent in differences(before, after).items():
        total += spent.cpu
        tell(f"{name}: CPU, % of a core", 100 * spent.cpu / seconds)
        tell(f"{name}: wake-ups a second", spent.wakes / seconds)
    tell("in all: CPU, % of a core", 100 * total / seconds)
    _tell_database(before, after, seconds, "a second")


def cost() -> None:
    """Processor time, commits and WAL a job: of submitting 20,000 in batches, and of doing 20,000."""
    with of_its_own() as running:
        counted = _countable(running)
        bodies = _bodies()
        before = read(running, counted)
        at_once(
            running,
            BATCH_CONNECTIONS,
            len(bodies),
            lambda line, number: post(line, running.token, "/v1/jobs/batch", bodies[number]),
        )
        submitted = (len(bodies) + len(bodies) // 10) * BATCH  # at_once warms up with a tenth more
        _tell_cost("submitted in batches", before, read(running, counted), submitted)
        due_at = planted(running, ["default"], JOBS)
        before = read(running, counted)
        when(running, DONE_SINCE, lambda rows: rows[0][1] == JOBS, due_at, due_at)
        _tell_cost("done", before, read(running, counted), JOBS)


def _bodies() -> list[str]:
    """Twenty batches of jobs for tomorrow, so that nothing but their submission is at work."""
    jobs = [{"type": "bench.noop", "queue": "idle", "delay_seconds": 86_400}] * BATCH
    return [json.dumps({"jobs": jobs})] * (JOBS // BATCH)


def _countable(running: Installation) -> bool:
    counted = count_statements(running)
    print("Statements by pg_stat_statements." if counted else NO_STATEMENTS, flush=True)
    return counted


def _tell_cost(what: str, before: Reading, after: Reading, jobs: int) -> None:
    for name, spent in differences(before, after).items():
        tell(f"{what}, {name}: CPU, us a job", 1e6 * spent.cpu / jobs)
    _tell_database(before, after, jobs, f"a job {what}")
    tell(f"{what}: WAL, bytes a job", (after.wal_bytes - before.wal_bytes) / jobs)


def _tell_database(before: Reading, after: Reading, units: float, of_what: str) -> None:
    tell(f"commits {of_what}", (after.commits - before.commits) / units)
    if before.statements is not None and after.statements is not None:
        tell(f"statements {of_what}", (after.statements - before.statements) / units)
