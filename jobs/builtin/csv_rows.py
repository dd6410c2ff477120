"""Reads CSV (RFC 4180, UTF-8) as a stream: from chunks of any size to batches of rows, in bounded memory."""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jobs.outcomes import Permanent

BLOCK_BYTES = 64 * 1024
BATCH_ROWS = 500
BATCH_CHARACTERS = 256 * 1024
MOST_FIELD_CHARACTERS = 1024 * 1024
MOST_ROW_CHARACTERS = 2 * 1024 * 1024
MOST_COLUMNS = 256

# The limit is the process's own and by default refuses cells over 128 KiB; here the row is what is bounded.
csv.field_size_limit(max(csv.field_size_limit(), MOST_FIELD_CHARACTERS))

Row = list[str]


class BadCsv(Permanent):
    """The document is no CSV that can be profiled."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "bad-csv")


@dataclass(frozen=True)
class Table:
    """A header and the rows below it, each as wide as the header, in batches."""

    names: list[str]
    batches: Iterator[list[Row]]


def table(text: Iterable[str], delimiter: str) -> Table:
    """The CSV in these pieces of text.

    Blank lines are no rows. A row may be shorter than the header, its missing cells are empty; one that is
    longer, unless by empty cells, is refused: it mostly means a wrong delimiter or a missing quote.
    """
    lines = _Lines(text)
    rows = _Rows(lines, delimiter)
    names = next(rows, [])
    if len(names) > MOST_COLUMNS:
        raise BadCsv(f"The header names {len(names)} columns; at most {MOST_COLUMNS} can be profiled.")
    return Table(names, _batches(rows, lines, len(names)))


def decoded(chunks: Iterable[bytes]) -> Iterator[str]:
    """The chunks as text, without a byte order mark; raises BadCsv where they are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    offset = 0
    for block in _blocks(chunks):
        yield _decode(decoder, block, offset)
        offset += len(block)
    yield _decode(decoder, b"", offset, final=True)


def _decode(decoder: codecs.IncrementalDecoder, block: bytes, offset: int, *, final: bool = False) -> str:
    held_back = len(decoder.getstate()[0])
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        place = offset - held_back + error.start
        raise BadCsv(f"The document is not UTF-8 (byte {place}); save or convert it as UTF-8.") from None


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks joined into larger ones, so that a peer sending single bytes does not cost a step for each."""
    block = bytearray()
    for chunk in chunks:
        block += chunk
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    yield bytes(block)


class _Lines:
    """Physical lines with their ends, counting the characters of the row that they go into."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text = text
        self.row_characters = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._split():
            self._count(len(line))
            yield line

    def _split(self) -> Iterator[str]:
        rest = ""
        for piece in self._text:
            # As csv wants them: split at \n, \r and \r\n only, and nothing translated.
            *lines, rest = (*io.StringIO(rest + piece, newline=""), "")
            if lines and not lines[-1].endswith("\n"):  # a \r at the very end may be half of \r\n
                rest = lines.pop()
            yield from lines
            if len(rest) > MOST_ROW_CHARACTERS:
                self._count(len(rest))
        if rest:
            yield rest

    def _count(self, characters: int) -> None:
        self.row_characters += characters
        if self.row_characters > MOST_ROW_CHARACTERS:
            raise BadCsv(f"A row is longer than {MOST_ROW_CHARACTERS} characters; is a closing quote missing?")


class _Rows:
    """Parsed rows, blank lines left out; knows the line that it is at."""

    def __init__(self, lines: _Lines, delimiter: str) -> None:
        self._lines = lines
        # Strict, since otherwise a document cut off inside quotes passes for a whole one.
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        row: Row = []
        while not row:
            row = self._next()
        return row

    @property
    def line(self) -> int:
        """The number of the last line read."""
        return self._reader.line_num

    def _next(self) -> Row:
        self._lines.row_characters = 0
        try:
            return next(self._reader)
        except csv.Error as error:
            raise BadCsv(f"Line {self.line} is not CSV: {error}.") from None


def _batches(rows: _Rows, lines: _Lines, width: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(_fitted(row, width, rows.line))
        characters += lines.row_characters
        if len(batch) == BATCH_ROWS or characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _fitted(row: Row, width: int, line: int) -> Row:
    if len(row) == width:
        return row
    if any(cell.strip() for cell in row[width:]):
        raise BadCsv(f"The row at line {line} has {len(row)} cells, the header names {width} columns.")
    return (row + [""] * (width - len(row)))[:width]
