"""One attempt in a process of its own, from the worker's side: what is asked and heard, and when patience ends."""

import time

import orjson

from jobs.context import Progress
from jobs.outcomes import Interrupt, Json, LeaseLost, Outcome
from jobs.registry import JobType
from workers.isolation import journal
from workers.isolation.answers import unpacked
from workers.isolation.context import told_of
from workers.isolation.frames import Frame, Garbled
from workers.isolation.process import HandlerProcess
from workers.running import Run
from workers.section import Section

LOOK_SECONDS = 0.1
"""How soon a cancellation, an interrupt and a silent death are noticed."""
HEARD_WITHIN = 0.4
"""Seconds until a process that does not say that it raised the interrupt is killed: its handler holds the GIL."""
LET_GO_WITHIN = 2.0
"""Seconds that a handler has to clean up, once it was interrupted, before its process is killed."""


class Hearing(Section):
    """The section of a thread that waits for another process: it looks for its interrupt and is never struck."""

    asked: type[Interrupt] | None = None

    def interrupt(self, kind: type[Interrupt]) -> bool:
        """Ask the thread to end its handler for this reason; False if it is outside, or was asked before."""
        with self._lock:
            if self._thread is None or self.asked is not None:
                return False
            self.asked = kind
            return True


class Died(Exception):  # noqa: N818 - reads as the sentence it is
    """The process is gone."""


class Conversation:
    """Gives a job to a process and hears it out. `begun` once the process said that it took the job up."""

    def __init__(self, process: HandlerProcess, run: Run) -> None:
        self.process = process
        self.channel = process.channel
        self.run = run
        self.begun = False
        self.worn = False
        self._cancel_told = False
        self._patience_until: float | None = None

    @property
    def asked(self) -> type[Interrupt] | None:
        """Why the handler must end, if it must."""
        return self.run.section.asked if isinstance(self.run.section, Hearing) else None

    def hold(self, job_type: JobType, args: Json) -> Outcome | None:
        """What the attempt came to; None when patience ran out and the process must be killed.

        Raises Died, and Garbled when the process no longer makes sense.
        """
        self.channel.post(
            "job",
            orjson.dumps(args),
            context=told_of(self.run.context),
            memory_limit_mb=job_type.memory_limit_mb,
            cpu_limit_seconds=job_type.cpu_limit_seconds,
        )
        while self._patient():
            if (frame := self._next()) is not None and (outcome := self._heed(frame)) is not None:
                return outcome
        return None

    def _next(self) -> Frame | None:
        try:
            frame = self.channel.receive(LOOK_SECONDS)
        except (EOFError, OSError) as error:
            raise Died from error
        # The hang-up tells of most deaths; not while a process that the handler forked holds the other end too.
        if frame is None and self.process.died():
            raise Died
        return frame

    def _patient(self) -> bool:
        now = time.monotonic()
        if self.begun and self.run.context.cancelled and not self._cancel_told:
            self._cancel_told = True
            self.channel.post("cancel")
        if self.asked is not None and self._patience_until is None:
            self._patience_until = now + HEARD_WITHIN
            self.channel.post("interrupt", reason=self.asked.__name__)
        return self._patience_until is None or now < self._patience_until

    def _heed(self, frame: Frame) -> Outcome | None:
        match frame.kind:
            case "begun":
                self.begun = True
            case "progress":
                self.run.context.latest_progress = Progress(frame.told["percent"], frame.told["message"])
            case "log":
                journal.write(frame)
            case "checkpoint":
                self._keep(frame.body)
            case "heard":
                self._patience_until = time.monotonic() + LET_GO_WITHIN
            case "outcome":
                self.worn = bool(frame.told["worn"])
                return unpacked(frame)
            case _:
                raise Garbled(frame.kind)
        return None

    def _keep(self, body: bytes) -> None:
        try:
            self.run.context.desk.save_checkpoint(orjson.loads(body))
        except (LeaseLost, Exception) as error:  # noqa: BLE001 - whatever it is, the handler shall hear of it
            self.channel.post("refused", reason=type(error).__name__, message=str(error))
        else:
            self.channel.post("kept")
