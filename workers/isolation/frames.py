"""How a worker and the process of an isolated handler talk: frames over a socket, in JSON, nothing that runs code.

    worker to process                        process to worker
    hello       modules to import, settings  begun       the job was taken up
    job         its type, context, limits    progress    percent, message
    cancel      set `context.cancelled`      log         a line for the worker's own log
    interrupt   raise this in the handler    checkpoint  keep this value
    kept        the checkpoint is committed  heard       the interrupt was raised
    refused     it is not, for this reason   outcome     what the attempt came to

A frame is a head, a JSON object with its `kind`, and a body of bytes that this file does not look into.
"""

import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any

import orjson

MOST_BYTES = 4 * 1024 * 1024
"""Of one frame; above what any argument, checkpoint or result may have."""

_LENGTHS = struct.Struct("!II")
_PIECE = 256 * 1024


class Garbled(Exception):  # noqa: N818 - reads as the sentence it is
    """What came is no frame of ours; the other side is broken, and nothing more that it says is believed."""


@dataclass(frozen=True)
class Frame:
    """One message: what it is about, what it says, and bytes that come along."""

    kind: str
    told: dict[str, Any]
    body: bytes


class Channel:
    """One end of the conversation."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._came = bytearray()
        self._to_go = bytearray()
        self._sending = threading.Lock()

    def send(self, kind: str, body: bytes = b"", **told: Any) -> None:
        """Send a frame, from any thread, waiting for room. Raises OSError when the other side is gone."""
        # Joined first: an interrupt that strikes this thread finds the frame sent as a whole or not at all.
        frame = _packed(kind, told, body)
        with self._sending:
            self.socket.sendall(frame)

    def post(self, kind: str, body: bytes = b"", **told: Any) -> None:
        """Have a frame sent as `receive` finds room for it; waits for nobody."""
        self._to_go += _packed(kind, told, body)

    def receive(self, seconds: float | None = None) -> Frame | None:
        """The next frame, or None when none came in time. Raises EOFError, OSError or Garbled."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while (frame := self._cut()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if not self._move(left if left is None else max(left, 0)):
                return None
        return frame

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _move(self, seconds: float | None) -> bool:
        """Wait until something can be read or written, and do so; False when nothing could in time."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN | (select.POLLOUT if self._to_go else 0))
        ready = poll.poll(None if seconds is None else seconds * 1000)
        if ready and ready[0][1] & select.POLLOUT and self._to_go:
            del self._to_go[: self.socket.send(self._to_go, socket.MSG_DONTWAIT)]
        elif ready:
            self._read()
        return bool(ready)

    def _read(self) -> None:
        came = self.socket.recv(_PIECE)
        if not came:
            raise EOFError
        self._came += came

    def _cut(self) -> Frame | None:
        """The first frame of what came, once all of it is there."""
        if len(self._came) < _LENGTHS.size:
            return None
        head, body = _LENGTHS.unpack_from(self._came)
        end = _LENGTHS.size + head + body
        if end > MOST_BYTES:
            raise Garbled(f"a frame of {end} bytes")
        if len(self._came) < end:
            return None
        whole = bytes(self._came[_LENGTHS.size : end])
        del self._came[:end]
        return _unpacked(whole[:head], whole[head:])


def _packed(kind: str, told: dict[str, Any], body: bytes) -> bytes:
    head = orjson.dumps({"kind": kind, **told}, default=str)
    return b"".join((_LENGTHS.pack(len(head), len(body)), head, body))


def _unpacked(head: bytes, body: bytes) -> Frame:
    try:
        told = orjson.loads(head)
        return Frame(told.pop("kind"), told, body)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Garbled("a head that is no JSON object with a kind") from error
