"""Waiting for a signal to stop; a second one stops at once what the first let finish."""

import os
import signal
import threading
from types import FrameType


class StopSignal:
    """Set by SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self.event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def wait(self) -> None:
        """Wait for the first signal."""
        # Short waits, since a thread inside one long wait would not run the handler on every platform.
        while not self.event.wait(1.0):
            pass

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.event.is_set():
            # Nothing is lost: what runs is rescued as from any process that died.
            os._exit(128 + number)
        self.event.set()
