"""Jobmill's turn in the comparison: the scenarios of bench/peers/measure.py, over HTTP, on a fresh installation."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import count as counting
from pathlib import Path

from bench import scenarios
from bench.installation import Installation, installation
from bench.line import Line, request
from bench.peers import notes
from bench.peers.measure import PER_SECOND, percentile
from bench.scenarios import ACCEPTED, BATCH, BATCH_CONNECTIONS, CONNECTIONS, at_once, post, when

JOB_TYPE = "bench.noted"
_DONE = "SELECT extract(epoch FROM max(finished_at)), count(*) FROM jobs WHERE state = 'succeeded'"
_WAITS = "SELECT extract(epoch FROM started_at - created_at) FROM jobs WHERE id = ANY(%s)"
_keys = counting()


def measure(urls: Mapping[str, str], scenario: str, count: int) -> dict[str, float]:
    """One scenario on a fresh installation: API, dispatcher, and one worker process of 8 threads."""
    if scenario == "enqueue":
        return enqueue(urls, count)
    with tempfile.TemporaryDirectory() as folder:
        noted = Path(folder) / "notes"
        with installation(urls["database"], urls["rabbitmq"], {"BENCH_NOTES": str(noted)}) as running:
            return SCENARIOS[scenario](running, count, noted)


def end_to_end(running: Installation, count: int, _noted: Path) -> dict[str, float]:
    """Batches of 1,000 at two connections, from before the first request to the last finished_at."""
    _submitted(Line(running.port), running)  # warms up, as the peers are
    _all_done(running, 1)
    sizes = [min(BATCH, count - first) for first in range(0, count, BATCH)]
    bodies = [json.dumps({"jobs": [_job()] * size}) for size in sizes]
    began = time.time()
    at_once(
        running,
        BATCH_CONNECTIONS,
        len(bodies),
        lambda line, number: post(line, running.token, "/v1/jobs/batch", bodies[number]),
        warm_up=0,
    )
    return {"jobs per second": count / (_all_done(running, count + 1) - began)}


def drain(running: Installation, count: int, _noted: Path) -> dict[str, float]:
    """All are due at one moment: from then to the last finished_at."""
    return {"jobs per second": scenarios.drained(running, ["default"], count, JOB_TYPE)}


def enqueue(urls: Mapping[str, str], count: int) -> dict[str, float]:
    """POST /v1/jobs with an Idempotency-Key at 16 connections, the better of one API process and of one a core.

    Nobody serves their queue.
    """
    rates = {}
    for processes in (1, os.cpu_count() or 1):
        settings = {"JOBMILL_API_PROCESSES": str(processes)}
        with installation(urls["database"], urls["rabbitmq"], settings) as running:
            rates[processes] = scenarios.submissions(running, count)["submissions per second"]
    best = max(rates, key=lambda processes: rates[processes])
    return {"jobs per second": rates[best], "threads": CONNECTIONS, "API processes": best}


def latency(running: Installation, count: int, noted: Path) -> dict[str, float]:
    """From before the request to the start of the handler, as it notes it, and from created_at to started_at."""
    line = Line(running.port)
    _submitted(line, running)
    _all_done(running, 1)
    began, ids = time.monotonic(), []
    for number in range(count):
        time.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
        ids.append(_submitted(line, running))
    _all_done(running, count + 1)
    whole = [started - sent for sent, started in notes.read(1, noted)]
    within = [float(waited) for (waited,) in when(running, _WAITS, lambda rows: len(rows) == count, ids)]
    return {
        "p50 ms": percentile(whole, 50) * 1000,
        "p99 ms": percentile(whole, 99) * 1000,
        "p50 ms from created_at": percentile(within, 50) * 1000,
        "p99 ms from created_at": percentile(within, 99) * 1000,
    }


SCENARIOS: dict[str, Callable[[Installation, int, Path], dict[str, float]]] = {
    "end-to-end": end_to_end,
    "drain": drain,
    "latency": latency,
}


def _submitted(line: Line, running: Installation) -> str:
    """The id of a job that was just submitted."""
    key = {"Idempotency-Key": f"bench-{next(_keys)}"}
    status, body = line.ask(request("POST", "/v1/jobs", running.token, json.dumps(_job()), key))
    document = json.loads(body)
    if status != ACCEPTED:
        raise RuntimeError(f"A submission was answered with {status}: {document}")
    return str(document["id"])


def _job() -> dict[str, object]:
    return {"type": JOB_TYPE, "args": {"sent": time.time()}}


def _all_done(running: Installation, count: int) -> float:
    ((last, _),) = when(running, _DONE, lambda rows: rows[0][1] == count)
    return float(last)
