"""Celery with its results in PostgreSQL, a row a job, by its SQLAlchemy backend and psycopg 3.

Sessions live long, as they come, so that a child keeps its connection. See celery_results.py for the rest.
"""

import os
from functools import cache

import psycopg

from bench.peers.celery_results import CeleryResults
from bench.peers.measure import main

URL = os.environ["BENCH_DATABASE_URL"]
COUNT = "SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'"


@cache
def _connection() -> psycopg.Connection:
    return psycopg.connect(URL, autocommit=True)


def kept() -> int:
    return int(_connection().execute(COUNT).fetchone()[0])


if __name__ == "__main__":
    main(CeleryResults(URL.replace("postgresql://", "db+postgresql+psycopg://", 1), kept))
