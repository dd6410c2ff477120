"""What a parent thinks of its children: whether one is well, how it died, and when the next may be started.

Pure functions of what was seen; the parent acts on them.
"""

import signal
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from models.job import Ref
from workers.report import Report

SILENT_AFTER = timedelta(seconds=60)
YIELD_WITHIN = timedelta(seconds=10)
"""How long after its time limit a handler may go on before its process is ended."""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=30)
LONG_LIFE = timedelta(minutes=1)


class Fate(StrEnum):
    """Why a parent ended its child."""

    SILENT = "silent"
    OVERDUE = "overdue"
    GRACE = "grace"
    AT_ONCE = "at-once"


AS_TOLD = {Fate.GRACE, Fate.AT_ONCE}
"""A deploy, or whoever stops a worker, ends the child: no job did."""


@dataclass(frozen=True)
class Verdict:
    """A child must be ended, and for which of its jobs, if for any."""

    fate: Fate
    overdue: tuple[Ref, ...] = ()


@dataclass(frozen=True)
class Cause:
    """Of what a child died: a word for the metric, and a clause for people, as history keeps it."""

    label: str
    words: str


def judge(report: Report, heard_at: float, now: float) -> Verdict | None:
    """Whether a child that sent this report then must be ended now; None: it is well.

    A handler counts as overdue only by a report that was made so long after it was interrupted: of one that was
    made before, nobody knows whether its handlers still run.
    """
    overdue = tuple(one.ref for one in report.running if report.at >= one.overdue_from + YIELD_WITHIN.total_seconds())
    if overdue:
        return Verdict(Fate.OVERDUE, overdue)
    if now - heard_at >= SILENT_AFTER.total_seconds():
        return Verdict(Fate.SILENT)
    return None


_ENDED = {
    Fate.SILENT: f"its process said nothing for {SILENT_AFTER.total_seconds():g} s and was killed",
    Fate.OVERDUE: "a handler in its process did not yield to its time limit, and the process was killed",
    Fate.GRACE: "its process did not stop within the grace period and was killed",
    Fate.AT_ONCE: "its worker was told to stop at once",
}


def cause_of(returncode: int, verdict: Verdict | None, *, out_of_memory: bool) -> Cause:
    """Of what a process died that ended so; `out_of_memory` says that the system counted such a kill meanwhile."""
    if verdict is not None and returncode == -signal.SIGKILL:
        return Cause(verdict.fate, _ENDED[verdict.fate])
    if returncode >= 0:
        return Cause("exit", f"its process exited with status {returncode}")
    if returncode == -signal.SIGKILL and out_of_memory:
        return Cause("oom", "its process was killed by SIGKILL, by the system for lack of memory")
    name = _name(-returncode)
    return Cause(name, f"its process was killed by {name}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def pause_before(deaths: int) -> timedelta:
    """How long to wait before a child is started again, after so many short lives in a row.

    The first death is followed at once: whoever lived well and is killed should be replaced, not punished.
    """
    if deaths <= 1:
        return timedelta(0)
    doublings = min(deaths - 2, 10)  # enough for the longest, and no overflow
    return min(FIRST_PAUSE * 2.0**doublings, LONGEST_PAUSE)


def deaths_in_a_row(before: int, lived_seconds: float) -> int:
    """How many short lives there were in a row, this one included; a long life begins a new row."""
    return 1 if lived_seconds >= LONG_LIFE.total_seconds() else before + 1
