"""The parent of a worker's processes: starts them, watches over them, and takes back the jobs of those that die.

It runs no job and imports none, so that whatever a handler does to its process, someone is left to tell of it. Its
one loop waits for nothing but its children; what it has to write goes through the registrar's thread.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import structlog

from models.ids import new_id
from workers import metrics, slate
from workers.memory import MemoryKills
from workers.registrar import Gone, Living, Registrar
from workers.report import Report, decode
from workers.slate import Slate
from workers.verdict import AS_TOLD, Cause, Fate, Verdict, cause_of, deaths_in_a_row, judge, pause_before

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.2
STOOD_STILL_SECONDS = 5.0
"""A look that comes later than this says that the parent itself was stopped, and heard nothing meanwhile."""
MARGIN_SECONDS = 12.0
"""What a child may need beyond the grace period: to give back messages, to interrupt, to close."""
LAST_WRITES_SECONDS = 5.0
DYING_SECONDS = 0.1
PIPE_BYTES = 65536


class Stopping(Protocol):
    """Whether the parent was asked to stop, and to do it at once."""

    @property
    def asked(self) -> bool:
        """To stop."""

    @property
    def urgent(self) -> bool:
        """At once."""


@dataclass(frozen=True)
class Birth:
    """What a child is started with; `report_to` and `slate` are descriptors.

    The `first` of all tells what is wrong and ends, where later ones wait for the database. One that `replaces`
    another does not repeat a fault that a test armed.
    """

    slot: int
    worker_id: UUID
    report_to: int
    slate: int
    first: bool
    replaces: bool


Command = Callable[[Birth], Sequence[str]]
"""Gives the command line of a child."""


@dataclass
class Child:
    """One process: `heard_at` and `born_at` are moments of `time.monotonic`."""

    worker_id: UUID
    process: subprocess.Popen[bytes]
    pipe: int
    slate: Slate
    born_at: float
    heard_at: float
    report: Report = field(default_factory=Report)
    verdict: Verdict | None = None
    unread: bytes = b""

    def listen(self, now: float) -> bool:
        """Read what it has said, of which the last report counts; False when it can say no more."""
        try:
            read = os.read(self.pipe, PIPE_BYTES)
        except BlockingIOError:
            return True
        *lines, self.unread = (self.unread + read).split(b"\n")
        if lines:
            self._hear(lines[-1], now)
        return bool(read)

    def _hear(self, line: bytes, now: float) -> None:
        try:
            self.report = decode(line)
        except ValueError:  # as good as silence
            log.warning("report_not_understood", pid=self.process.pid, worker_id=str(self.worker_id))
        else:
            self.heard_at = now

    def end(self, verdict: Verdict) -> None:
        """Kill it, for that reason."""
        if self.verdict is None:
            self.verdict = verdict
            self.process.kill()


@dataclass
class Slot:
    """The place of one child after the other."""

    number: int
    child: Child | None = None
    deaths: int = 0
    start_at: float = 0.0
    used: bool = False


class Parent:
    """Runs `processes` children until it is told to stop."""

    def __init__(self, command: Command, processes: int, grace_seconds: float, registrar: Registrar) -> None:
        self.command = command
        self.grace_seconds = grace_seconds
        self.registrar = registrar
        self.slots = [Slot(number) for number in range(processes)]
        self.selector = selectors.DefaultSelector()
        self.looked_at = time.monotonic()
        self.stop_by: float | None = None
        self.ready = False
        self.refusal = os.EX_OK
        self.memory_kills = MemoryKills()

    def run(self, stop: Stopping) -> int:
        """Watch until told to stop, or until the very first child refuses to start; gives the exit code."""
        self.registrar.start()
        while not self._over(stop):
            self._listen()
            self.memory_kills.look()
            now = time.monotonic()
            self._judge(now)
            self._reap(stop, now)
            if stop.asked:
                self._stop(stop, now)
            elif not self.refusal:
                self._start(now)
            self._tell_who_lives()
        self.registrar.stop(LAST_WRITES_SECONDS)
        return self.refusal

    def _over(self, stop: Stopping) -> bool:
        return (stop.asked or self.refusal != os.EX_OK) and not any(True for _ in self._children())

    def _children(self) -> Iterator[tuple[Slot, Child]]:
        for slot in self.slots:
            if slot.child is not None:
                yield slot, slot.child

    # Watching

    def _listen(self) -> None:
        ready = self.selector.select(LOOK_SECONDS)
        now = time.monotonic()
        for key, _ in ready:
            if not key.data.listen(now):
                self._hang_up(key.data)
            self._note_readiness(key.data)
        stood_still = now - self.looked_at - LOOK_SECONDS
        self.looked_at = now
        if stood_still > STOOD_STILL_SECONDS:
            for _, child in self._children():
                child.heard_at = min(now, child.heard_at + stood_still)

    def _hang_up(self, child: Child) -> None:
        """Its end of the pipe is closed, most likely since it is just dying."""
        self.selector.unregister(child.pipe)
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(DYING_SECONDS)

    def _note_readiness(self, child: Child) -> None:
        if child.report.ready and not self.ready:
            self.ready = True
            log.info("worker_ready", processes=len(self.slots))

    def _judge(self, now: float) -> None:
        for _, child in self._children():
            verdict = judge(child.report, child.heard_at, now)
            if verdict is not None and child.verdict is None:
                log.error("child_ended", pid=child.process.pid, worker_id=str(child.worker_id), reason=verdict.fate)
                child.end(verdict)

    def _tell_who_lives(self) -> None:
        self.registrar.living(
            [
                Living(child.worker_id, child.process.pid, child.report.consuming and not child.report.draining)
                for _, child in self._children()
                if child.report.ready
            ]
        )

    # Life and death

    def _start(self, now: float) -> None:
        # The first child goes ahead alone, and finds out whether any can live.
        for slot in self.slots if self.ready else self.slots[:1]:
            if slot.child is None and now >= slot.start_at:
                self._try_to_start(slot, now)

    def _try_to_start(self, slot: Slot, now: float) -> None:
        try:
            slot.child = self._born(slot, now)
        except OSError as error:  # no memory or no process is left on the machine
            slot.deaths += 1
            slot.start_at = now + pause_before(slot.deaths + 1).total_seconds()
            log.error("child_not_started", error=str(error), again_in_seconds=slot.start_at - now)  # noqa: TRY400
        slot.used = True

    def _born(self, slot: Slot, now: float) -> Child:
        with slate.make() as shared:
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            descriptors = writing, shared.fileno()
            birth = Birth(slot.number, new_id(), *descriptors, first=not self.ready, replaces=slot.used)
            try:
                own = Slate(shared.fileno())
                process = subprocess.Popen(  # noqa: S603 - our own command
                    self.command(birth),
                    stdin=subprocess.DEVNULL,
                    pass_fds=descriptors,
                    # Ctrl-C reaches a whole group: the children are told by us, once.
                    process_group=0,
                )
            except OSError:
                os.close(reading)
                raise
            finally:
                os.close(writing)
        child = Child(birth.worker_id, process, reading, own, born_at=now, heard_at=now)
        self.selector.register(reading, selectors.EVENT_READ, child)
        return child

    def _reap(self, stop: Stopping, now: float) -> None:
        for slot, child in self._children():
            returncode = child.process.poll()
            if returncode is None:
                continue
            if child.pipe in self.selector.get_map():
                self.selector.unregister(child.pipe)
            child.listen(now)  # its last words
            os.close(child.pipe)
            slot.child = None
            self._bury(slot, child, returncode, stop, now)
            child.slate.close()

    def _bury(self, slot: Slot, child: Child, returncode: int, stop: Stopping, now: float) -> None:
        cause = cause_of(returncode, child.verdict, out_of_memory=self.memory_kills.any_lately())
        if returncode > 0 and not (self.ready or stop.asked):
            self.refusal = returncode  # it has said why, and left nothing behind
            return
        self._tell_who_lives()
        overdue = child.verdict.overdue if child.verdict else ()
        as_asked = _as_asked(child, returncode, stop)
        asked = as_asked or cause.label in AS_TOLD
        self.registrar.gone(Gone(child.worker_id, cause.words, overdue, child.slate.read(), asked=asked))
        if as_asked:
            slot.deaths = 0
            return
        slot.deaths = deaths_in_a_row(slot.deaths, now - child.born_at)
        slot.start_at = now + pause_before(slot.deaths).total_seconds()
        self._tell_of_death(slot, child, cause, now)

    def _tell_of_death(self, slot: Slot, child: Child, cause: Cause, now: float) -> None:
        metrics.child_deaths.labels(cause.label).inc()
        log.error(
            "child_died",
            pid=child.process.pid,
            worker_id=str(child.worker_id),
            cause=cause.words,
            busy=child.report.busy,
            lived_seconds=round(now - child.born_at, 1),
            again_in_seconds=round(slot.start_at - now, 1),
        )

    # Stopping

    def _stop(self, stop: Stopping, now: float) -> None:
        if self.stop_by is None:
            self.stop_by = now + self.grace_seconds + MARGIN_SECONDS
            log.info("worker_stopping", children=sum(1 for _ in self._children()))
            for _, child in self._children():
                child.process.send_signal(signal.SIGTERM)
        if stop.urgent or now >= self.stop_by:
            for _, child in self._children():
                child.end(Verdict(Fate.AT_ONCE if stop.urgent else Fate.GRACE))


def _as_asked(child: Child, returncode: int, stop: Stopping) -> bool:
    """Whether it ended because it was told to: by its own word, since a handler may end it with the same status."""
    if returncode == os.EX_OK:
        return stop.asked or child.report.draining
    return stop.asked and returncode == -signal.SIGTERM  # perhaps before it could listen
