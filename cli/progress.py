"""Showing how far a job is while somebody waits: a bar on a terminal, else a line for each change; on stderr."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cli import output
from cli.job_view import line
from cli.visible import visible
from cli.waiting import Report


@contextmanager
def progress() -> Iterator[Report]:
    """A report for `waiting.wait`."""
    if sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield each_change(line)


def each_change(line: Callable[[Mapping[str, Any]], str]) -> Report:
    """A report of a line for each change."""
    last = ""

    def report(job: Mapping[str, Any]) -> None:
        nonlocal last
        now = line(job)
        if now != last:
            output.note(now)
        last = now

    return report


@contextmanager
def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.fields[state]}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None, state="waiting")

        def report(job: Mapping[str, Any]) -> None:
            told = job.get("progress") or {}
            percent = 100 if job.get("state") == "succeeded" else told.get("percent")
            bar.update(
                task,
                # None leaves the total as it is: until a job tells its progress, the bar only moves to and fro.
                total=None if percent is None else 100,
                completed=percent,
                state=visible(str(job.get("state"))),
                description=visible(told.get("message") or ""),
            )

        yield report
