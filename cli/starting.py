"""How processes import what they consist of: without looking for garbage, and without what none of them needs."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
