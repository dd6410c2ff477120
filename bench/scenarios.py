"""What is measured on a running installation; times within the product are differences of its own database clock."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import psycopg

from bench.installation import Installation
from models.database import connect_postgresql
from models.identity import ensure_tenant
from models.ids import new_id
from models.job import NewJob
from models.moves import record

CONNECTIONS = 16
SUBMISSIONS = 3_000
BATCH, BATCHES, BATCH_CONNECTIONS = 1_000, 30, 2
LOW_LOAD_JOBS = 300
LOW_LOAD_PER_SECOND = 20
DRAINED = 5_000
DEADLINE = 120.0
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def submissions(running: Installation) -> dict[str, float]:
    """POST /v1/jobs at 16 connections, to a queue that nobody serves, so that nothing else is at work."""
    local = threading.local()

    def submit(number: int) -> float:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        return _submit(local.connection, running.token, number, "idle")

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(submit, range(200)))  # warm up
        began = time.monotonic()
        took = list(pool.map(submit, range(SUBMISSIONS)))
        elapsed = time.monotonic() - began
    return {
        "submissions per second": SUBMISSIONS / elapsed,
        "submit p50 ms": percentile(took, 50) * 1000,
        "submit p95 ms": percentile(took, 95) * 1000,
        "submit p99 ms": percentile(took, 99) * 1000,
    }


def batches(running: Installation) -> dict[str, float]:
    """POST /v1/jobs/batch with 1,000 jobs each, each with its key, at two connections."""
    local = threading.local()

    def submit(number: int) -> float:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        jobs = [
            {"type": "bench.noop", "queue": "idle", "idempotency_key": f"batch-{number}-{index}-{time.monotonic_ns()}"}
            for index in range(BATCH)
        ]
        return _post(local.connection, running.token, "/v1/jobs/batch", json.dumps({"jobs": jobs}))

    with ThreadPoolExecutor(BATCH_CONNECTIONS) as pool:
        list(pool.map(submit, range(BATCH_CONNECTIONS)))  # warm up
        began = time.monotonic()
        took = list(pool.map(submit, range(BATCHES)))
        elapsed = time.monotonic() - began
    return {
        "jobs per second in batches of 1,000": BATCHES * BATCH / elapsed,
        "batch p50 ms": percentile(took, 50) * 1000,
        "batch p95 ms": percentile(took, 95) * 1000,
        "batch p99 ms": percentile(took, 99) * 1000,
    }


def low_load(running: Installation) -> dict[str, float]:
    """From the row's created_at to its started_at, at 20 submissions a second."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    began = time.monotonic()
    for number in range(LOW_LOAD_JOBS):
        time.sleep(max(0.0, began + number / LOW_LOAD_PER_SECOND - time.monotonic()))
        _submit(connection, running.token, number, "default")
    question = "SELECT extract(epoch FROM started_at - created_at) FROM jobs WHERE queue = 'default'"
    waits = _when(running, f"{question} AND finished_at IS NOT NULL", lambda rows: len(rows) == LOW_LOAD_JOBS)
    waited = [float(row[0]) for row in waits]
    return {
        "submit to start p50 ms": percentile(waited, 50) * 1000,
        "submit to start p99 ms": percentile(waited, 99) * 1000,
    }


def drain(running: Installation) -> dict[str, float]:
    """5,000 no-ops that become due at one moment: from that moment to the end of the last."""
    due_at = datetime.now(UTC) + timedelta(seconds=15)
    database = connect_postgresql(running.database_url, "jobmill bench", 1)
    with database.transaction() as session:
        tenant, _ = ensure_tenant(session, "default")
        record(session, [_noop(tenant.id, due_at) for _ in range(DRAINED)])
    database.close()
    if datetime.now(UTC) >= due_at:
        raise TimeoutError("Inserting the jobs took longer than the time until they were due.")
    question = "SELECT max(finished_at), count(*) FROM jobs WHERE due_at = %s AND state = 'succeeded'"
    ((last, _),) = _when(running, question, lambda rows: rows[0][1] == DRAINED, due_at)
    return {"jobs per second": DRAINED / (last - due_at).total_seconds()}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100).__int__() - 1)]


def _noop(tenant_id: object, due_at: datetime) -> NewJob:
    return NewJob(
        id=new_id(),
        tenant_id=tenant_id,
        type="bench.noop",
        queue="default",
        args={},
        priority=0,
        max_attempts=5,
        timeout_seconds=60,
        tags={},
        due_at=due_at,
    )


def _submit(connection: http.client.HTTPConnection, token: str, number: int, queue: str) -> float:
    body = json.dumps({"type": "bench.noop", "args": {}, "queue": queue})
    return _post(connection, token, "/v1/jobs", body, {"Idempotency-Key": f"{queue}-{number}-{time.monotonic_ns()}"})


def _post(
    connection: http.client.HTTPConnection, token: str, path: str, body: str, headers: Mapping[str, str] = NO_HEADERS
) -> float:
    """How long the answer took, which is a 202."""
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    began = time.monotonic()
    connection.request("POST", path, body, sent)
    answer = connection.getresponse()
    answer.read()
    took = time.monotonic() - began
    if answer.status != http.client.ACCEPTED:
        raise RuntimeError(f"A submission was answered with {answer.status}.")
    return took


def _when(running: Installation, question: str, enough: Callable[[list], bool], *values: object) -> list:
    """Ask until the answer is `enough`; raises TimeoutError."""
    deadline = time.monotonic() + DEADLINE
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            rows = connection.execute(question, values).fetchall()
            if enough(rows):
                return rows
            time.sleep(0.5)
    raise TimeoutError(f"{DEADLINE} s were not enough for: {question}")
