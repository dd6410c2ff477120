import codecs
from collections.abc import Iterable, Iterator

import pytest

from jobs.builtin.csv_rows import BATCH_ROWS, MOST_COLUMNS, MOST_ROW_CHARACTERS, BadCsv, decoded, table


def read(pieces: Iterable[str], delimiter: str = ",") -> list[list[str]]:
    document = table(pieces, delimiter)
    return [document.names, *(row for batch in document.batches for row in batch)]


def pieces_of(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", [[]]),
        ("\n\r\n", [[]]),
        ("a,b", [["a", "b"]]),
        ("a,b\n1,2", [["a", "b"], ["1", "2"]]),
        ("a,b\r\n1,2\r\n", [["a", "b"], ["1", "2"]]),
        ("a,b\r1,2\r3,4\r", [["a", "b"], ["1", "2"], ["3", "4"]]),
        ("a\n\n1\n\n\n2\n", [["a"], ["1"], ["2"]]),
        ('a\n""\n', [["a"], [""]]),
        ('a,b\n"x\ny","p\r\nq"\n', [["a", "b"], ["x\ny", "p\r\nq"]]),
        ('a\n"say ""hi"", you"\n', [["a"], ['say "hi", you']]),
        ('a\n5" pipe\n', [["a"], ['5" pipe']]),
        ("a\nx\u2028y\x85z\x0c\n", [["a"], ["x\u2028y\x85z\x0c"]]),
        ("a,b\n1\n1,2,\n1,2, ,\n", [["a", "b"], ["1", ""], ["1", "2"], ["1", "2"]]),
    ],
)
def test_a_document_reads_the_same_in_pieces_of_any_size(text, rows, size):
    assert read(pieces_of(text, size)) == rows


def test_another_delimiter_may_be_named():
    assert read(["a;b\n1,5;2\n"], ";") == [["a", "b"], ["1,5", "2"]]


def test_rows_come_in_batches():
    batches = list(table(["a\n" + "1\n" * (BATCH_ROWS + 1)], ",").batches)
    assert [len(batch) for batch in batches] == [BATCH_ROWS, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 cells.*2 columns"),
        ('a\n"never closed\n', "Line 2 is not CSV"),
        ('a\n"x"y\n', "Line 2 is not CSV"),
        (",".join("x" * (MOST_COLUMNS + 1)), "257 columns"),
        ("a\n" + "x" * (MOST_ROW_CHARACTERS + 1), "longer than 2097152"),
        ('a\n"' + "x\n" * 600_000, "not CSV: field larger"),
        ("a\n" + '"\n",' * 600_000, "longer than 2097152"),
    ],
    ids=["long row", "open quote", "stray quote", "columns", "long line", "long field", "long row over lines"],
)
def test_what_cannot_be_profiled_is_refused_with_its_line(text, words):
    with pytest.raises(BadCsv, match=words) as refusal:
        read(pieces_of(text, 64 * 1024))
    assert refusal.value.code == "bad-csv"


def bytes_of(body: bytes, size: int) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


@pytest.mark.parametrize("size", [1, 2, 100_000])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_utf8_is_read_across_chunks_and_without_its_mark(mark, size):
    text = "a,é\n😀,ü\n" * 10_000
    assert "".join(decoded(bytes_of(mark + text.encode(), size))) == text


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"a\n\xe9\n", 2),
        (b"x" * 70_000 + b"\xff", 70_000),
        (b"x" * 65_535 + b"\xc3" + b"(" * 10, 65_535),
        ("a\n".encode("utf-16"), 0),
        (b"caf\xc3", 3),
    ],
)
def test_what_is_not_utf8_is_refused_with_its_place(body, place):
    with pytest.raises(BadCsv, match=rf"byte {place}\)"):
        list(decoded(bytes_of(body, 1000)))
