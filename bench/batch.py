"""`make bench ARGS=batch`: jobs recorded a second, one a request and in batches of several sizes."""

from collections.abc import Sequence

from bench.installation import Installation, of_its_own
from bench.rounds import Way, prepare
from bench.scenarios import batched, percentile, submissions, tidy

SINGLE = 3_000
REQUESTS = {10: 500, 100: 200, 1_000: 60}  # by how many jobs each has


def batch(arguments: Sequence[str]) -> None:
    """Single submissions at 16 connections, batches at two; every job has its key, and nobody serves their queue."""
    benchmark = prepare("batch", arguments)
    with of_its_own() as running:
        ways = {"one a request": Way(f"{SINGLE:,} requests", lambda: _single(running))}
        for size, count in REQUESTS.items():
            ways[f"batches of {size:,}"] = Way(
                f"{count:,} requests", lambda size=size, count=count: _batched(running, size, count)
            )
        benchmark.compare(ways, "jobs per second", before=lambda: tidy(running))


def _single(running: Installation) -> dict[str, float]:
    found = submissions(running, SINGLE)
    return {"jobs per second": found["submissions per second"], "p95 ms": found["submit p95 ms"]}


def _batched(running: Installation, size: int, count: int) -> dict[str, float]:
    rate, took = batched(running, size, count)
    return {"jobs per second": rate, "p95 ms": percentile(took, 95) * 1000}
