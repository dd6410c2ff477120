import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from unittest.mock import create_autospec

import orjson
import pytest

from jobs.builtin.csv_profile import CsvProfile, profile
from jobs.outbound import Outbound, StreamedAnswer
from jobs.outbound_errors import AddressRefused, BodyTooLarge, ConnectionLost
from jobs.testing import run_job

SPECIES = ("setosa", "versicolor", "virginica")
IRIS = "sepal_length,sepal_width,petal_length,petal_width,species\n" + "".join(
    f"{4 + row % 37 / 10},{20 + row % 24}e-1,{row % 60 / 10},{row % 25 / 10},{SPECIES[row // 50]}\n"
    for row in range(150)
)


def served(chunks, status: int = 200, headers: dict[str, str] | None = None) -> Outbound:
    @contextmanager
    def stream(*_, **__) -> Iterator[StreamedAnswer]:
        yield StreamedAnswer(status, headers or {}, iter(chunks))

    outbound = create_autospec(Outbound, instance=True)
    outbound.stream.side_effect = stream
    return outbound


def profiled(text: str, **args):
    return run_job(profile, {"text": text, **args}).result


def from_url(http: Outbound):
    return run_job(profile, {"url": "https://example.com/data.csv"}, http=http)


def test_a_table_of_flowers_has_four_numbers_and_a_name():
    result = profiled(IRIS)
    assert result["rows"] == 150
    assert [column["type"] for column in result["columns"]] == ["number"] * 4 + ["string"]
    assert [column["name"] for column in result["columns"]][::4] == ["sepal_length", "species"]
    assert result["columns"][4] == {
        "name": "species",
        "type": "string",
        "nulls": 0,
        "distinct": 3,
        "min": None,
        "max": None,
        "mean": None,
    }


def test_every_figure_of_a_small_table():
    assert profiled("n,x,ok,at,s\n1,0.5,true,2024-01-02,a\n3,,false,2024-01-01,a\n") == {
        "rows": 2,
        "columns": [
            {"name": "n", "type": "integer", "nulls": 0, "distinct": 2, "min": 1, "max": 3, "mean": 2.0},
            {"name": "x", "type": "number", "nulls": 1, "distinct": 1, "min": 0.5, "max": 0.5, "mean": 0.5},
            {"name": "ok", "type": "boolean", "nulls": 0, "distinct": 2, "min": None, "max": None, "mean": None},
            {"name": "at", "type": "datetime", "nulls": 0, "distinct": 2,
             "min": "2024-01-01", "max": "2024-01-02", "mean": None},
            {"name": "s", "type": "string", "nulls": 0, "distinct": 1, "min": None, "max": None, "mean": None},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "rows", "names"),
    [
        ("", 0, []),
        ("a,b\n", 0, ["a", "b"]),
        ("\ufeffa\n1\n", 1, ["a"]),
        ("a,,a,a_2,a\n", 0, ["a", "column_2", "a_2", "a_2_2", "a_3"]),
        (f"{'n' * 5000}\n", 0, ["n" * 100]),
        ("a\x00\n", 0, ["a\ufffd"]),
    ],
)
def test_the_header_names_the_columns_each_once(text, rows, names):
    result = profiled(text)
    assert (result["rows"], [column["name"] for column in result["columns"]]) == (rows, names)


def test_another_delimiter_may_be_named():
    assert [column["type"] for column in profiled("a;b\n1;x\n", delimiter=";")["columns"]] == ["integer", "string"]


def test_the_widest_table_has_a_result_that_fits():
    names = ",".join(f'"{number}{chr(1) * 200}"' for number in range(256))
    values = ",".join("2024-01-01T00:00:00." + "1" * 200 for _ in range(256))
    assert len(orjson.dumps(profiled(f"{names}\n{values}\n"))) < 512 * 1024


@pytest.mark.parametrize("args", [
    {}, {"text": "a", "url": "https://x"}, {"text": "a", "delimiter": ""}, {"text": "a", "delimiter": '"'},
    {"text": "a", "delimiter": "\n"}, {"text": "a", "delimiter": "ab"}, {"text": "a", "header": True},
])  # fmt: skip
def test_arguments_are_checked(args):
    ran = run_job(profile, args)
    assert ran.error
    assert ran.error.code == "invalid-args"


def test_the_schema_says_that_text_is_csv():
    assert CsvProfile.model_json_schema()["properties"]["text"]["contentMediaType"] == "text/csv"


def test_a_broken_document_is_final_and_says_where():
    ran = run_job(profile, {"text": "a,b\n1,2,3\n"})
    assert ran.permanent
    assert ran.error
    assert ran.error.code == "bad-csv"
    assert "line 2" in ran.error.message


def test_a_document_is_read_from_a_url_and_progress_follows_its_length():
    body = b"a\n" + b"1\n" * 200_000
    chunks = [body[at : at + 100_000] for at in range(0, len(body), 100_000)]
    ran = from_url(served(chunks, headers={"content-length": str(len(body))}))
    assert ran.result["rows"] == 200_000
    percents = [told.percent for told in ran.progress]
    assert percents == sorted(percents)
    assert 10 < percents[len(percents) // 2] < 90
    assert (percents[-1], ran.progress[-1].message) == (100, "200000 rows")


@pytest.mark.parametrize("length", ["", "0", "-5", "x", "9" * 5000])
def test_a_length_that_says_nothing_does_no_harm(length):
    assert from_url(served([b"a\n1\n"], headers={"content-length": length})).result["rows"] == 1


@pytest.mark.parametrize(
    ("http", "code"),
    [
        (served([], 404), "unexpected-status"),
        (served([], 302, {"location": "https://example.com"}), "unexpected-status"),
        (served([b"a\n\xff\n"]), "bad-csv"),
        (served([b"\x1f\x8b"], headers={"content-encoding": "gzip"}), "bad-encoding"),
    ],
)
def test_an_answer_that_is_no_document_is_final(http, code):
    ran = from_url(http)
    assert ran.permanent
    assert ran.error
    assert ran.error.code == code


def test_a_busy_server_is_tried_again_when_it_says():
    assert from_url(served([], 503, {"retry-after": "5"})).retry_after == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("error", "permanent"), [(AddressRefused("inside"), True), (BodyTooLarge(5), True), (ConnectionLost("x"), False)]
)
def test_a_stream_that_breaks_is_final_only_if_no_retry_can_mend_it(error, permanent):
    def chunks() -> Iterator[bytes]:
        yield b"a\n"
        raise error

    ran = from_url(served(chunks()))
    assert ran.error
    assert ran.permanent is permanent


def test_a_cancellation_stops_it_between_batches():
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        yield b"a\n"
        for _ in range(1000):
            read += 1
            yield b"1\n" * 10_000

    ran = run_job(profile, {"url": "https://example.com"}, http=served(chunks()), cancelled=True)
    assert ran.cancelled
    assert read < 20


def big(total: int) -> Iterator[bytes]:
    """Long cells keep the rows few and the test quick; each cell differs, as is worst for memory."""
    yield b"id,text\n"
    for number in range(total // 10_000):
        yield b'%d,"%d %s"\n' % (number, number, b"x" * 10_000)


def test_memory_does_not_grow_with_the_document():
    tracemalloc.start()
    try:
        result = from_url(served(big(100_000_000))).result
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result["rows"] == 10_000
    assert result["columns"][1]["distinct"] == 10_000
    assert peak < 10_000_000
