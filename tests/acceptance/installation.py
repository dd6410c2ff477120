"""Whole installations of the product, embedded and full, as the README sets them up, and what tests do with them."""

import os
import secrets
import signal
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import httpx2
import psycopg

from tests.acceptance.process import Process, free_port, jobmill

READY_SECONDS = 40
END_SECONDS = 20
LOOK_EVERY = 0.05
FINAL = {"succeeded", "dead", "cancelled", "discarded"}
LAST_LINES = 60

Json = dict[str, Any]
Eventually = Callable[..., Any]


class Installation(ABC):
    """Running processes and a client with the key to them. `worker` is the process that does the jobs.

    Where `tables` are there already, nobody makes them.
    """

    mode: str
    processes: dict[str, Process]
    worker: Process

    def __init__(self, folder: Path, eventually: Eventually, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.eventually = eventually
        self.tables = False
        port, self.key = free_port(), f"jm_acceptance_{secrets.token_urlsafe(32)}"
        self.settings = {"PORT": str(port), "JOBMILL_BOOTSTRAP_API_KEY": self.key, **settings}
        self.address = f"http://127.0.0.1:{port}"
        self.accepted: list[Json] = []  # every job that was answered with 202
        self.at_rest: dict[str, Any] = {}  # what its processes held when all was well, by name
        self.asked: set[str] = set()  # every idempotency key that was sent, whatever came of it
        self.client = httpx2.Client(
            base_url=self.address,
            headers={"Authorization": f"Bearer {self.key}"},
            limits=httpx2.Limits(max_connections=100),
            timeout=20,
            trust_env=False,
        )

    # The processes.

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException as error:
            error.add_note(self.logs())
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything, and see one job done."""
        self.prepare()
        for process in self.processes.values():
            process.start()
        self.wait_until_ready()
        self.succeeded(self.submit("demo.echo", {"value": "ready?"}), READY_SECONDS)

    def stop(self) -> None:
        self.client.close()
        for process in self.processes.values():
            process.ask_to_end()
        for process in self.processes.values():
            process.end()

    def start_worker(self) -> None:
        self.worker.start()
        self.wait_until_ready()

    def kill_worker(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End the worker with a signal; gives its exit code."""
        self.worker.send(number)
        return self.worker.wait()

    def kill_children(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the processes of the worker that run handlers, and not to the one that watches them."""
        for pid in self.child_pids():
            os.kill(pid, number)

    def child_pids(self) -> list[int]:
        """The processes of the worker that say that they live."""
        workers = self.client.get("/v1/workers").json()["data"]
        mine = [worker for worker in workers if worker["parent_pid"] == self.worker.pid]
        return [worker["pid"] for worker in mine if worker["state"] in {"live", "connecting", "draining"}]

    def restart_worker(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.kill_worker(number)
        self.start_worker()

    def wait_until_ready(self) -> None:
        self.eventually(self._serves, READY_SECONDS, LOOK_EVERY)

    def logs(self) -> str:
        """The last words of every process, without the requests that went well."""
        return "\n".join(f"--- {name}\n{_telling(process.words)}" for name, process in self.processes.items())

    def _serves(self) -> bool:
        """Whether the API is ready and the present worker has said that it is there."""
        ended = [process.name for process in self.processes.values() if not process.alive]
        assert not ended, f"ended by themselves: {ended}"
        try:
            if self.client.get("/readyz").status_code != httpx2.codes.OK:
                return False
            workers = self.client.get("/v1/workers").json()["data"]
        except httpx2.TransportError:
            return False
        return any(
            self.worker.pid in {worker["pid"], worker["parent_pid"]} and worker["state"] == "live" for worker in workers
        )

    @abstractmethod
    def prepare(self) -> None:
        """Do what must be done once, before the first start."""

    @abstractmethod
    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on the installation's database, from outside."""

    # The jobs.

    def submit(self, job_type: str, args: Any, **more: Any) -> Json:
        answer = self.client.post("/v1/jobs", json={"type": job_type, "args": args, **more})
        assert answer.status_code == httpx2.codes.ACCEPTED, answer.text
        assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
        self.accepted.append(answer.json())
        return answer.json()

    def job(self, job_id: str) -> Json:
        answer = self.client.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == httpx2.codes.OK, answer.text
        return answer.json()

    def until(self, job: Json, condition: Callable[[Json], bool], within_seconds: float = END_SECONDS) -> Json:
        """The job, once the condition holds for it."""

        def look() -> Json | None:
            seen.append(self.job(job["id"]))
            return seen[-1] if condition(seen[-1]) else None

        seen: list[Json] = []
        try:
            return self.eventually(look, within_seconds, LOOK_EVERY)
        except BaseException as error:
            error.add_note(f"last seen: {seen[-1:]}")
            raise

    def in_state(self, job: Json, state: str, within_seconds: float = END_SECONDS) -> Json:
        return self.until(job, lambda now: now["state"] == state, within_seconds)

    def ended(self, job: Json, within_seconds: float = END_SECONDS) -> Json:
        return self.until(job, lambda now: now["state"] in FINAL, within_seconds)

    def succeeded(self, job: Json, within_seconds: float = END_SECONDS) -> Json:
        end = self.ended(job, within_seconds)
        assert end["state"] == "succeeded", end
        return end

    def events(self, job: Json) -> list[Json]:
        """The job's history, oldest first."""
        answer = self.client.get(f"/v1/jobs/{job['id']}/events", params={"limit": 200})
        assert answer.status_code == httpx2.codes.OK, answer.text
        assert answer.json()["next_cursor"] is None
        return answer.json()["data"][::-1]


class Embedded(Installation):
    """`jobmill up`: one process, which is the worker too."""

    mode = "embedded"

    def __init__(self, folder: Path, eventually: Eventually, settings: Mapping[str, str]) -> None:
        super().__init__(folder, eventually, {"JOBMILL_DATA_DIR": str(folder / "data"), **settings})
        self.worker = Process("up", settings=self.settings | metrics_port(), folder=folder)
        self.processes = {"up": self.worker}

    def prepare(self) -> None:
        """Nothing: it makes its directory and tables by itself."""

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "data" / "jobmill.db", timeout=10)) as connection, connection:
            return connection.execute(statement).fetchall()


class Full(Installation):
    """The Procfile: release, api, dispatcher, worker."""

    mode = "full"

    def __init__(self, folder: Path, eventually: Eventually, settings: Mapping[str, str]) -> None:
        super().__init__(folder, eventually, settings)
        self.processes = {
            "api": Process("api", settings=self.settings, folder=folder),
            "dispatcher": Process("dispatcher", settings=self.settings | metrics_port(), folder=folder),
            "worker": Process("worker", settings=self.settings | metrics_port(), folder=folder),
        }
        self.worker = self.processes["worker"]

    def prepare(self) -> None:
        if self.tables:
            return
        release = jobmill("db", "upgrade", settings=self.settings, folder=self.folder)
        assert release.returncode == os.EX_OK, release.stderr

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.settings["DATABASE_URL"], autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


def metrics_port() -> Json:
    """The setting that has a process serve its metrics, on a port of its own."""
    return {"JOBMILL_METRICS_PORT": str(free_port())}


def _telling(words: str) -> str:
    lines = [line for line in words.splitlines() if not ('"event": "request"' in line and '"status": 2' in line)]
    return "\n".join(lines[-LAST_LINES:])
