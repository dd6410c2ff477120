import signal
from datetime import timedelta

import pytest

from models.ids import new_id
from models.job import Ref
from workers.report import Report, Running
from workers.verdict import (
    SILENT_AFTER,
    YIELD_WITHIN,
    Fate,
    Verdict,
    cause_of,
    deaths_in_a_row,
    judge,
    pause_before,
)

LATE, GOOD = Ref(new_id(), 1), Ref(new_id(), 2)
SILENT = SILENT_AFTER.total_seconds()
YIELD = YIELD_WITHIN.total_seconds()


def runs(at: float) -> Report:
    return Report(running=(Running(LATE, 100.0), Running(GOOD, 500.0)), at=at)


@pytest.mark.parametrize(
    ("report", "heard_at", "now", "verdict"),
    [
        (Report(), 0.0, SILENT - 0.1, None),
        (Report(), 0.0, SILENT, Verdict(Fate.SILENT)),
        (runs(100.0), 100.0, 100.1, None),  # its watchdog has only just told it
        (runs(100.0 + YIELD - 0.1), 100.0 + YIELD - 0.1, 100.0 + YIELD, None),
        (runs(100.0 + YIELD), 100.0 + YIELD, 100.0 + YIELD, Verdict(Fate.OVERDUE, (LATE,))),
        # Whether a handler still runs is only known of the moment of the report, whenever it was heard.
        (runs(99.0), 99.0, 100.0 + YIELD + 5, None),
        (runs(99.0), 100.0 + YIELD + 5, 100.0 + YIELD + 5, None),
        (runs(99.0), 99.0, 99.0 + SILENT, Verdict(Fate.SILENT)),
    ],
)
def test_a_child_is_well_silent_or_overdue(report, heard_at, now, verdict):
    assert judge(report, heard_at, now) == verdict


@pytest.mark.parametrize(
    ("returncode", "verdict", "out_of_memory", "label", "words"),
    [
        (3, None, False, "exit", "its process exited with status 3"),
        (0, None, True, "exit", "its process exited with status 0"),
        (-signal.SIGSEGV, None, True, "SIGSEGV", "its process was killed by SIGSEGV"),
        (-signal.SIGKILL, None, False, "SIGKILL", "its process was killed by SIGKILL"),
        (-signal.SIGKILL, None, True, "oom", "lack of memory"),
        (-signal.SIGKILL, Verdict(Fate.SILENT), True, "silent", "said nothing for 60 s"),
        (-signal.SIGKILL, Verdict(Fate.OVERDUE, (LATE,)), False, "overdue", "did not yield to its time limit"),
        (-signal.SIGKILL, Verdict(Fate.GRACE), False, "grace", "within the grace period"),
        # It died of something else before it could be killed.
        (-signal.SIGSEGV, Verdict(Fate.SILENT), False, "SIGSEGV", "killed by SIGSEGV"),
        (-40, None, False, "signal 40", "killed by signal 40"),
    ],
)
def test_the_cause_of_a_death_is_told_apart(returncode, verdict, out_of_memory, label, words):
    cause = cause_of(returncode, verdict, out_of_memory=out_of_memory)
    assert cause.label == label
    assert words in cause.words


def test_the_first_death_is_followed_at_once_and_then_ever_later():
    assert [pause_before(deaths).total_seconds() for deaths in range(9)] == [0, 0, 1, 2, 4, 8, 16, 30, 30]
    assert pause_before(10_000) == timedelta(seconds=30)


@pytest.mark.parametrize(("before", "lived", "now"), [(0, 5, 1), (1, 5, 2), (7, 59.9, 8), (7, 60, 1)])
def test_a_minute_of_life_begins_a_new_row_of_deaths(before, lived, now):
    assert deaths_in_a_row(before, lived) == now
