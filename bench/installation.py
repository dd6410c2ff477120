"""A full installation to measure: its own database and queues, the three processes, gone afterwards."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import httpx2
import pika
import psutil
import psycopg
from psycopg import conninfo, sql

from bench.machine import services

DEADLINE = 60.0
STOP_DEADLINE = 20.0
COMMAND = str(Path(sys.executable).with_name("jobmill"))


@dataclass
class Installation:
    """What runs: the API's port, the key, the database's address, and the processes by name."""

    port: int
    token: str
    database_url: str
    processes: dict[str, psutil.Popen]

    def peak_megabytes(self) -> dict[str, float]:
        """The most memory that each process, children included, has held at once."""
        return {
            f"{name}{f' child {number}' if number else ''}": _peak(process)
            for name, parent in self.processes.items()
            for number, process in enumerate([parent, *parent.children(recursive=True)])
        }


@contextmanager
def installation(
    database_url: str, rabbitmq_url: str, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Installation]:
    """Start everything with these settings besides the usual ones, and end and remove it again."""
    with ExitStack() as afterwards:
        yield _started(afterwards, database_url, rabbitmq_url, settings)


@contextmanager
def of_its_own(settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[Installation]:
    """The same on the services at hand."""
    urls = services()
    with installation(urls["database"], urls["rabbitmq"], settings) as running:
        yield running


def _started(afterwards: ExitStack, database_url: str, rabbitmq_url: str, settings: Mapping[str, str]) -> Installation:
    """What is made goes `afterwards`, each whatever becomes of the others."""
    name = f"jobmill_bench_{uuid4().hex[:12]}"
    token = f"jm_bench_{uuid4().hex}{uuid4().hex}"
    afterwards.callback(drop_database, database_url, name)
    url = make_database(database_url, name)
    afterwards.callback(_remove_queues, rabbitmq_url, name)
    port = _free_port()
    environment = os.environ | {
        "DATABASE_URL": url,
        "RABBITMQ_URL": rabbitmq_url,
        "PORT": str(port),
        "JOBMILL_QUEUE_PREFIX": name,
        "JOBMILL_BOOTSTRAP_API_KEY": token,
        "JOBMILL_JOBS": "bench.jobs",
        "PYTHONPATH": str(Path.cwd()),
        "LOG_LEVEL": "WARNING",
        **settings,
    }
    subprocess.run([COMMAND, "db", "upgrade"], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE)
    running = Installation(port, token, url, {})
    afterwards.callback(_end, running.processes)
    for role in ("api", "dispatcher", "worker"):
        running.processes[role] = psutil.Popen([COMMAND, role], env=environment)
    _wait_until_ready(running, int(environment.get("JOBMILL_PROCESSES", "1")))
    return running


def _wait_until_ready(running: Installation, workers: int) -> None:
    """Until the API answers, and as many worker processes as there should be have told of themselves."""
    headers = {"Authorization": f"Bearer {running.token}"}
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            answer = httpx2.get(f"http://127.0.0.1:{running.port}/v1/workers", headers=headers, trust_env=False)
            if answer.status_code == httpx2.codes.OK and len(answer.json()["data"]) >= workers:
                return
        time.sleep(0.1)
    raise TimeoutError(f"The installation was not ready after {DEADLINE} s.")


def _end(processes: Mapping[str, psutil.Popen]) -> None:
    for process in processes.values():
        process.terminate()
    for process in processes.values():
        try:
            process.wait(STOP_DEADLINE)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()


def _peak(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"no peak memory for process {process.pid}")


def make_database(server: str, name: str) -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    parts = conninfo.conninfo_to_dict(server)
    password = f":{parts['password']}" if parts.get("password") else ""
    return f"postgresql://{parts.get('user', '')}{password}@{parts.get('host', '')}:{parts.get('port', 5432)}/{name}"


def drop_database(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _remove_queues(url: str, prefix: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        for queue in ("default", "webhooks", "redrives"):
            for name in (f"{prefix}.{queue}", f"{prefix}.{queue}.XQ"):
                connection.channel().queue_delete(name)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
