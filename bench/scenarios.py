"""What is measured on a running installation; times within the product are differences of its own database clock."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import psycopg

from bench.installation import Installation
from bench.line import Line, request
from models.database import connect_postgresql
from models.identity import ensure_tenant
from models.ids import new_id
from models.job import NewJob
from models.moves import record

CONNECTIONS = 16
WARM_UP = 200
SUBMISSIONS = 3_000
READS, LISTS = 5_000, 1_000
BATCH, BATCHES, BATCH_CONNECTIONS = 1_000, 60, 2
LOW_LOAD_JOBS = 300
LOW_LOAD_PER_SECOND = 20
DRAINED, SHARING = 5_000, 100
DEADLINE = 120.0
OK, ACCEPTED = 200, 202
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def submissions(running: Installation, count: int = SUBMISSIONS) -> dict[str, float]:
    """POST /v1/jobs at 16 connections, to a queue that nobody serves, so that nothing else is at work."""
    rate, took = at_once(running, CONNECTIONS, count, lambda line, number: submit(line, running.token, number, "idle"))
    return {"submissions per second": rate, **percentiles("submit", took)}


def batches(running: Installation) -> dict[str, float]:
    """60 batches of 1,000."""
    rate, took = batched(running, BATCH, BATCHES)
    return {"jobs per second in batches of 1,000": rate, **percentiles("batch", took)}


def batched(running: Installation, size: int, count: int) -> tuple[float, list[float]]:
    """Jobs a second by POST /v1/jobs/batch, and how long each took: so many jobs each, each with its key.

    At two connections, to a queue that nobody serves; bodies are made before.
    """
    once = time.monotonic_ns()
    bodies = {
        number: json.dumps(
            {
                "jobs": [
                    {"type": "bench.noop", "queue": "idle", "idempotency_key": f"batch-{once}-{number}-{index}"}
                    for index in range(size)
                ]
            }
        )
        for number in range(-count // 10, count)
    }
    rate, took = at_once(
        running,
        BATCH_CONNECTIONS,
        count,
        lambda line, number: post(line, running.token, "/v1/jobs/batch", bodies[number]),
    )
    return rate * size, took


def reads(running: Installation) -> dict[str, float]:
    """GET of one job by its id, then of the newest 50, at 16 connections."""
    line = Line(running.port)
    ids = [job["id"] for job in json.loads(_get(line, running.token, "/v1/jobs?limit=200")[1])["data"]]
    figures: dict[str, float] = {}
    for name, how_many, path in (
        ("GET by id", READS, lambda number: f"/v1/jobs/{ids[number % len(ids)]}"),
        ("list of 50", LISTS, lambda _number: "/v1/jobs"),
    ):
        rate, took = at_once(
            running, CONNECTIONS, how_many, lambda line, number, path=path: _get(line, running.token, path(number))[0]
        )
        figures |= {f"{name}, per second": rate, **percentiles(name, took)}
    return figures


def at_once(
    running: Installation,
    connections: int,
    how_many: int,
    one_request: Callable[[Line, int], float],
    warm_up: int = WARM_UP,
) -> tuple[float, list[float]]:
    """Requests a second, and how long each took; those with negative numbers warm up."""
    local = threading.local()

    def one(number: int) -> float:
        if not hasattr(local, "connection"):
            local.connection = Line(running.port)
        return one_request(local.connection, number)

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(one, range(-min(warm_up, how_many // 10), 0)))  # warm up
        began = time.monotonic()
        took = list(pool.map(one, range(how_many)))
        return how_many / (time.monotonic() - began), took


def percentiles(name: str, took: Sequence[float]) -> dict[str, float]:
    return {f"{name} p{percent} ms": percentile(took, percent) * 1000 for percent in (50, 95, 99)}


def paced(running: Installation, moments: Sequence[tuple[float, str]], queue: str) -> list[float]:
    """Submit a job of each type at its moment, in seconds from now; gives how long each took, in their order.

    Each is counted from the moment it was planned for, so that a stall is not left out.
    """
    local, began = threading.local(), time.monotonic()

    def one(number: int) -> float:
        if not hasattr(local, "line"):
            local.line = Line(running.port)
        after, job_type = moments[number]
        time.sleep(max(0.0, began + after - time.monotonic()))
        submit(local.line, running.token, number, queue, job_type)
        return time.monotonic() - began - after

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(one, range(len(moments))))


def evenly(count: int, per_second: float, job_type: str = "bench.noop") -> list[tuple[float, str]]:
    """So many moments for `paced`."""
    return [(number / per_second, job_type) for number in range(count)]


def low_load(running: Installation) -> dict[str, float]:
    """From the row's created_at to its started_at, at 20 submissions a second."""
    paced(running, evenly(LOW_LOAD_JOBS, LOW_LOAD_PER_SECOND), "default")
    question = "SELECT extract(epoch FROM started_at - created_at) FROM jobs WHERE queue = 'default'"
    waits = when(running, f"{question} AND finished_at IS NOT NULL", lambda rows: len(rows) == LOW_LOAD_JOBS)
    waited = [float(row[0]) for row in waits]
    return {
        "submit to start p50 ms": percentile(waited, 50) * 1000,
        "submit to start p99 ms": percentile(waited, 99) * 1000,
    }


def drain(running: Installation) -> dict[str, float]:
    """5,000 no-ops that become due at one moment: from that moment to the end of the last."""
    return {"jobs per second": drained(running, ["default"])}


def shared_drain(running: Installation) -> dict[str, float]:
    """The same of 100 tenants, 50 jobs of each."""
    names = [f"tenant-{number}" for number in range(SHARING)]
    return {f"jobs per second, shared by {SHARING} tenants": drained(running, names)}


WAITING = """
    SELECT (SELECT count(*) FROM jobs WHERE state = 'queued') + (SELECT count(*) FROM jobs WHERE state = 'dispatched')
        + (SELECT count(*) FROM jobs WHERE state = 'running')"""
"""Each by the small index of its own: asked for together they are a reading of the whole table."""

DONE_SINCE = """
    SELECT max(finished_at), count(*) FROM jobs WHERE state = 'succeeded' AND finished_at > %s AND due_at = %s"""
"""By the index of what is finished: else the question reads all of history, while the drain that it waits for runs."""


def drained(running: Installation, names: Sequence[str], count: int = DRAINED, job_type: str = "bench.noop") -> float:
    """Jobs done a second, of so many that become due at one moment, each tenant's in turn."""
    due_at = planted(running, names, count, job_type)
    ((last, _),) = when(running, DONE_SINCE, lambda rows: rows[0][1] == count, due_at, due_at)
    return float(count / (last - due_at).total_seconds())


def planted(running: Installation, names: Sequence[str], count: int, job_type: str = "bench.noop") -> datetime:
    """Insert so many jobs, each tenant's in turn, and give the moment at which they all become due."""
    due_at = datetime.now(UTC) + timedelta(seconds=15 + count / 5_000)
    database = connect_postgresql(running.database_url, "jobmill bench", 1)
    with database.transaction() as session:
        tenants = [ensure_tenant(session, name)[0].id for name in names]
        record(session, [_job(tenants[number % len(tenants)], job_type, due_at) for number in range(count)])
    database.close()
    if datetime.now(UTC) >= due_at:
        raise TimeoutError("Inserting the jobs took longer than the time until they were due.")
    return due_at


def tidy(running: Installation) -> None:
    """Have the vacuum, the statistics and the checkpoint now that would come by themselves, and then at any moment."""
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) jobs")
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute("CHECKPOINT")


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100).__int__() - 1)]


def _job(tenant_id: object, job_type: str, due_at: datetime) -> NewJob:
    return NewJob(
        id=new_id(),
        tenant_id=tenant_id,
        type=job_type,
        queue="default",
        args={},
        priority=0,
        max_attempts=5,
        timeout_seconds=60,
        tags={},
        due_at=due_at,
    )


def submit(line: Line, token: str, number: int, queue: str, job_type: str = "bench.noop") -> float:
    body = json.dumps({"type": job_type, "args": {}, "queue": queue})
    return post(line, token, "/v1/jobs", body, {"Idempotency-Key": f"{queue}-{number}-{time.monotonic_ns()}"})


def post(line: Line, token: str, path: str, body: str, headers: Mapping[str, str] = NO_HEADERS) -> float:
    """How long the answer took, which is a 202."""
    return _asked(line, request("POST", path, token, body, headers), ACCEPTED)[0]


def _get(line: Line, token: str, path: str) -> tuple[float, bytes]:
    """How long the answer took, which is a 200, and its body."""
    return _asked(line, request("GET", path, token), OK)


def _asked(line: Line, sent: bytes, expected: int) -> tuple[float, bytes]:
    began = time.monotonic()
    status, body = line.ask(sent)
    took = time.monotonic() - began
    if status != expected:
        raise RuntimeError(f"A request was answered with {status}: {body[:300]!r}")
    return took, body


def when(running: Installation, question: str, enough: Callable[[list], bool], *values: object) -> list:
    """Ask until the answer is `enough`; raises TimeoutError."""
    deadline = time.monotonic() + DEADLINE
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            rows = connection.execute(question, values).fetchall()
            if enough(rows):
                return rows
            time.sleep(0.5)
    raise TimeoutError(f"{DEADLINE} s were not enough for: {question}")
