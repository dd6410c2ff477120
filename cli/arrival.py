"""How long a request may take to arrive: as a whole, not from one byte to the next.

Whoever sends a byte now and then would otherwise hold a thread for as long as he likes. Whoever sends much may take
longer, at a pace (as mod_reqtimeout has it).
"""

import select
import socket
import time
from collections.abc import Callable
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.http.unreader import SocketUnreader

SECONDS = 15.0
"""What a head may take, and a body besides."""
LEAST_BYTES_PER_SECOND = 64 * 1024
"""What a client must send to be given more time."""


class TooSlow(ParseException):
    """The rest of a request did not come in its time."""


class Arrival(SocketUnreader):
    """Reads from a connection until the time is over. Raises TooSlow.

    `when_over` is called then, and at the connection's end: nothing behind it may be read as another request.
    """

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.expect(lambda: None)

    def expect(self, when_over: Callable[[], None]) -> None:
        """From now on something is to come."""
        self.when_over = when_over
        self._until = time.monotonic() + SECONDS

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next bytes, or none at the end."""
        if not comes_within(self.sock, self._patience()):
            self.when_over()
            raise TooSlow
        came: bytes = super().chunk(size_hint)
        if not came:
            self.when_over()
        self._until += len(came) / LEAST_BYTES_PER_SECOND
        return came

    def _patience(self) -> float:
        """Seconds that are left; gunicorn sets a time limit of its own while it drops the rest of a body."""
        left, limit = self._until - time.monotonic(), self.sock.gettimeout()
        return left if limit is None else min(left, limit)


def comes_within(sock: socket.socket, seconds: float) -> bool:
    """Whether there is something to read, or the end, within so long.

    A time limit of the socket itself is a system call to set, another to take back, and each lets another thread go
    first.
    """
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(max(0.0, 1000 * seconds)))
