import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from models.ids import new_id
from models.job import Ref
from workers.report import MOST_RUNNING_TOLD, Report, Reporter, Running, decode, encode


def running(how_many: int) -> tuple[Running, ...]:
    return tuple(Running(Ref(new_id(), 2**63 - 1), 1_000_000.123456 - number) for number in range(how_many))


@pytest.mark.parametrize("report", [Report(), Report(True, True, True, 3, running(1), at=1_000_000.654321)])
def test_a_report_is_read_as_it_was_written(report: Report):
    assert decode(encode(report)) == report


def test_a_report_of_a_later_release_is_read_as_far_as_it_is_known():
    report = Report(True, True, False, 1, running(1), at=5.0)
    assert decode(encode(report).replace(b",5.0]", b',5.0,"more"]')) == report


@pytest.mark.parametrize(
    "line", [b"", b"what a handler printed", b"17", b"[true]", b'[true,true,false,1,[["x",1,2.0]],5.0]', b"null"]
)
def test_what_is_no_report_is_refused(line: bytes):
    with pytest.raises(ValueError):  # noqa: PT011 - each in words of its own
        decode(line)


def test_a_report_of_many_handlers_tells_of_those_that_must_end_first_and_is_written_in_one_piece():
    many = running(256)
    line = encode(Report(busy=256, running=many))
    assert len(line) <= select.PIPE_BUF
    assert decode(line).running == many[::-1][:MOST_RUNNING_TOLD]
    assert decode(line).busy == 256


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_a_reporter_reports_again_and_again_until_nobody_reads(pipe: tuple[int, int], eventually: Callable[..., Any]):
    reading, writing = pipe
    over = threading.Event()
    reporter = Reporter(writing, over.set)
    reporter.start()
    lines = b""
    began = time.monotonic()
    while lines.count(b"\n") < 3:
        lines += os.read(reading, 4096)
    reports = [decode(line) for line in lines.splitlines()[:3]]
    assert [replace(report, at=0.0) for report in reports] == [Report()] * 3
    assert began - 5 < reports[0].at < reports[1].at < reports[2].at <= time.monotonic()
    assert not reporter.orphaned.is_set()
    os.close(reading)
    assert over.wait(5)
    assert reporter.orphaned.is_set()
    reporter.thread.join(5)
    assert not reporter.thread.is_alive()


def test_what_a_process_says_last_is_that_it_ends_as_it_should(pipe: tuple[int, int]):
    reading, writing = pipe
    reporter = Reporter(writing, lambda: None)
    reporter.source = lambda: Report(ready=True, consuming=True)
    reporter.start()
    said = os.read(reading, 4096)
    reporter.tell_of_the_end()
    said += os.read(reading, 4096)
    first, *_, last = [decode(line).draining for line in said.splitlines()]
    assert (first, last) == (False, True)
    os.close(reading)
    reporter.thread.join(5)  # or it would write to whoever gets that descriptor next
    assert not reporter.thread.is_alive()


def test_a_report_that_cannot_be_made_is_not_the_last(pipe: tuple[int, int]):
    reading, writing = pipe
    reporter = Reporter(writing, lambda: None)
    tries: list[int] = []

    def source() -> Report:
        tries.append(1)
        if len(tries) < 3:
            raise MemoryError
        return Report(busy=7)

    reporter.source = source
    reporter.start()
    assert decode(os.read(reading, 4096).splitlines()[0]).busy == 7
    os.close(reading)
    reporter.thread.join(5)
    assert not reporter.thread.is_alive()


def test_a_reporter_whose_pipe_a_handler_closed_is_as_alone_as_one_without_a_parent(pipe: tuple[int, int]):
    _, writing = pipe
    over = threading.Event()
    reporter = Reporter(writing, over.set)
    os.close(writing)
    reporter.start()
    assert over.wait(5)


def test_a_reporter_notices_between_two_reports_that_it_is_alone(pipe: tuple[int, int]):
    reading, writing = pipe
    over = threading.Event()
    reporter = Reporter(writing, over.set)
    reporter.source = lambda: Report(consuming=True)  # which makes it report once a second
    reporter.start()
    os.read(reading, 4096)
    os.close(reading)
    assert over.wait(0.5)


def test_a_full_pipe_costs_reports_and_no_time(pipe: tuple[int, int], eventually: Callable[..., Any]):
    reading, writing = pipe
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"x" * 4096):
            pass
    reporter = Reporter(writing, lambda: None)
    asked: list[int] = []
    reporter.source = lambda: Report(busy=len(asked) if asked.append(1) else 0)  # type: ignore[func-returns-value]
    reporter.start()
    eventually(lambda: len(asked) >= 3)
    os.close(reading)
    reporter.thread.join(5)
