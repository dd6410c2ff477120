"""A TCP proxy whose owner can slow, freeze, cut or swallow what passes through it."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from urllib.parse import urlsplit

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close sends RST instead of FIN
_PIECE = 16 * 1024


class _Link:
    """A client's connection and the one made to the server for it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.lost = False  # whatever is sent is swallowed, either way and for ever
        self.awaited = False  # the server's next answer must not arrive
        self.tail = b""

    def asks(self, data: bytes, pattern: bytes) -> bool:
        """Whether the client has sent the pattern, in one piece or in two."""
        seen = self.tail + data
        self.tail = seen[-len(pattern) + 1 :]
        return pattern in seen

    def reset(self) -> None:
        self.lost = True  # or the threads that are woken now would pass the end of one side on, as a polite farewell
        for end in (self.client, self.server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
            end.close()


class Proxy:
    """Stands between a client and the server at `url`; `proxy.url` is the same address by way of the proxy."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        default = {"postgresql": 5432, "postgres": 5432, "redis": 6379}.get(parts.scheme, 5672)
        self._target = (parts.hostname or "localhost", parts.port or default)
        self._listener = socket.create_server(("127.0.0.1", 0))
        host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = parts._replace(netloc=parts.netloc.rpartition("@")[0] + "@" * ("@" in parts.netloc) + host).geturl()
        self.connections = 0
        self._links: list[_Link] = []
        self._flows = threading.Event()
        self._flows.set()
        self._swallows = False
        self._latency, self._rate = 0.0, inf
        self._reset_after: int | None = None
        self._cut: bytes | None = None
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    # Once.

    def reset(self) -> None:
        """Break every connection at once, as a router that was restarted does."""
        links, self._links = self._links, []
        for link in links:
            link.reset()

    def reset_after(self, answered_bytes: int) -> None:
        """Break everything once the server has answered so many bytes more."""
        self._reset_after = answered_bytes

    def cut_answer(self, pattern: bytes) -> None:
        """Break the connection on which a client next sends the pattern, when the server has answered to it.

        What was asked is done then, and who asked does not know: `cut_answer(b"COMMIT")`.
        """
        self._cut = pattern

    @property
    def cut(self) -> bool:
        """Whether the pattern of `cut_answer` has been seen."""
        return self._cut is None

    def close(self) -> None:
        """Refuse connections from now on, and break those there are."""
        self._closed = True
        self._listener.close()
        self._flows.set()
        self.reset()

    # While a block lasts.

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Pass nothing either way; what was sent meanwhile arrives afterwards."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    @contextmanager
    def black_hole(self) -> Iterator[None]:
        """Swallow everything. Connections of that time stay half-open for ever; only new ones pass afterwards."""
        self._swallows = True
        for link in self._links:
            link.lost = True
        try:
            yield
        finally:
            self._swallows = False

    @contextmanager
    def slow(self, latency: float = 0.0, bytes_per_second: float = inf) -> Iterator[None]:
        """Hold each piece back for `latency` seconds one way, and pass no more bytes in a second than that."""
        self._latency, self._rate = latency, bytes_per_second
        try:
            yield
        finally:
            self._latency, self._rate = 0.0, inf

    # What passes.

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:  # the server is away: so is what stands for it
                client.close()
                continue
            self.connections += 1
            link = _Link(client, server)
            link.lost = self._swallows
            self._links.append(link)
            if self._closed:  # while this one was made
                self.reset()
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=[link, source, sink], daemon=True).start()

    def _pass(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                self._flows.wait()
                if self._breaks(link, data, answers=source is link.server):
                    return
                if not link.lost:
                    time.sleep(self._latency + len(data) / self._rate)
                    sink.sendall(data)
        with suppress(OSError):
            if not link.lost:
                sink.shutdown(socket.SHUT_WR)

    def _breaks(self, link: _Link, data: bytes, *, answers: bool) -> bool:
        """Whether this piece is the one at which a connection, or all of them, must break; breaks them."""
        if not answers:
            if self._cut is not None and link.asks(data, self._cut):
                self._cut, link.awaited = None, True
            return False
        if link.awaited:
            link.reset()
            return True
        if self._reset_after is not None:
            self._reset_after -= len(data)
            if self._reset_after <= 0:
                self._reset_after = None
                self.reset()
                return True
        return False
