"""Job types for trying things out: one that answers, one that takes time, two that fail."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from jobs.context import Context
from jobs.outcomes import Json
from jobs.registry import job
from jobs.retry import Exponential

QUICK_RETRY = Exponential(first=timedelta(milliseconds=200), factor=2, longest=timedelta(seconds=5))
LONGEST_SLEEP_SECONDS = 86_400
STEP_SECONDS = 0.5


class DemoFailure(Exception):  # noqa: N818 - a failure is what was asked for
    """The failure that a demo type was asked for."""


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Echo(_Args):
    """What to say back, and the answer itself."""

    value: Json


class Sleep(_Args):
    """How long to take."""

    seconds: float = Field(ge=0, le=LONGEST_SLEEP_SECONDS, allow_inf_nan=False)


class Slept(BaseModel):
    """How long it took."""

    seconds: float


class Fail(_Args):
    """The message to fail with."""

    message: str = Field(default="This job was asked to fail.", max_length=1000)


class Flaky(_Args):
    """How many attempts are to fail before one succeeds."""

    failures: int = Field(ge=0, le=100)


class Recovered(BaseModel):
    """The attempt that succeeded."""

    attempt: int


@job("demo.echo", retry=QUICK_RETRY)
def echo(args: Echo) -> Echo:
    """Returns its arguments."""
    return args


@job("demo.sleep", retry=QUICK_RETRY, timeout_limit=timedelta(days=2))
def sleep(args: Sleep, context: Context) -> Slept:
    """Takes `seconds`, reports progress in percent and stops at once when cancelled."""
    left = args.seconds
    while left > 0:
        step = min(left, STEP_SECONDS)
        context.wait(step)
        left -= step
        context.progress(min(100, 100 * (1 - left / args.seconds)))
    return Slept(seconds=args.seconds)


@job("demo.fail", retry=QUICK_RETRY)
def fail(args: Fail) -> None:
    """Always fails, with `message`; after its last attempt the job is a dead letter."""
    raise DemoFailure(args.message)


@job("demo.flaky", retry=QUICK_RETRY)
def flaky(args: Flaky, context: Context) -> Recovered:
    """Fails `failures` times, then succeeds."""
    if context.attempt <= args.failures:
        raise DemoFailure(f"Attempt {context.attempt} of {args.failures} that were asked to fail.")
    return Recovered(attempt=context.attempt)
