"""Figures that fault tests measure, kept for docs/reliability.md when a run is told where (JOBMILL_TEST_FIGURES)."""

import json
import os
from pathlib import Path

VARIABLE = "JOBMILL_TEST_FIGURES"


def keep(fault: str, what: str, value: float, unit: str) -> None:
    """Print a figure; where the variable names a file, replace the one of that fault and name in it."""
    shown = f"{value:,} {unit}" if isinstance(value, int) else f"{value:.4g} {unit}"
    print(f"{fault}: {what} {shown}")  # noqa: T201 - a run shows what it measured
    if name := os.environ.get(VARIABLE):
        file = Path(name)
        figures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        figures.setdefault(fault, {})[what] = shown.strip()
        file.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
