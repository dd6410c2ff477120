"""The place in the user's code: a function, the same wherever its lines are and whatever it called."""

import json
import linecache
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.places import LONGEST, place_of, users_part
from tests.unit.test_attempt import Args, run, run_raising

HERE = __name__


def place_left(raising: Callable[[], Any]) -> str | None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        raising()
    return place_of(caught.value)


def fail() -> None:
    raise ValueError("here")


def call_library() -> None:
    json.loads("{")


def module(source: str, name: str, file: str) -> types.ModuleType:
    made = types.ModuleType(name)
    exec(compile(source, file, "exec"), made.__dict__)  # noqa: S102
    return made


def test_it_is_the_innermost_function_of_the_users_code():
    assert place_left(fail) == f"{HERE}:fail"
    assert place_left(call_library) == f"{HERE}:call_library"


def test_methods_lambdas_and_inner_functions_are_told_by_their_way():
    class Report:
        def total(self) -> None:
            fail_in = lambda: 1 / 0  # noqa: E731
            fail_in()

    assert place_left(Report().total) == (
        f"{HERE}:test_methods_lambdas_and_inner_functions_are_told_by_their_way.<locals>.Report.total.<locals>.<lambda>"
    )


def test_a_comprehension_is_a_part_of_its_function():
    """Up to Python 3.11 it has a frame of its own, later none."""

    def halve() -> Any:
        return [{1 / number for number in (1, 0)} for _ in range(2)]

    assert place_left(halve) == f"{HERE}:test_a_comprehension_is_a_part_of_its_function.<locals>.halve"


def test_it_stays_when_lines_move():
    source = "def run():\n    raise ValueError('x')\n"
    moved = "# a comment\n\n\n" + source.replace("raise", "x = 1\n    raise")
    places = [place_left(module(text, "acme.jobs", "/srv/acme/jobs.py").run) for text in (source, moved)]
    assert places == ["acme.jobs:run"] * 2


def test_code_without_its_source_has_a_place_too(tmp_path: Path):
    """As compiled files alone have been installed."""
    made = module("def run():\n    raise ValueError('x')\n", "acme.compiled", str(tmp_path / "gone.pyc"))
    linecache.clearcache()
    assert place_left(made.run) == "acme.compiled:run"


def test_of_chained_exceptions_it_is_where_the_last_was_raised():
    def wrap() -> None:
        try:
            call_library()
        except ValueError as error:
            raise RuntimeError("wrapped") from error

    assert place_left(wrap) == f"{HERE}:{wrap.__qualname__}"


def test_an_exception_that_was_raised_before_is_told_by_where_it_left_last():
    kept: list[Exception] = []
    try:
        fail()
    except ValueError as error:
        kept.append(error)

    def raise_again() -> None:
        raise kept[0].with_traceback(None)

    assert place_left(raise_again) == f"{HERE}:{raise_again.__qualname__}"


def test_a_recursion_without_end_has_a_place():
    def deeper() -> None:
        deeper()

    assert place_left(deeper) == f"{HERE}:{deeper.__qualname__}"


def test_job_types_that_are_installed_are_users_code_where_nothing_else_is():
    installed = f"{sys.prefix}/lib/python3/site-packages"
    library = module("def parse():\n    return 1 / 0\n", "library.parsing", f"{installed}/library/parsing.py")
    acme = module(
        "def run(parse):\n    inner(parse)\ndef inner(parse):\n    parse()\n", "acme.jobs", f"{installed}/acme/jobs.py"
    )
    error: BaseException | None = None
    try:
        acme.run(library.parse)
    except ZeroDivisionError as caught:
        error = caught.with_traceback(caught.__traceback__.tb_next if caught.__traceback__ else None)
    assert error is not None
    assert place_of(error) == "acme.jobs:inner"


def test_an_exception_that_left_no_frame_has_no_place():
    assert place_of(ValueError("never raised")) is None


def test_a_very_long_name_is_cut():
    name = "f" * 300
    assert (
        len(place_left(module(f"def {name}():\n    1 / 0\n", "acme", "/srv/acme.py").__dict__[name]) or "") == LONGEST
    )


# As attempts record it


def test_a_handler_that_fails_has_its_place_recorded_and_jobmills_own_code_is_none():
    def handler(args: Args) -> None:
        call_library()

    failure = run(handler).failure  # type: ignore[union-attr]
    assert failure.place == f"{HERE}:call_library"


def test_a_trace_begins_with_the_handler_and_not_with_what_called_it():
    def handler(args: Args) -> None:
        call_library()

    lines = (run(handler).failure.trace or "").splitlines()  # type: ignore[union-attr]
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith("in handler")
    assert "jobs/attempt.py" not in "\n".join(lines)


def test_a_trace_without_any_of_the_users_code_is_kept_as_it_is():
    error: BaseException | None = None
    try:
        module("def serve():\n    raise OSError\n", "jobs.attempt", "/srv/jobmill/jobs/attempt.py").serve()
    except OSError as caught:
        error = caught.with_traceback(caught.__traceback__ and caught.__traceback__.tb_next)
    assert error is not None
    assert users_part(error) is error.__traceback__
    assert place_of(error) is None


def test_a_shipped_handler_is_a_place_like_any_other():
    from jobs.builtin.demo import fail as demo_fail

    failure = run(demo_fail).failure  # type: ignore[union-attr]
    assert failure.place == "jobs.builtin.demo:fail"


def test_arguments_that_do_not_fit_have_no_place():
    def handler(args: Args) -> None:
        raise AssertionError("must not run")

    assert run(handler, {"number": "x"}).failure.place is None  # type: ignore[union-attr]


def test_a_timeout_has_no_place_since_it_strikes_anywhere():
    from jobs.outcomes import TimedOut

    assert run_raising(TimedOut).failure.place is None  # type: ignore[union-attr]
