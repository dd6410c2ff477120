"""The stretch of a thread that may be interrupted from outside: while it is inside a handler, and nowhere else.

An asynchronous exception that strikes in a commit, or in Dramatiq's loop, would do harm. So it is raised
only under a lock that the thread must take to leave the section, and one that was raised but not yet
delivered is withdrawn there. A section is interrupted once at most.
"""

import ctypes
import threading

from jobs.outcomes import Interrupt

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)
_NOTHING = ctypes.py_object()  # the null pointer, which withdraws; None would be raised, as a SystemError


class Section:
    """One handler's stretch. `enter` and `leave` are called by its thread, `interrupt` by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._interrupted = False

    def enter(self) -> None:
        """From here on the calling thread may be interrupted."""
        with self._lock:
            self._thread = threading.get_ident()

    def leave(self) -> None:
        """From here on it may not; an interrupt that has not struck yet never will. May be called twice.

        The interrupt can strike in here too. As there is only one, whoever catches it calls `leave` again:

            try:
                try:
                    section.enter()
                    ...
                finally:
                    section.leave()
            except Interrupt:
                section.leave()
        """
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None and self._interrupted:
                _raise_in_thread(thread, _NOTHING)

    def interrupt(self, kind: type[Interrupt]) -> bool:
        """Raise `kind` in the section's thread; False if it is outside, or was interrupted before."""
        with self._lock:
            if self._thread is None or self._interrupted:
                return False
            self._interrupted = True
            return bool(_raise_in_thread(self._thread, kind))
