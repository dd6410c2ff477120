"""Sending bytes as they are, and reading what comes back as strictly as a client that nobody deceives."""

import json
import re
import socket
from dataclasses import dataclass
from typing import Any, Self

PATIENCE_SECONDS = 30
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) [^\r\n]*\r\n")


@dataclass(frozen=True)
class Answer:
    """One answer; names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection to a server."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self.stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stream.close()
        self.socket.close()

    def send(self, sent: bytes, *, ends: bool = False) -> None:
        """Send it all, or as much as the server takes before it closes the connection."""
        try:
            self.socket.sendall(sent)
            if ends:
                self.socket.shutdown(socket.SHUT_WR)
        except ConnectionError:
            return

    def answer(self, *, bodiless: bool = False) -> Answer | None:
        """The next answer that is final, or None at the connection's end; `bodiless` is one to a HEAD."""
        while True:
            line = self._line()
            if not line:
                return None
            found = _STATUS.fullmatch(line)
            assert found, line
            status, headers = int(found[1]), self._headers()
            if status >= 200:
                return Answer(status, headers, b"" if bodiless or status in (204, 304) else self._body(headers))

    def _line(self) -> bytes:
        try:
            return self.stream.readline(65536)
        except ConnectionResetError:
            return b""

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while (line := self._line()) != b"\r\n":
            name, colon, value = line.decode("latin-1").partition(": ")
            assert colon, line
            assert value.endswith("\r\n"), line
            assert name.lower() not in headers or name.lower() == "vary", f"{name} comes twice"
            headers[name.lower()] = value[:-2]
        return headers

    def _body(self, headers: dict[str, str]) -> bytes:
        assert "transfer-encoding" not in headers
        length = int(headers["content-length"])
        body = self.stream.read(length)
        assert len(body) == length
        return body
