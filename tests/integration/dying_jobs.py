"""Job types that do to their process what handlers do in the wild; a file beside the ledger tells who began what."""

import ctypes
import os
import time
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from jobs.context import Context
from jobs.registry import job
from jobs.retry import Exponential

QUICKLY = Exponential(first=timedelta(milliseconds=100), longest=timedelta(milliseconds=100))


class Told(BaseModel):
    """The folder where to write down what happens, and where a file named `gate` lets handlers go on."""

    model_config = ConfigDict(extra="forbid")

    folder: Path = Field(strict=False)


def note(args: Told, event: str, context: Context) -> None:
    """Append a line; O_APPEND keeps lines of several processes whole."""
    descriptor = os.open(args.folder / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{event} {context.job_id} {os.getpid()}\n".encode())
    os.close(descriptor)


@job("dying.work", retry=QUICKLY)
def work(args: Told, context: Context) -> int:
    """Works until the gate is open."""
    note(args, "start", context)
    while not (args.folder / "gate").exists():
        context.wait(0.02)
    note(args, "end", context)
    return os.getpid()


@job("dying.work_at_once", retry=QUICKLY)
def work_at_once(args: Told, context: Context) -> None:
    """Waits for nothing."""
    note(args, "start", context)
    note(args, "end", context)


@job("dying.exit")
def leave(args: Told, context: Context) -> None:
    """Ends its process."""
    note(args, "start", context)
    os._exit(3)


@job("dying.exit_well")
def leave_well(args: Told, context: Context) -> None:
    """Ends its process as one does that was told to stop."""
    note(args, "start", context)
    os._exit(0)


@job("dying.segfault")
def segfault(args: Told, context: Context) -> None:
    """Reads where nothing is."""
    note(args, "start", context)
    ctypes.string_at(0)


@job("dying.deaf")
def deaf(args: Told, context: Context) -> None:
    """Takes every exception, also those that are to end it, for a reason to go on."""
    note(args, "start", context)
    while not (args.folder / "gate").exists():
        try:
            time.sleep(0.05)
        except BaseException as error:  # noqa: BLE001 - that is the point
            context.log.warning("went_on", error=repr(error))


@job("dying.hog")
def hog(args: Told, context: Context) -> None:
    """Holds the interpreter's lock for eight seconds, as one regular expression can."""
    note(args, "start", context)
    ctypes.PyDLL(None).usleep(ctypes.c_uint(8_000_000))
    note(args, "end", context)
