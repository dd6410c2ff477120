"""Figures that fault tests measure, kept for docs/reliability.md when a run is told where (JOBMILL_TEST_FIGURES).

Those of a test that fails are not kept: it may have been half done.
"""

import fcntl
import json
import os
from pathlib import Path

VARIABLE = "JOBMILL_TEST_FIGURES"
_of_this_test: dict[tuple[str, str], str] = {}


def keep(fault: str, what: str, value: float, unit: str) -> None:
    """Print a figure, which is written once the test has passed."""
    shown = f"{value:,} {unit}" if isinstance(value, int) else f"{value:.4g} {unit}"
    print(f"{fault}: {what} {shown}")  # noqa: T201 - a run shows what it measured
    _of_this_test[fault, what] = shown.strip()


def end(*, passed: bool) -> None:
    """A test is over: where the variable names a file, its figures replace those of the same faults and names in it."""
    kept = dict(_of_this_test) if passed else {}
    _of_this_test.clear()
    if kept and (name := os.environ.get(VARIABLE)):
        with Path(name).open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tests run side by side
            file.seek(0)
            figures = json.loads(file.read() or "{}")
            for (fault, what), shown in kept.items():
                figures.setdefault(fault, {})[what] = shown
            file.truncate(0)
            file.write(json.dumps(figures, indent=1, sort_keys=True) + "\n")
