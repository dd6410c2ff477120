"""A connection to the API that costs the load generator next to nothing.

It shares its cores with what it measures, and `http.client` takes a third of a millisecond for each request. So of an
answer's head nothing is looked at but its status and its length.
"""

import socket
from collections.abc import Mapping
from types import MappingProxyType

SECONDS = 30.0
_NOTHING: Mapping[str, str] = MappingProxyType({})
_LENGTH = b"content-length: "
_CHUNK = 256 * 1024


class Line:
    """One connection that is kept; each answer has to tell its length."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and give the answer's status and body."""
        self._socket.sendall(request)
        received = self._socket.recv(_CHUNK)
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head = received[:end].lower()
        length = int(head[head.index(_LENGTH) + len(_LENGTH) :].split(b"\r\n", 1)[0])
        pieces, missing = [received[end + 4 :]], length - len(received) + end + 4
        while missing > 0:
            pieces.append(self._more())
            missing -= len(pieces[-1])
        return int(head[9:12]), b"".join(pieces)

    def _more(self) -> bytes:
        received = self._socket.recv(_CHUNK)
        if not received:
            raise ConnectionError("The API closed the connection amid an answer.")
        return received


def request(method: str, path: str, token: str, body: str = "", headers: Mapping[str, str] = _NOTHING) -> bytes:
    """A request as it is sent; one with a body has JSON."""
    content = body.encode()
    fields = {"Host": "127.0.0.1", "Authorization": f"Bearer {token}", **headers}
    if content:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + content
