"""The job type `csv.profile`: what is in a CSV document, column by column, in one pass over a stream."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.builtin.csv_columns import Column
from jobs.builtin.csv_rows import Table, decoded, table
from jobs.builtin.http_outcomes import check_status, refusals_are_permanent
from jobs.context import Context
from jobs.outcomes import Permanent
from jobs.registry import job

if TYPE_CHECKING:  # its libraries are slow to import, and an API process never calls out
    from jobs.outbound import StreamedAnswer

MOST_BYTES = 16 * 1024**3
LONGEST_NAME = 100
LONGEST_SHOWN = 64


class CsvProfile(BaseModel):
    """The document, inline or by address; UTF-8, with a header in its first row."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "oneOf": [{"required": [source], "properties": {source: {"type": "string"}}} for source in ("text", "url")]
        },
    )

    text: str | None = Field(
        default=None, description="The document itself.", json_schema_extra={"contentMediaType": "text/csv"}
    )
    url: str | None = Field(default=None, max_length=8192, description="Where the document is to be read from.")
    delimiter: str = Field(default=",", pattern=r'^[^"\r\n]$', description="What stands between two cells.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.text is None) == (self.url is None):
            raise ValueError("give exactly one of text and url")
        return self


class ColumnProfile(BaseModel):
    """One column.

    `distinct` counts values as written, exact to 10,000 and null above; `min` and `max` are numbers,
    datetimes as written, or null; `mean` is null unless the column is numeric.
    """

    name: str
    type: Literal["integer", "number", "boolean", "datetime", "string"]
    nulls: int
    distinct: int | None
    min: int | float | str | None
    max: int | float | str | None
    mean: float | None


class Profile(BaseModel):
    """The rows below the header, and the columns in the document's order."""

    rows: int
    columns: list[ColumnProfile]


@job("csv.profile", timeout=timedelta(minutes=30))
def profile(args: CsvProfile, context: Context) -> Profile:
    """Profiles a CSV document: rows, and per column its type, nulls, distinct values, least, greatest and mean.

    Give the document as `text`, or as a `url` that it is read from. It is streamed, so its size hardly
    matters for memory. Cells that are empty or blank are nulls; a row may be shorter than the header, not
    longer; at most 256 columns.
    """
    with _source(args, context) as source:
        return _profile(table(source.counted(), args.delimiter), source, context)


@dataclass
class _Source:
    """The document's text and how much of it was read; `total` is 0 when nobody knows."""

    text: Iterable[str]
    total: int
    read: int = 0

    def counted(self) -> Iterator[str]:
        for piece in self.text:
            self.read += len(piece)
            yield piece

    @property
    def percent(self) -> float:
        return min(99.0, 100 * self.read / self.total) if self.total else 0.0


@contextmanager
def _source(args: CsvProfile, context: Context) -> Iterator[_Source]:
    if args.text is not None:
        yield _Source([args.text.removeprefix("\ufeff")], len(args.text))
        return
    with (
        refusals_are_permanent(),
        context.http.stream(
            "GET",
            args.url or "",
            headers={"Accept": "text/csv, text/plain, */*;q=0.5"},
            deadline_seconds=context.timeout.total_seconds(),
            most_bytes=MOST_BYTES,
        ) as answer,
    ):
        _check_answer(answer)
        yield _Source(decoded(answer.chunks), _announced_length(answer))


def _check_answer(answer: "StreamedAnswer") -> None:
    check_status(answer.status, answer.headers, datetime.now(UTC))
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", ""}:
        raise Permanent(f"The server sent the document as {encoding[:50]}, though asked not to.", "bad-encoding")


def _announced_length(answer: "StreamedAnswer") -> int:
    length = answer.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < len(str(MOST_BYTES)) + 1 else 0


def _profile(document: Table, source: _Source, context: Context) -> Profile:
    columns = [Column(name) for name in _unique(document.names)]
    rows = 0
    for batch in document.batches:
        context.raise_if_cancelled()
        for column, cells in zip(columns, zip(*batch, strict=True), strict=True):
            column.add(cells)
        rows += len(batch)
        context.progress(source.percent, f"{rows} rows")
    context.progress(100, f"{rows} rows")
    return Profile(rows=rows, columns=[_told(column) for column in columns])


def _told(column: Column) -> ColumnProfile:
    least, most = column.range
    return ColumnProfile(
        name=column.name,
        type=column.type,
        nulls=column.nulls,
        distinct=column.distinct.count,
        min=_shown(least),
        max=_shown(most),
        mean=column.mean,
    )


def _shown(value: float | str | None) -> float | str | None:
    return value[:LONGEST_SHOWN] if isinstance(value, str) else value


def _unique(names: list[str]) -> list[str]:
    """The header's names, bounded; an empty one becomes `column_3`, a second `a` becomes `a_2`."""
    taken: dict[str, None] = {}
    for number, name in enumerate(names, start=1):
        taken[_free(name.strip()[:LONGEST_NAME] or f"column_{number}", taken)] = None
    return list(taken)


def _free(name: str, taken: dict[str, None]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
