"""What a child process tells its parent about once a second, and the pipe that it goes through.

A report is one line of JSON, short enough that the kernel never cuts or mixes it. A pipe that is full loses
reports, not time: whoever reads it wants the last one.
"""

import errno
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

import orjson
import structlog

from models.job import Ref

log = structlog.get_logger(__name__)

EVERY_SECONDS = 1.0
AT_FIRST_SECONDS = 0.05
"""So often until the child consumes, which is news that the dispatcher waits for."""
MOST_RUNNING_TOLD = 20
"""Those that must end first: enough to see one that will not, and a line below PIPE_BUF, 4096 bytes."""


@dataclass(frozen=True)
class Running:
    """A handler that runs, and from when on it outruns its time limit.

    That is a moment of `time.monotonic`, which all processes of a machine share.
    """

    ref: Ref
    overdue_from: float


@dataclass(frozen=True)
class Report:
    """How a child is. `ready` says that its row is made, `consuming` that the broker may send it messages.

    `at` is when it was so, of `time.monotonic`: it may lie in the pipe while both processes stand still.
    """

    ready: bool = False
    consuming: bool = False
    draining: bool = False
    busy: int = 0
    running: tuple[Running, ...] = ()
    at: float = 0.0


def encode(report: Report) -> bytes:
    """The report as a line."""
    first = sorted(report.running, key=lambda one: one.overdue_from)[:MOST_RUNNING_TOLD]
    told = [[str(one.ref.id), one.ref.lease, one.overdue_from] for one in first]
    return orjson.dumps([report.ready, report.consuming, report.draining, report.busy, told, report.at]) + b"\n"


def decode(line: bytes) -> Report:
    """The report of a line, of which a later release may say more. Raises ValueError for any other."""
    try:
        ready, consuming, draining, busy, told, at, *_ = orjson.loads(line)
        running = tuple(Running(Ref(UUID(job_id), lease), since) for job_id, lease, since in told)
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error
    return Report(ready, consuming, draining, busy, running, at)


def _ending() -> Report:
    return Report(draining=True)


class Reporter:
    """Tells the parent how this process is, from a thread that waits for nothing else.

    `orphaned` is set, and `on_orphaned` called, as soon as there is no parent any more.
    """

    def __init__(self, descriptor: int, on_orphaned: Callable[[], None]) -> None:
        # What handlers start must not hold the pipe open.
        os.set_inheritable(descriptor, False)
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.on_orphaned = on_orphaned
        self.orphaned = threading.Event()
        self.source: Callable[[], Report] = Report
        self._telling = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self.thread.start()

    def tell_of_the_end(self) -> None:
        """Say that this process ends as it should: its exit status alone is also that of one that a handler ended."""
        self.source = _ending
        self._tell()

    def _run(self) -> None:
        # A pipe's writer is told of nothing but that the reader is gone.
        reader = select.poll()
        reader.register(self.descriptor, 0)
        gone = False
        while not gone:
            pause = EVERY_SECONDS
            try:
                report, heard = self._tell()
            except Exception:  # the parent would believe that a process without reports hangs
                with suppress(Exception):  # which is likely to fail of the same, such as a lack of memory
                    log.exception("report_failed")
            else:
                gone = not heard
                pause = EVERY_SECONDS if report.consuming or report.draining else AT_FIRST_SECONDS
            gone = bool(reader.poll(pause * 1000)) or gone
        self.orphaned.set()
        self.on_orphaned()

    def _tell(self) -> tuple[Report, bool]:
        """Say how it is at this moment, and whether anybody can hear it."""
        with self._telling:  # or what is older could be said last, which counts
            at = time.monotonic()
            report = replace(self.source(), at=at)
            return report, self._say(report)

    def _say(self, report: Report) -> bool:
        """Write one report; False when nobody can read it."""
        try:
            with suppress(BlockingIOError):
                os.write(self.descriptor, encode(report))
        except OSError as error:
            if error.errno not in {errno.EPIPE, errno.EBADF}:  # its reader is gone, or a handler closed it
                raise
            return False
        return True
