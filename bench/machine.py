"""Where figures were taken: the machine, the services, the versions, the commit."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pika
import psutil
import psycopg
import redis

_SETTINGS = "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('autovacuum')"
PARTS = ("dramatiq", "pika", "psycopg", "sqlalchemy", "flask", "gunicorn")


def services() -> dict[str, str]:
    """The addresses of those at hand."""
    return {name: os.environ[f"JOBMILL_TEST_{name.upper()}_URL"] for name in ("database", "rabbitmq", "redis")}


def described(of_parts: Mapping[str, str] | None = None) -> dict[str, object]:
    """What is kept beside figures: when, of which commit, on which machine, with which versions: of Jobmill's parts."""
    parts = versions(sys.executable, PARTS) if of_parts is None else dict(of_parts)
    return {**provenance(), "machine": machine(services()), "versions": parts}


def machine(urls: Mapping[str, str]) -> dict[str, object]:
    """What a reader must know to judge a figure."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **_services(urls),
    }


def provenance() -> dict[str, str]:
    """When, and of which commit."""
    commit = _git("rev-parse", "--short=12", "HEAD") or "unknown"
    # What an earlier benchmark kept is no change of what is measured.
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks*")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": f"{commit}-dirty" if changed else commit,
    }


def versions(python: str, names: Sequence[str]) -> dict[str, str]:
    """Of those distributions in that interpreter's environment, and of Jobmill."""
    ask = f"from importlib.metadata import version\nfor name in {tuple(names)!r}: print(name, version(name))"
    told = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout
    return {"jobmill": version("jobmill")} | dict(line.split() for line in told.splitlines())


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], check=False, capture_output=True, text=True).stdout.strip()


def _services(urls: Mapping[str, str]) -> dict[str, str]:
    with psycopg.connect(urls["database"]) as database, redis.Redis.from_url(urls["redis"]) as server:
        with pika.BlockingConnection(pika.URLParameters(urls["rabbitmq"])) as broker:
            rabbitmq = broker._impl.server_properties["version"]  # noqa: SLF001 - pika shows it nowhere else
        row = database.execute(_SETTINGS).fetchone()
        return {
            "postgresql": str(row[0]).split()[0],
            "postgresql_fsync": str(row[1]),
            "postgresql_autovacuum": str(row[2]),
            "rabbitmq": rabbitmq if isinstance(rabbitmq, str) else rabbitmq.decode(),
            "redis": str(server.info("server")["redis_version"]),
        }


def _cpu() -> str:
    """Linux says it in /proc; elsewhere Python's own answer must do."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")
