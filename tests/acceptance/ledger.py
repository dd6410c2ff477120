"""What the handlers of `ledger_jobs` wrote down, and what they write it with."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from jobs.context import Context


def note(ledger: Path, event: str, context: Context) -> None:
    """Append a line; O_APPEND keeps lines of several processes whole."""
    line = f"{event} {context.job_id} {context.lease} {context.attempt} {time.monotonic()} {os.getpid()}\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Entry:
    """One line: `at` is a moment of `time.monotonic`, which is the same for all processes of a machine."""

    event: str
    job_id: str
    lease: int
    attempt: int
    at: float
    pid: int


class Ledger:
    """A file of entries, and a gate beside it that holds handlers until it is opened."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"
        self.gate = folder / "gate"

    @property
    def args(self) -> dict[str, str]:
        """Arguments of a job that ends at once."""
        return {"ledger": str(self.path)}

    @property
    def gated_args(self) -> dict[str, str]:
        """Arguments of a job that works until the gate is open."""
        return self.args | {"gate": str(self.gate)}

    def open_gate(self) -> None:
        self.gate.touch()

    def everything(self) -> list[Entry]:
        # Behind the last line's end stands what is being written just now.
        lines = self.path.read_text().rpartition("\n")[0].splitlines() if self.path.exists() else []
        return [
            Entry(event, job_id, int(lease), int(attempt), float(at), int(pid))
            for event, job_id, lease, attempt, at, pid in map(str.split, lines)
        ]

    def entries(self, event: str, job_id: str | None = None) -> list[Entry]:
        return [entry for entry in self.everything() if entry.event == event and job_id in {None, entry.job_id}]

    def starts(self, job_id: str | None = None) -> list[Entry]:
        return self.entries("start", job_id)

    def ends(self, job_id: str | None = None) -> list[Entry]:
        return self.entries("end", job_id)
