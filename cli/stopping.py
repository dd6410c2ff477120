"""Waiting for a signal to stop; a second one stops at once what the first let finish."""

import os
import queue
import signal
import threading
from types import FrameType


class StopSignal:
    """Set by SIGTERM or SIGINT, or by whoever sets the event.

    A further signal ends the process there and then, unless it is `patient`: a child leaves that to its parent,
    since whoever signals a whole group would otherwise reach it twice.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.event = threading.Event()
        self.patient = patient
        self._came = False
        # A handler runs between any two steps of the main thread, also while that holds the event's lock, or within
        # another handler. Setting the event there would wait for that lock for ever; this queue takes no lock.
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._pass_on, name="stop-signal", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def wait(self) -> None:
        """Wait for the first signal."""
        # Short waits, since a thread inside one long wait would not run the handler on every platform.
        while not self.event.wait(1.0):
            pass

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if (self._came or self.event.is_set()) and not self.patient:
            # Nothing is lost: what runs is given back when the process starts again.
            os._exit(128 + number)
        self._came = True
        self._numbers.put(number)

    def _pass_on(self) -> None:
        self._numbers.get()
        self.event.set()


class StopSignals:
    """For a parent: the first signal asks it to stop, a second to do so at once, a third ends it there and then."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    @property
    def asked(self) -> bool:
        """Whether there was a signal."""
        return bool(self.numbers)

    @property
    def urgent(self) -> bool:
        """Whether there was another."""
        return len(self.numbers) > 1

    @property
    def exit_code(self) -> int:
        """0, or the code of a process that was not let finish."""
        return 128 + self.numbers[1] if self.urgent else os.EX_OK

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.numbers.append(number)
        if len(self.numbers) > 2:  # noqa: PLR2004 - the third
            os._exit(128 + number)
