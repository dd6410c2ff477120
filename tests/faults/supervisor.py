"""What watches over processes on a machine, as systemd does: whatever has ended is started again. It strikes them too,
so that it is known afterwards which process was killed or frozen when, and which ended by itself.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import inf
from types import TracebackType
from typing import Self

import psutil

from tests.acceptance.installation import Installation, metrics_port
from tests.acceptance.private_services import PrivateService
from tests.acceptance.process import Process
from tests.faults.crashing import is_gone
from tests.faults.health import HEALTH_LAG_SECONDS, HealthWatch, Outage

LOOK_SECONDS = 0.1
BOOT_SECONDS = 20
"""A start takes three seconds, and beside a dozen other busy processes five times as long."""
WITNESSED_SECONDS = 90
ROLES = {
    "api": ("API server", "API process"),
    "dispatcher": ("dispatcher", ""),
    "worker": ("worker's parent", "worker's child"),
}
"""What a command's first process is, and what its children are."""


def doubled(installation: Installation) -> None:
    """Give a full installation a second dispatcher and a second worker, which run from now on."""
    for name in ("dispatcher", "worker"):
        folder = installation.folder / "second"
        folder.mkdir(exist_ok=True)
        second = Process(name, settings=installation.settings | metrics_port(), folder=folder)
        installation.processes[f"second {name}"] = second
        second.start()
    installation.eventually(lambda: len(_consuming(installation)) > 1, 40, 0.1)


def _consuming(installation: Installation) -> set[int]:
    workers = installation.client.get("/v1/workers").json()["data"]
    return {worker["parent_pid"] for worker in workers if worker["state"] == "live"}


def members(installation: Installation) -> Iterator[tuple[str, int]]:
    """Every process of an installation that lives now: its role, and its id."""
    for process in [one for one in installation.processes.values() if one.alive]:
        first, others = ROLES[process.name]
        yield first, process.pid
        with suppress(psutil.NoSuchProcess):
            children = [child.pid for child in psutil.Process(process.pid).children()]
            yield from ((others, pid) for pid in children if not is_gone(pid))


class Supervisor:
    """Starts again what has ended, while the block lasts; what it knows stays afterwards."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.struck: dict[int, float] = {}  # processes that were killed or frozen, and when
        self.thawed: list[tuple[int, float]] = []  # those that were frozen, and when they went on
        self.ended: list[str] = []  # those that ended although nobody struck them, and all they need was there
        self.outages: list[Outage] = []  # from the order to stop until the service serves again
        self._started: dict[int, float] = {}
        self._seen: set[psutil.Process] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(10)

    def kill(self, pid: int) -> bool:
        """Kill -9, as the kernel does when memory runs out; whether there was such a process."""
        return self._strike(pid, signal.SIGKILL)

    @contextmanager
    def frozen(self, pids: Sequence[int]) -> Iterator[None]:
        """Processes that stand still while the block lasts."""
        assert all(self._strike(pid, signal.SIGSTOP) for pid in pids)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    self.thawed.append((pid, time.monotonic()))
                    os.kill(pid, signal.SIGCONT)

    def restart(
        self, name: str, service: PrivateService, away_seconds: float, watch: HealthWatch | None = None
    ) -> Outage:
        """Stop a service and start it again a little later; gives when /readyz, where it has that name, must say so.

        With a watch it stays away until the API has said so: its own servers may just have been killed.
        """
        self.outages.append(Outage(name, time.monotonic(), inf))
        service.stop()
        gone = time.monotonic()
        time.sleep(away_seconds)
        if watch is not None:
            self.installation.eventually(lambda: watch.was_told_since(gone + HEALTH_LAG_SECONDS), WITNESSED_SECONDS)
        away = Outage(name, gone, time.monotonic())
        service.start()
        self.outages[-1] = replace(self.outages[-1], until=time.monotonic())
        return away

    def orphans(self) -> list[int]:
        """Processes that were there when something was struck, still live, and belong to no command that runs now."""
        present = {pid for _, pid in members(self.installation)}
        alive = [process.pid for process in self._seen if process.is_running() and not is_gone(process.pid)]
        return [pid for pid in alive if pid not in present]

    def _strike(self, pid: int, number: signal.Signals) -> bool:
        try:
            self._seen |= set(psutil.Process(pid).children())
            self.struck[pid] = time.monotonic()  # first, or its end could be noticed before
            os.kill(pid, number)
        except (psutil.NoSuchProcess, ProcessLookupError):
            return False
        return True

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for name, process in self.installation.processes.items():
                if not process.alive:
                    self._note_end(name, process)
                    process.start()
                    self._started[process.pid] = time.monotonic()

    def _note_end(self, name: str, process: Process) -> None:
        """One that starts while a service is away may say so and end, to be started again; others never."""
        started = self._started.get(process.pid, 0.0)
        excused = any(outage.since - BOOT_SECONDS < started < outage.until for outage in self.outages)
        if process.pid not in self.struck and not excused:
            last_words = process.words.splitlines()[-1:]
            self.ended.append(f"{name} ({process.wait()}, saying {last_words})")
