"""Checks of what else an installation leans on: Redis, and the disks it writes to."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.checks.findings import Finding, Patient, fine, warning, wrong

SECONDS = 2.0
LITTLE_BYTES = 1_000_000_000
TOO_LITTLE_BYTES = 100_000_000


def limits(patient: Patient) -> Iterator[Finding]:
    """Redis answers, if there is to be one."""
    url = patient.settings.redis_url
    if url is None:
        yield fine("REDIS_URL is unset: each process of the API counts requests by itself.")
        return
    try:
        _ping(url.get_secret_value())
    except redis.RedisError as error:
        yield warning(
            f"Redis does not answer ({type(error).__name__}): each process of the API counts requests by itself."
        )
    else:
        yield fine("Redis answers.")


def _ping(url: str) -> None:
    retry = Retry(NoBackoff(), 0)
    with redis.Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, retry=retry) as client:
        client.ping()


def disk(patient: Patient) -> Iterator[Finding]:
    """The embedded mode's disk has room."""
    if patient.settings.embedded:
        yield room(patient.settings.data_dir, "JOBMILL_DATA_DIR")
    else:
        yield fine("The database's disk is its server's to watch.")


def archive(patient: Patient) -> Iterator[Finding]:
    """The archive can be written, and has room."""
    folder = patient.settings.archive_dir
    if folder is None:
        yield fine("JOBMILL_ARCHIVE_DIR is unset: what is pruned just goes.")
        return
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"jobmill check")
    except OSError as error:
        yield wrong(
            f"JOBMILL_ARCHIVE_DIR={folder} cannot be written here: {error.strerror}. Dead letters are not pruned "
            "where the dispatcher finds it so."
        )
    else:
        yield room(folder, "JOBMILL_ARCHIVE_DIR")


def room(folder: Path, name: str) -> Finding:
    """Whether a folder's disk has room. Raises OSError."""
    free = shutil.disk_usage(folder).free
    told = f"{free / 1e9:.1f} GB are free in {name}={folder}."
    if free < TOO_LITTLE_BYTES:
        return wrong(f"{told} Make room.")
    return warning(f"{told} Make room soon.") if free < LITTLE_BYTES else fine(told)
