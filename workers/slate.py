"""Which handlers a process runs, in memory that it shares with its parent: there it stands still when the process died.

A message's jobs are started together and run in turn, so their rows do not tell which of them a process died of.
"""

import mmap
import os
import struct
import tempfile
from typing import IO
from uuid import UUID

from models.job import Ref

PLACES = 256
"""One for each thread, of which there are no more."""
_PLACE = struct.Struct("16sQ")
_EMPTY = bytes(_PLACE.size)
_BYTES = PLACES * _PLACE.size
_OF_NOBODY = -1


class Slate:
    """A place for each handler that runs. The process writes, the parent reads. Not safe between threads."""

    def __init__(self, descriptor: int = _OF_NOBODY) -> None:
        self._memory = mmap.mmap(descriptor, _BYTES)
        self._free = list(range(0, _BYTES, _PLACE.size))

    def began(self, ref: Ref) -> int:
        """A handler is about to run; gives its place."""
        place = self._free.pop()
        _PLACE.pack_into(self._memory, place, ref.id.bytes, ref.lease)
        return place

    def ended(self, place: int) -> None:
        """The one at that place is done, one way or another."""
        self._memory[place : place + _PLACE.size] = _EMPTY
        self._free.append(place)

    def read(self) -> frozenset[Ref]:
        """What runs, or ran when the process died."""
        places = _PLACE.iter_unpack(self._memory[:])
        return frozenset(Ref(UUID(bytes=job_id), lease) for job_id, lease in places if lease)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()


def received(descriptor: int) -> Slate:
    """The slate that a parent handed over; what this process starts does not get it."""
    slate = Slate(descriptor)
    os.close(descriptor)
    return slate


def make() -> IO[bytes]:
    """What a process can be handed, and then be closed. Raises OSError if there is none left."""
    try:
        file = os.fdopen(os.memfd_create("jobmill-slate"), "w+b")
    except (AttributeError, OSError):  # a Python that was built for an old Linux, a machine that forbids it
        file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever asked closes it
    file.truncate(_BYTES)
    return file
