from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from jobs.registry import JobType, Registry, job
from jobs.whole_numbers import whole


class Args(BaseModel, extra="forbid"):
    number: int = 0
    numbers: list[int] = []
    anything: Any = None


@pytest.fixture
def declared() -> JobType:
    own = Registry()

    @job("acme.count", into=own)
    def handler(args: Args) -> None:
        """Nothing."""

    return own.get("acme.count")


@pytest.mark.parametrize(
    ("given", "made"),
    [(1.0, 1), (-3.0, -3), (0.0, 0), (2.0**53, 2**53), (1, 1)],
)
def test_a_whole_number_is_an_integer_however_it_is_written(given: Any, made: int):
    assert (whole(given), type(whole(given))) == (made, int)


@pytest.mark.parametrize("given", [1.5, 2.0**54, 1e300, True, "1", None, [1.0]])
def test_nothing_else_becomes_one(given: Any):
    assert whole(given) is given


def test_arguments_may_have_them_wherever_an_integer_is_wanted(declared: JobType):
    assert declared.parse({"number": 5.0, "numbers": [1.0, 2]}) == Args(number=5, numbers=[1, 2])


def test_what_may_be_anything_stays_as_it_is_written(declared: JobType):
    assert type(dict(declared.parse({"anything": 1.0}))["anything"]) is float


@pytest.mark.parametrize("args", [{"number": "5"}, {"number": 5.5}, {"number": True}, {"number": 1e300}])
def test_what_is_no_integer_is_refused(declared: JobType, args: Any):
    with pytest.raises(ValidationError):
        declared.parse(args)


def test_only_what_is_wrong_is_told(declared: JobType):
    with pytest.raises(ValidationError) as raised:
        declared.parse({"number": 5.0, "numbers": ["x"]})
    assert [error["loc"] for error in raised.value.errors()] == [("numbers", 0)]
