"""A TCP proxy whose owner can cut, freeze or refuse what passes through it."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close sends RST instead of FIN


class Proxy:
    """Stands between a client and the server at `url`; `proxy.url` is the same address by way of the proxy."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "localhost", parts.port or 5672)
        self._listener = socket.create_server(("127.0.0.1", 0))
        host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = parts._replace(netloc=parts.netloc.rpartition("@")[0] + "@" * ("@" in parts.netloc) + host).geturl()
        self.connections = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flows = threading.Event()
        self._flows.set()
        self._reset_after: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Break every connection at once, as a router that was restarted does."""
        pairs, self._pairs = self._pairs, []
        for end in (end for pair in pairs for end in pair):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
            end.close()

    def reset_after(self, answered_bytes: int) -> None:
        """Break everything once the server has answered so many bytes more."""
        self._reset_after = answered_bytes

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Pass nothing either way while the block lasts."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def close(self) -> None:
        """Refuse connections from now on, and break those there are."""
        self._listener.close()
        self._flows.set()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            self.connections += 1
            self._pairs.append((client, server))
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=[source, sink, answers], daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                if answers and self._reset_after is not None:
                    self._reset_after -= len(data)
                    if self._reset_after <= 0:
                        self._reset_after = None
                        return self.reset()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        return None
