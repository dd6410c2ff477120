"""`make bench ARGS=growth`: the drain on few rows, and behind a million waiting and five million finished jobs.

Of the waiting ones half are due, on queues that nobody serves, a quarter there due tomorrow, and a quarter due tomorrow
on the queue that is drained. Both installations run all the time, and before each drain both tables are vacuumed. At
last, once, more jobs become due at one moment on each than are done in the ten seconds that are counted: a million more
on the full one. All are filled in by statements of 100,000 rows.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import psycopg

from bench.installation import Installation, of_its_own
from bench.rounds import Way, prepare, tell
from bench.scenarios import WAITING, drained, tidy, when

HISTORY, BACKLOG = 5_000_000, 1_000_000
BATCH = 100_000
FULL = f"{BACKLOG:,} waiting, {HISTORY:,} finished"
DRAINED = 20_000
UNTIL_DUE = timedelta(seconds=150)
AT_ONCE, COUNTED = 200_000, timedelta(seconds=10)

_DONE_BETWEEN = """
    SELECT count(*) FROM jobs WHERE state = 'succeeded' AND finished_at > %s AND finished_at <= %s AND due_at = %s"""
_ID = "(lpad(to_hex({base} + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid"
_COLUMNS = (
    "id, tenant_id, type, queue, state, priority, args, attempt, max_attempts, lost, timeout_seconds, lease, tags"
)


def _finished(days_ago: int) -> str:
    """Done from that many days ago on, three a second: five million within 18 days."""
    return f"""
    INSERT INTO jobs ({_COLUMNS}, created_at, due_at, dispatched_at, started_at, finished_at, worker_id)
    SELECT {_ID.format(base=1_600_000_000_000)}, %(tenant)s, 'bench.noop', 'default', 'succeeded', 0, '{{}}',
        1, 5, 0, 60, 1, '{{}}', at, at, at, at, at, '00000000-0000-7000-8000-000000000000'
    FROM (SELECT n, now() - interval '{days_ago} days' + n * interval '0.3 second' AS at
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS made"""  # noqa: S608 - its own words


_FINISHED, FINISHED_LONG_AGO = _finished(20), _finished(60)
_WAITING = f"""
    INSERT INTO jobs ({_COLUMNS}, created_at, due_at)
    SELECT {_ID.format(base=1_700_000_000_000)}, %(tenant)s, 'bench.noop',
        CASE n %% 4 WHEN 0 THEN 'default' ELSE 'idle' || n %% 3 END, 'queued', 0, '{{}}', 0, 5, 0, 60, 0, '{{}}',
        now() - interval '1 hour', now() + CASE WHEN n %% 4 < 2 THEN interval '1 day' ELSE interval '-1 hour' END
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n"""  # noqa: S608 - its own words


_DUE = f"""
    INSERT INTO jobs ({_COLUMNS}, created_at, due_at)
    SELECT {_ID.format(base=1_750_000_000_000)}, %(tenant)s, 'bench.noop', 'default', 'queued', 0, '{{}}',
        0, 5, 0, 60, 0, '{{}}', now(), %(due_at)s
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n"""  # noqa: S608 - its own words


def growth(arguments: Sequence[str]) -> None:
    """Drains in turns on two installations, one of which is filled in first; then the million on that one."""
    benchmark = prepare("growth", arguments)
    with of_its_own() as few, of_its_own() as full:
        began = time.monotonic()
        fill(full, {_FINISHED: HISTORY, _WAITING: BACKLOG})
        print(f"filled in within {time.monotonic() - began:,.0f} s", flush=True)
        sample = f"{DRAINED:,} jobs"
        ways = {
            name: Way(sample, lambda running=running: {"jobs per second": drained(running, ["default"], DRAINED)})
            for name, running in (("few rows", few), (FULL, full))
        }
        benchmark.compare(ways, "jobs per second", before=lambda: [tidy(each) for each in (few, full)])
        rate = _rate_of_many_due(few, AT_ONCE)
        when(few, WAITING, lambda rows: rows[0][0] == 0)
        tell(f"jobs a second, {AT_ONCE:,} due at once, on few rows", rate)
        tell(f"jobs a second, {BACKLOG:,} more due at once, on {FULL}", _rate_of_many_due(full, BACKLOG))


def fill(running: Installation, rows: Mapping[str, int], due_at: datetime | None = None) -> None:
    """Insert, then have the statistics and the checkpoint that would have come by then."""
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        (tenant,) = connection.execute("SELECT id FROM tenants WHERE name = 'default'").fetchone()
        for statement, how_many in rows.items():
            for first in range(0, how_many, BATCH):
                last = min(first + BATCH, how_many) - 1
                connection.execute(statement, {"tenant": tenant, "first": first, "last": last, "due_at": due_at})
    tidy(running)


def _rate_of_many_due(running: Installation, count: int) -> float:
    """Jobs done a second in the first ten after so many became due at once, which last longer."""
    due_at = datetime.now(UTC) + UNTIL_DUE * (count / BACKLOG)
    fill(running, {_DUE: count}, due_at)
    left = (due_at - datetime.now(UTC)).total_seconds()
    if left < 0:
        raise TimeoutError("Inserting the jobs took longer than the time until they were due.")
    time.sleep(left + COUNTED.total_seconds())
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        (done,) = connection.execute(_DONE_BETWEEN, [due_at, due_at + COUNTED, due_at]).fetchone()
    if done >= count:
        raise RuntimeError(f"{count:,} jobs were done within {COUNTED.seconds} s. More are needed.")
    return float(done / COUNTED.seconds)
