"""The job type that the benchmarks run: it does nothing, so that only Jobmill's own cost is measured."""

from pydantic import BaseModel

from jobs.registry import job


class Nothing(BaseModel):
    """No arguments."""


@job("bench.noop")
def noop(args: Nothing) -> None:
    """Do nothing."""
