"""One more process of a kind beside an installation's own, for as long as a test needs it."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

from tests.acceptance.installation import Installation, metrics_port
from tests.acceptance.process import Process

ALWAYS_LEADING = Path(__file__).parent / "always_leading.py"


@contextmanager
def beside(
    installation: Installation, *arguments: str, script: Path | None = None, **settings: str
) -> Iterator[Process]:
    """Another process, which counts as one of the installation's: its metrics, its words and what it holds.

    With a `script`, that is run in place of the command.
    """
    name = next(name for number in count(2) if (name := f"{arguments[0]}-{number}") not in installation.processes)
    folder = Path(mkdtemp(prefix=f"{name}-", dir=installation.folder))  # its words are its own
    process = Process(*arguments, settings=installation.settings | metrics_port() | settings, folder=folder)
    if script is not None:
        process.program = (sys.executable, script)
    process.start()
    installation.processes[name] = process
    try:
        yield process
    finally:
        process.ask_to_end()
        process.end()
        del installation.processes[name]


@contextmanager
def several(installation: Installation, number: int, kind: str, script: Path | None = None) -> Iterator[list[Process]]:
    """So many of them."""
    with ExitStack() as stack:
        yield [stack.enter_context(beside(installation, kind, script=script)) for _ in range(number)]
