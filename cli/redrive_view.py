"""How a redrive looks to a person: in a table, in full, and while it goes on."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cli import output
from cli.progress import each_change
from cli.visible import visible
from cli.waiting import Report

COLUMNS = ("id", "action", "state", "matched", "waiting", "succeeded_again", "died_again", "created_at", "created_by")
_LEFT_OUT = {"filter"}


def row(found: Mapping[str, Any]) -> output.Row:
    """A redrive as a row of COLUMNS."""
    return [found.get(column) for column in COLUMNS]


def details(found: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """All that is known of it."""
    yield from ((name, value) for name, value in found.items() if name not in _LEFT_OUT)
    wanted = found.get("filter") or {}
    yield "filter", " ".join(f"{name}={value}" for name, value in wanted.items()) or "all dead letters"


def sentence(asked: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What a redrive would do."""
    verb = "replays" if asked["action"] == "replay" else "discards for good"
    letters = "1 dead letter" if found["matched"] == 1 else f"{found['matched']} dead letters"
    groups = len(found["groups"])
    of = "one group" if groups == 1 else f"{groups} groups" if groups < 20 else "20 groups and more"  # noqa: PLR2004 - as many as the server tells
    return f"This {verb} {letters} of {of} at {asked['rate_per_second']:g} a second."


def line(found: Mapping[str, Any]) -> str:
    """How far it is, in a line."""
    handled = found["matched"] - found["waiting"]
    told = f"{found['state']}: {handled} of {found['matched']} had their turn"
    counts = ("succeeded_again", "died_again", "unanswered", "failing", "discarded", "skipped")
    return ", ".join([told, *(f"{found[name]} {name.replace('_', ' ')}" for name in counts if found.get(name))])


@contextmanager
def progress() -> Iterator[Report]:
    """A report of how it goes on: a bar on a terminal, else a line for each change; on stderr."""
    if sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield each_change(line)


@contextmanager
def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)

        def report(found: Mapping[str, Any]) -> None:
            handled = found["matched"] - found["waiting"]
            bar.update(task, total=found["matched"], completed=handled, description=visible(line(found)))

        yield report
