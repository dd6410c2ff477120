"""Figures that fault tests measure, kept for docs/reliability.md when a run is told where (JOBMILL_TEST_FIGURES)."""

import fcntl
import json
import os
from pathlib import Path

VARIABLE = "JOBMILL_TEST_FIGURES"


def keep(fault: str, what: str, value: float, unit: str) -> None:
    """Print a figure; where the variable names a file, replace the one of that fault and name in it."""
    shown = f"{value:,} {unit}" if isinstance(value, int) else f"{value:.4g} {unit}"
    print(f"{fault}: {what} {shown}")  # noqa: T201 - a run shows what it measured
    if name := os.environ.get(VARIABLE):
        with Path(name).open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tests run side by side
            file.seek(0)
            figures = json.loads(file.read() or "{}")
            figures.setdefault(fault, {})[what] = shown.strip()
            file.truncate(0)
            file.write(json.dumps(figures, indent=1, sort_keys=True) + "\n")
