"""Job types that do what no job should, for the tests. Each writes into the ledger, a file that the product does not
own, when it begins and when it ends, and answers under which lease it did its work.
"""

import ctypes
import math
import os
import re
import time
from datetime import timedelta
from pathlib import Path

from ledger import note
from ledger_jobs import QUICKLY
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from jobs.context import Context
from jobs.registry import job

MEGABYTE = 1024 * 1024
POISON_STRIKES_AFTER = 3.0


class Work(BaseModel):
    """Which ledger to write; `canary` is a secret that must turn up nowhere."""

    model_config = ConfigDict(extra="forbid")

    ledger: Path = Field(strict=False)
    canary: str = ""


class Gated(Work):
    """Work until that file exists."""

    gate: Path = Field(strict=False)


class Lasting(Work):
    """How long it takes."""

    seconds: float = Field(gt=0, le=3600)


class Failing(Work):
    """How many of its runs are to go wrong, after how many that go well."""

    times: int = 1
    after: int = 0


class Hungry(Failing):
    """How much memory to take when it goes wrong, and not more than that."""

    megabytes: int = 4096


class Poisonous(Work):
    """How many others have to have begun in its process before it strikes, or a few seconds to be over."""

    beside: int


class Paying(Failing):
    """How long its transaction stays open."""

    seconds: float = 0.0


class Done(BaseModel):
    """The run that did it."""

    attempt: int
    lease: int


def _done(args: Work, context: Context) -> Done:
    note(args.ledger, "end", context)
    return Done(attempt=context.attempt, lease=context.lease)


def _goes_wrong(args: Failing, context: Context) -> bool:
    """Note the beginning; whether this run is one of those that shall go wrong, counting every run of this job."""
    note(args.ledger, "start", context)
    return args.after < _runs(args, context) <= args.after + args.times


def _runs(args: Failing, context: Context) -> int:
    """How often this job has begun: a byte each, in a file of its own. The whole ledger may be long."""
    with args.ledger.with_name(f"runs-{context.job_id}").open("ab") as runs:
        runs.write(b".")
        runs.flush()
        return runs.tell()


@job("fault.quick", retry=QUICKLY)
def quick(args: Work, context: Context) -> Done:
    """Ends at once."""
    note(args.ledger, "start", context)
    return _done(args, context)


@job("fault.stepwise", retry=QUICKLY)
def stepwise(args: Work, context: Context) -> Done:
    """Has two steps, of which it does not do the first again."""
    note(args.ledger, "start", context)
    if context.last_checkpoint is None:
        context.checkpoint("half")
    return _done(args, context)


@job("fault.gated", retry=QUICKLY)
def gated(args: Gated, context: Context) -> Done:
    """Works until its gate is open."""
    note(args.ledger, "start", context)
    while not args.gate.exists():
        context.wait(0.05)
    return _done(args, context)


@job("fault.sleep", retry=QUICKLY)
def sleep(args: Lasting, context: Context) -> Done:
    """Sleeps, as a handler does that waits for something outside."""
    note(args.ledger, "start", context)
    context.wait(args.seconds)
    return _done(args, context)


@job("fault.fail", retry=QUICKLY)
def fail(args: Failing, context: Context) -> Done:
    """Raises an ordinary exception."""
    if _goes_wrong(args, context):
        raise ConnectionError("as it was asked to")
    return _done(args, context)


@job("fault.base", retry=QUICKLY)
def raise_base(args: Failing, context: Context) -> Done:
    """Raises what `except Exception` does not catch."""
    if _goes_wrong(args, context):
        raise BaseException("as it was asked to")  # noqa: TRY002 - that is the point
    return _done(args, context)


@job("fault.exit", retry=QUICKLY)
def leave(args: Failing, context: Context) -> Done:
    """Ends its process without a word."""
    if _goes_wrong(args, context):
        os._exit(7)
    return _done(args, context)


@job("fault.segfault", retry=QUICKLY)
def crash(args: Failing, context: Context) -> Done:
    """Reads where nothing is, as a faulty extension module does."""
    if _goes_wrong(args, context):
        ctypes.string_at(0)
    return _done(args, context)


@job("fault.poison", retry=QUICKLY)
def poison(args: Poisonous, context: Context) -> Done:
    """Ends its process without a word, at every run."""
    note(args.ledger, "start", context)
    began_here = f" {os.getpid()}\n"
    patience = time.monotonic() + POISON_STRIKES_AFTER
    while time.monotonic() < patience and args.ledger.read_text().count(began_here) <= args.beside:
        context.wait(0.05)
    os._exit(7)


@job("fault.memory", retry=QUICKLY)
def hoard(args: Hungry, context: Context) -> Done:
    """Takes memory, a megabyte at a time, and touches it."""
    if _goes_wrong(args, context):
        taken = [bytearray(b"x" * MEGABYTE) for _ in range(args.megabytes)]
        del taken
    return _done(args, context)


@job("fault.isolated_memory", isolation="process", memory_limit_mb=200, retry=QUICKLY)
def hoard_apart(args: Hungry, context: Context) -> Done:
    """The same in a process of its own, with a limit."""
    return hoard(args, context)


@job("fault.isolated_segfault", isolation="process", retry=QUICKLY)
def crash_apart(args: Failing, context: Context) -> Done:
    """Crashes a process of its own."""
    return crash(args, context)


@job("fault.fork", retry=QUICKLY)
def fork(args: Gated, context: Context) -> Done:
    """Forks, uses the database in both processes, and has both return."""
    note(args.ledger, "start", context)
    if not os.fork():
        context.session.execute(text("SELECT 1"))
        note(args.ledger, "forked", context)
        raise RuntimeError("out of the handler, in the wrong process")
    while not args.gate.exists():
        context.session.execute(text("SELECT 1"))
        context.wait(0.05)
    return _done(args, context)


@job("fault.gil", retry=QUICKLY)
def hold_gil(args: Lasting, context: Context) -> Done:
    """Lets no other thread of its process run for about that long: one regular expression that backtracks."""
    note(args.ledger, "start", context)
    letters = 12
    while (took := _backtracking(letters)) < 0.01:
        letters += 1
    _backtracking(letters + max(0, round(math.log2(args.seconds / took))))
    return _done(args, context)


def _backtracking(letters: int) -> float:
    """How long it computes, however busy the machine is: twice as long for each letter more."""
    began = time.thread_time()
    re.match(r"(a+)+$", "a" * letters + "b")
    return time.thread_time() - began


@job("fault.never", retry=QUICKLY)
def never(args: Gated, context: Context) -> Done:
    """Does not return until its gate is open, and takes every exception, interrupts too, for a reason to go on."""
    note(args.ledger, "start", context)
    while not args.gate.exists():
        try:
            time.sleep(0.05)
        except BaseException as error:  # noqa: BLE001 - that is the point
            context.log.warning("went_on", error=str(error))
    return _done(args, context)


@job("fault.pay", retry=QUICKLY, timeout=timedelta(seconds=60))
def pay(args: Paying, context: Context) -> Done:
    """Writes into a table of the user's own, in the transaction of the job's success."""
    wrong = _goes_wrong(args, context)
    context.session.execute(
        text("INSERT INTO fault_payments (job_id, attempt, lease) VALUES (:job_id, :attempt, :lease)"),
        {"job_id": str(context.job_id), "attempt": context.attempt, "lease": context.lease},
    )
    context.wait(args.seconds)
    if wrong:
        raise ConnectionError("the bank hung up")
    return _done(args, context)
