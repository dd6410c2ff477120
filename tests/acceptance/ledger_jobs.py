"""Job types of a user's own, for the tests: their handlers write down, in a file that the product does not own,
when they begin and end. So what ran, and how often, is seen from outside.
"""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from ledger import note
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from jobs.context import Context
from jobs.registry import job
from jobs.retry import Exponential

QUICKLY = Exponential(first=timedelta(milliseconds=100), longest=timedelta(milliseconds=100))


class Work(BaseModel):
    """Which ledger to write, and until which file exists to go on working."""

    model_config = ConfigDict(extra="forbid")

    ledger: Path = Field(strict=False)
    gate: Path | None = Field(default=None, strict=False)


class Done(BaseModel):
    """The attempt that did it."""

    attempt: int


class Pages(BaseModel):
    """How many pages to import, and after how many the first attempt is to fail."""

    pages: int
    fail_after: int


class Imported(BaseModel):
    """The pages that the last attempt imported itself."""

    pages: list[int]


class Payment(BaseModel):
    """What to write, and how many attempts are to fail after they wrote it."""

    amount: int
    failures: int


@job("ledger.work", retry=QUICKLY)
def work(args: Work, context: Context) -> Done:
    """Works until its gate is open."""
    note(args.ledger, "start", context)
    context.progress(42, "at the gate")
    while args.gate is not None and not args.gate.exists():
        context.wait(0.05)
    note(args.ledger, "end", context)
    return Done(attempt=context.attempt)


@job("ledger.stubborn", retry=QUICKLY)
def stubborn(args: Work, context: Context) -> Done:
    """Works until its gate is open, and takes every exception for a reason to go on."""
    while args.gate is not None and not args.gate.exists():
        try:
            time.sleep(0.05)
        except Exception as error:  # noqa: BLE001 - that is the point
            context.log.warning("went_on", error=str(error))
    note(args.ledger, "end", context)
    return Done(attempt=context.attempt)


@job("ledger.import", retry=QUICKLY)
def import_pages(args: Pages, context: Context) -> Imported:
    """Goes on after the last page that an earlier attempt finished."""
    first = (context.last_checkpoint or {"next": 0})["next"]
    pages = []
    for page in range(first, args.pages):
        if context.attempt == 1 and page == args.fail_after:
            raise ConnectionError(f"page {page} did not come")
        pages.append(page)
        context.checkpoint({"next": page + 1})
    return Imported(pages=pages)


@job("ledger.pay", retry=QUICKLY)
def pay(args: Payment, context: Context) -> Done:
    """Writes into a table of the user's own, in the transaction of the job's success."""
    context.session.execute(
        text("INSERT INTO payments (job_id, attempt, amount) VALUES (:job_id, :attempt, :amount)"),
        {"job_id": str(context.job_id), "attempt": context.attempt, "amount": args.amount},
    )
    if context.attempt <= args.failures:
        raise ConnectionError("the bank hung up")
    return Done(attempt=context.attempt)


@job("ledger.crash", retry=QUICKLY, isolation="process", memory_limit_mb=256, cpu_limit_seconds=60)
def crash(args: Work, context: Context) -> Done:
    """Takes its own process down at the first attempt, and waits for its gate at the second."""
    note(args.ledger, "start", context)
    if context.last_checkpoint is None:
        context.checkpoint("crashed once")
        os.kill(os.getpid(), signal.SIGSEGV)
    context.progress(42, "at the gate")
    while args.gate is not None and not args.gate.exists():
        context.wait(0.05)
    note(args.ledger, "end", context)
    return Done(attempt=context.attempt)
