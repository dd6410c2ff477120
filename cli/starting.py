"""How processes begin: importing without looking for garbage or what none of them needs, and with one heap."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_M_ARENA_MAX = -8  # glibc's malloc.h


@contextmanager
def importing() -> Iterator[None]:
    """Import in this block, before there are requests or jobs.

    Imports make some 160,000 objects. The collector would look through most of them again and again, for a tenth of the
    whole start, and find 1,200 to free. So it rests, and never looks at these afterwards: no full collection holds
    up a request for their sake.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def without(name: str) -> Iterator[None]:
    """Have a module that is not imported yet be missing in this block, for those that can do without it."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # as the import system has it: importing it fails
    try:
        yield
    finally:
        del sys.modules[name]


def keep_one_heap() -> None:
    """Have all threads of this process, and of those forked from it, take their memory from one heap.

    By default glibc gives threads heaps of their own, and little of what each once needed comes back: batches of 1,000
    on two threads made an API process 4 MB larger. Where there is no glibc, or somebody has told it how many heaps,
    nothing changes. Not for workers, whose handlers may take memory on several cores at once.
    """
    if "MALLOC_ARENA_MAX" not in os.environ and "arena_max" not in os.environ.get("GLIBC_TUNABLES", ""):
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
