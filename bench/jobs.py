"""The job types that the benchmarks run: nothing, so that only Jobmill's own cost is measured, and waiting.

Beside peers another: what their handlers do, which is to note that they run.
"""

import time

from pydantic import BaseModel

from bench.peers import notes
from jobs.registry import job

WAIT_SECONDS, LONG_SECONDS = 0.01, 1.0


class Nothing(BaseModel):
    """No arguments."""


@job("bench.noop")
def noop(args: Nothing) -> None:
    """Do nothing."""


class Sent(BaseModel):
    """When it was sent, in seconds of the machine's clock."""

    sent: float = 0.0


@job("bench.noted")
def noted(args: Sent) -> None:
    """Note when it was sent, and that it runs."""
    notes.note(args.sent)


@job("bench.wait")
def wait(args: Nothing) -> float:  # noqa: ARG001 - every handler takes its arguments
    """Wait 10 ms, and say how long that was."""
    began = time.perf_counter()
    time.sleep(WAIT_SECONDS)
    return time.perf_counter() - began


@job("bench.long")
def long(args: Nothing) -> None:  # noqa: ARG001 - every handler takes its arguments
    """Wait a second."""
    time.sleep(LONG_SECONDS)
