"""What a peer runs in: a database, a queue name and a prefix in Redis of its own, all gone afterwards."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pika
import redis

from bench.installation import drop_database, make_database

PYTHON = ".venv-bench/bin/python"


def provide() -> None:
    """The peers' environment, made when it is missing or not what the lock says."""
    subprocess.run(["bin/setup", "bench"], check=True)


@contextmanager
def surroundings(urls: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The variables that a peer's process finds its services by."""
    name = f"jobmill_bench_{uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as afterwards:
        afterwards.callback(_remove_keys, urls["redis"], name)
        afterwards.callback(_remove_queues, urls["rabbitmq"], name)
        afterwards.callback(drop_database, urls["database"], name)
        yield os.environ | {
            "BENCH_DATABASE_URL": make_database(urls["database"], name),
            "BENCH_RABBITMQ_URL": urls["rabbitmq"],
            "BENCH_REDIS_URL": urls["redis"],
            "BENCH_NAME": name,
            "BENCH_NOTES": str(Path(folder) / "notes"),
        }


def _remove_queues(url: str, name: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for queue in (name, f"{name}.DQ", f"{name}.XQ"):  # Dramatiq's delayed and dead ones
            channel.queue_delete(queue)
        channel.exchange_delete(name)  # Celery's, of the queue's name


def _remove_keys(url: str, name: str) -> None:
    with redis.Redis.from_url(url) as server:
        for key in server.scan_iter(f"{name}*", count=10_000):
            server.delete(key)
