"""The job types that the benchmarks run: nothing, so that only Jobmill's own cost is measured, and 10 ms of waiting."""

import time

from pydantic import BaseModel

from jobs.registry import job

WAIT_SECONDS = 0.01


class Nothing(BaseModel):
    """No arguments."""


@job("bench.noop")
def noop(args: Nothing) -> None:
    """Do nothing."""


@job("bench.wait")
def wait(args: Nothing) -> float:  # noqa: ARG001 - every handler takes its arguments
    """Wait 10 ms, and say how long that was."""
    began = time.perf_counter()
    time.sleep(WAIT_SECONDS)
    return time.perf_counter() - began
