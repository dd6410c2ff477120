"""A process for isolated handlers, as its worker sees it: started fresh, talked to over a channel, ended and reaped."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from jobs.addresses import Network
from workers.isolation.frames import Channel

LET_GO_WITHIN = 1.0
"""Seconds that a process gets to end by itself once its worker hung up, or it did."""

# Not `-m`: that would put the working directory first, and a user's own `models` before ours. The path is the
# worker's as it stands, additions of the command and of tests included.
_BEGIN = "import sys; sys.path[:] = sys.argv[3:]; from workers.isolation.inside import main; main()"


class HandlerProcess:
    """One such process, from its start until it is reaped.

    It leads a process group, so that whatever a handler started ends with it; and it holds the reading end
    of a pipe, its lifeline, whose other end dies with the worker (see `workers.isolation.inside`).
    """

    def __init__(self, modules: Sequence[str], networks: Sequence[Network], allow_http: bool, log_level: int) -> None:
        """Start one. Raises OSError when the machine cannot bear another process."""
        self.fresh = True
        self.idle_since = 0.0
        self._ending = threading.Lock()
        ours, theirs = socket.socketpair()
        held, lifeline = os.pipe()
        self._lifeline: int | None = lifeline
        self.channel = Channel(ours)
        try:
            self._popen = _started(theirs.fileno(), held)
        except BaseException:
            ours.close()
            os.close(lifeline)
            raise
        finally:
            theirs.close()
            os.close(held)
        self.channel.post(
            "hello", modules=modules, networks=[*map(str, networks)], allow_http=allow_http, log_level=log_level
        )

    @property
    def pid(self) -> int:
        """Its number, and that of its process group."""
        return self._popen.pid

    def died(self) -> bool:
        """Whether it has ended; leaves it to be reaped, so that its group's number stays its own."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # reaped already
            return True

    def hang_up(self) -> None:
        """Tell it that nothing more will be asked, upon which it ends by itself."""
        with suppress(OSError):
            self.channel.socket.shutdown(socket.SHUT_RDWR)

    def ends_by_itself(self) -> bool:
        """Give it a moment to end, its exit handlers included; False if it did not."""
        deadline = time.monotonic() + LET_GO_WITHIN
        while not (died := self.died()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return died

    def kill(self) -> int:
        """End it and all that its handler started, and reap it; how it ended, negative if by that signal."""
        with self._ending:
            if self._popen.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
            return self._popen.wait()

    def close(self) -> None:
        """Let go of what its owner's thread had of it, once it is dead."""
        with self._ending:
            self.channel.close()
            if self._lifeline is not None:
                os.close(self._lifeline)
                self._lifeline = None


def _started(channel: int, lifeline: int) -> subprocess.Popen[bytes]:
    # A fresh interpreter, never a fork of this one: its other threads may hold any lock.
    return subprocess.Popen(  # noqa: S603 - our own interpreter, with paths of ours
        [sys.executable, "-P", "-c", _BEGIN, str(channel), str(lifeline), *sys.path],
        stdin=subprocess.DEVNULL,
        pass_fds=(channel, lifeline),
        process_group=0,
    )
