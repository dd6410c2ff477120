"""Celery with its results in Redis, a key a job, kept for a day as it comes; see celery_results.py for the rest.

Redis keeps them as its own configuration has it: on most machines in memory, with a snapshot now and then.
"""

import os

import redis

from bench.peers.celery_results import NAME, CeleryResults
from bench.peers.measure import main

URL = os.environ["BENCH_REDIS_URL"]


server = redis.Redis.from_url(URL)


def kept() -> int:
    return sum(1 for _ in server.scan_iter(f"{NAME}*celery-task-meta-*", count=10_000))


if __name__ == "__main__":
    main(CeleryResults(URL, kept, result_backend_transport_options={"global_keyprefix": NAME}))
