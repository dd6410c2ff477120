"""What commands print: tables that fit a terminal, plain aligned columns in a pipe, or the raw JSON document.

rich is imported only on a terminal; a pipe does not pay for it.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from cli.visible import visible

Pairs = Iterable[tuple[str, object]]
Row = Sequence[object]
NOTHING = "-"
WIDEST = 1000
# Columns that may be broken into lines on a terminal.
PROSE = {"scopes", "reason", "error", "message", "description"}

# On a terminal a table's times end with the second.
_FRACTION = re.compile(r"(?<=T\d\d:\d\d:\d\d)\.\d+(?=Z$)")


class Lines(str):
    """A text that is shown line by line, as a trace."""

    __slots__ = ()


def on_terminal() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout.isatty()


def document(body: bytes) -> None:
    """The server's document as it came, on its own line."""
    click.echo(body.rstrip())


def made_document(value: Any) -> None:
    """A document made here, in the API's manner: ISO times with Z, ids as strings."""
    click.echo(json.dumps(value, ensure_ascii=False, default=_text))


def note(text: str) -> None:
    """A word to the person, beside the output."""
    click.echo(visible(text), err=True)


def details(pairs: Pairs) -> None:
    """One thing, a line for each of its parts; parts that are None are left out."""
    shown = [(name, _lines(value)) for name, value in pairs if value is not None]
    if on_terminal():
        _rich_details(shown)
        return
    width = max((len(name) for name, _ in shown), default=0)
    for name, lines in shown:
        click.echo("\n".join(f"{name if not at else '':{width}}  {line}" for at, line in enumerate(lines)))


class Table:
    """Rows under headings, printed batch by batch; columns grow with what comes and are never cut in a pipe."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._widths = [len(column) for column in columns]
        self._begun = False

    def show(self, rows: Iterable[Row]) -> None:
        """Print some rows, the headings before the first."""
        cells = [[visible(_text(value)) for value in row] for row in rows]
        if on_terminal():
            _rich_table(self._columns, cells)
            return
        for row in cells:
            self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row, strict=True)]
        for row in cells if self._begun else [[name.upper() for name in self._columns], *cells]:
            padded = (f"{cell:{width}}" for cell, width in zip(row, self._widths, strict=True))
            click.echo("  ".join(padded).rstrip())
        self._begun = True


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=box.SIMPLE_HEAD, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in PROSE, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_FRACTION.sub("", cell)) for cell in row))
    console = Console()
    # Rather wider than the terminal than with ids cut short, which nobody could copy.
    needed = Measurement.get(console, console.options.update(max_width=WIDEST), table).minimum
    Console(width=max(console.width, needed)).print(table)


def _rich_details(shown: Sequence[tuple[str, Sequence[str]]]) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, lines in shown:
        grid.add_row(Text(name), Text("\n".join(lines)))
    Console().print(grid)


def _lines(value: object) -> list[str]:
    if isinstance(value, dict | list):
        return [visible(line) for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n")]
    if isinstance(value, Lines):
        return [visible(line) for line in value.rstrip("\n").split("\n")]
    return [visible(_text(value))]


def _text(value: object) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
