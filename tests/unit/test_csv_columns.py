import math
import statistics
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.builtin.csv_columns import MOST_DISTINCT, Column, Distinct


def column(*batches: list[str]) -> Column:
    made = Column("x")
    for batch in batches:
        made.add(batch)
    return made


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([], "string"),
        (["", " ", "\t"], "string"),
        (["1", "-2", "+3", "", " 4 "], "integer"),
        (["9223372036854775807", "-9223372036854775808"], "integer"),
        (["9223372036854775808"], "number"),
        (["1", "2.5"], "number"),
        (["1.", ".5", "1e3", "-1E-3"], "number"),
        (["1" * 300], "number"),
        (["1" * 400], "string"),
        (["1e400"], "string"),
        (["NaN"], "string"),
        (["1", "inf"], "string"),
        (["-Infinity"], "string"),
        (["1_000"], "string"),
        (["1,5"], "string"),
        (["٣"], "string"),
        (["007"], "string"),
        (["0", "0.5", "-0"], "number"),
        (["0x10"], "string"),
        (["true", "FALSE", "True"], "boolean"),
        (["true", "1"], "string"),
        (["yes"], "string"),
        (["2024-01-31"], "datetime"),
        (["2024-01-31T10:00Z", "2024-01-31 10:00:00.123456789+02:00", "2024-01-31t10:00:00z"], "datetime"),
        (["2024-02-30"], "string"),
        (["20240131"], "integer"),
        (["2024-W01-1"], "string"),
        (["2024-01-31T25:00"], "string"),
        (["2024-01-31", "soon"], "string"),
        (["x"], "string"),
    ],
)
def test_a_column_has_the_narrowest_type_of_all_its_values(cells, kind):
    assert column(cells).type == kind
    assert column(*([cell] for cell in cells)).type == kind


def test_nulls_are_counted_and_tell_nothing_of_the_type():
    made = column(["", "1", " "], ["2"])
    assert (made.nulls, made.type, made.distinct.count) == (2, "integer", 2)


@pytest.mark.parametrize(
    ("batches", "least", "most", "mean"),
    [
        ([["3", "1"], ["2"]], 1, 3, 2.0),
        ([["9223372036854775807"] * 3], 2**63 - 1, 2**63 - 1, float(2**63 - 1)),
        ([["1"], ["2.5"], ["4"]], 1.0, 4.0, 2.5),
        ([["1e308"], ["1e308"]], 1e308, 1e308, None),
        ([["x", "1"]], None, None, None),
        ([[""]], None, None, None),
        ([["true"]], None, None, None),
    ],
)
def test_numbers_have_a_range_and_a_mean(batches, least, most, mean):
    made = column(*batches)
    assert (*made.range, made.mean) == (least, most, mean)
    assert [type(bound) for bound in made.range] == [type(least), type(most)]


def test_the_range_of_datetimes_is_in_time_and_as_written():
    made = column(["2024-01-01T00:30:00+02:00", "2024-01-01"], ["2023-12-31T23:00:00Z"])
    assert made.range == ("2024-01-01T00:30:00+02:00", "2024-01-01")


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_the_mean_of_integers_is_exact(numbers):
    assert column(*([str(number)] for number in numbers)).mean == sum(numbers) / len(numbers)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=200), st.integers(1, 50))
def test_the_mean_of_doubles_is_as_good_as_from_the_exact_sum(numbers, size):
    texts = [repr(number) for number in numbers]
    made = column(*(texts[at : at + size] for at in range(0, len(texts), size)))
    exact = float(statistics.mean(map(float, texts)))
    assert made.mean is not None
    # An absolute part for sums that cancel out: two doubles keep 106 bits of the largest number.
    assert math.isclose(made.mean, exact, rel_tol=1e-15, abs_tol=max(map(abs, numbers)) * 1e-28)


def test_what_rounding_takes_from_one_batch_counts_in_the_next():
    assert column(["1e16"], ["1.0"], ["-1e16"]).mean == 1 / 3


def test_tenths_add_up_without_drift():
    assert column(*([["0.1"] * 500] * 2000)).mean == 0.1


@pytest.mark.parametrize(
    ("different", "count"),
    [(0, 0), (1, 1), (5000, 5000), (MOST_DISTINCT, MOST_DISTINCT), (MOST_DISTINCT + 1, None), (50_000, None)],
)
def test_different_values_are_counted_exactly_up_to_ten_thousand(different, count):
    distinct = Distinct()
    for _ in range(2):
        for begin in range(0, different, 700):
            distinct.add([f"value {number}" for number in range(begin, min(begin + 700, different))])
    assert distinct.count == count


def test_ten_thousand_different_values_take_little_memory():
    tracemalloc.start()
    try:
        distinct = Distinct()
        for number in range(MOST_DISTINCT):
            distinct.add([f"value {number}"])
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert distinct.count == MOST_DISTINCT
    assert size < 200_000
