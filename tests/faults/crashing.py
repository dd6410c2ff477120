"""Making one process of an installation die, or freeze, at a crash point; and what the clock would do afterwards."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from tests.acceptance.installation import Full, Installation
from tests.acceptance.process import Process

REACHED = '"crashpoint_reached"'
DEATH_SECONDS = 30
LEADS_WITHIN = 30


def start_armed(process: Process, faults: str) -> Callable[[], list[dict[str, Any]]]:
    """Start a process with JOBMILL_FAULTS; gives what it says from now on of the points it reached."""
    said = len(process.words)
    process.settings["JOBMILL_FAULTS"] = faults
    process.start()
    del process.settings["JOBMILL_FAULTS"]  # the one that comes after it is unharmed
    return lambda: [json.loads(line) for line in process.words[said:].splitlines() if REACHED in line]


def await_death(installation: Installation, reached: Callable[[], list[dict[str, Any]]], point: str) -> int:
    """Wait until a process has died of its crash point; gives its id, which may be that of a child."""
    (told, *_) = installation.eventually(reached, DEATH_SECONDS, 0.05)
    assert (told["point"], told["action"]) == (point, "kill")
    installation.eventually(lambda: is_gone(told["pid"]), 10)
    for process in installation.processes.values():
        if process.running is not None and process.pid == told["pid"]:
            assert process.wait() == -signal.SIGKILL
    return told["pid"]


def await_freeze(installation: Installation, reached: Callable[[], list[dict[str, Any]]], point: str) -> int:
    """Wait until a process stands still at its crash point; gives its id."""
    (told, *_) = installation.eventually(reached, DEATH_SECONDS, 0.05)
    assert (told["point"], told["action"]) == (point, "stop")
    installation.eventually(lambda: psutil.Process(told["pid"]).status() == psutil.STATUS_STOPPED, 10)
    return told["pid"]


def is_gone(pid: int) -> bool:
    """Whether a process has ended; its parent may not have asked how yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def family(process: Process) -> list[int]:
    """A process and its children, the parent first."""
    return [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]


def kill_family(process: Process) -> list[int]:
    """Kill -9 a process and its children, as the end of their machine does; gives their ids."""
    if not process.alive:
        return []
    pids = family(process)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    return pids


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Processes that stand still while the block lasts, whoever stopped them."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def revive(installation: Installation) -> None:
    """Start what has ended, as a supervisor would, and wait until all of it is there."""
    started = [process for process in installation.processes.values() if not process.alive]
    for process in started:
        process.start()
    installation.wait_until_ready()
    if installation.processes.get("dispatcher") in started:
        # The API keeps what it found for a second, and that may be the one before.
        installation.eventually(lambda: installation.sql("SELECT 1 FROM leases WHERE expires_at > now()"), LEADS_WITHIN)


def let_time_pass(installation: Installation, dead: list[int]) -> None:
    """Have the database find as much time gone by as its thresholds ask for, where dead processes left their traces.

    Only what they wrote themselves is made older: nobody alive is taken for dead. Embedded there is nothing to wait
    for: the process that comes next knows that it is alone.
    """
    if not isinstance(installation, Full):
        return
    for pid in dead:
        installation.sql(f"UPDATE workers SET heartbeat_at = heartbeat_at - interval '20 s' WHERE pid = {pid}")  # noqa: S608
    installation.sql("UPDATE jobs SET dispatched_at = dispatched_at - interval '10 s' WHERE state = 'dispatched'")
    if not installation.processes["dispatcher"].alive:
        installation.sql("UPDATE leases SET expires_at = now()")
