"""Handlers for processes of their own: some do their work, most do harm."""

import ctypes
import logging
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel

from jobs.context import Context
from jobs.outcomes import Interrupt, Permanent, RetryLater, Snooze
from jobs.registry import job
from jobs.retry import Steps

RETRY = Steps((timedelta(seconds=10),), jitter=0)


class Told(BaseModel):
    """What to do, by the name of a function below; `path` is a file where the test reads what came of it."""

    do: str
    path: Path = Path("/dev/null")
    value: Any = None


@job("isolated.do", isolation="process", retry=RETRY)
def do(args: Told, context: Context) -> Any:
    """Do as told, without limits."""
    return _DEEDS[args.do](args, context)


@job("isolated.small", isolation="process", memory_limit_mb=200, retry=RETRY)
def small(args: Told, context: Context) -> Any:
    """Do as told in 200 MB."""
    return _DEEDS[args.do](args, context)


@job("isolated.brief", isolation="process", cpu_limit_seconds=1, retry=RETRY)
def brief(args: Told, context: Context) -> Any:
    """Do as told within a second of computing."""
    return _DEEDS[args.do](args, context)


_DEEDS: dict[str, Callable[[Told, Context], Any]] = {}


def deed(function: Callable[[Told, Context], Any]) -> Callable[[Told, Context], Any]:
    _DEEDS[function.__name__] = function
    return function


# Of those that do their work


@deed
def echo(args: Told, context: Context) -> Any:
    return args.value


@deed
def pid(args: Told, context: Context) -> Any:
    return os.getpid()


@deed
def look_around(args: Told, context: Context) -> Any:
    return {
        "job_id": str(context.job_id),
        "job_type": context.job_type,
        "tenant": str(context.tenant),
        "attempt": context.attempt,
        "lease": context.lease,
        "max_attempts": context.max_attempts,
        "tags": context.tags,
        "timeout": context.timeout.total_seconds(),
        "last_checkpoint": context.last_checkpoint,
        "traceparent": context.traceparent,
        "tracestate": context.tracestate,
        "on_main_thread": threading.current_thread() is threading.main_thread(),
        "limits": [resource.getrlimit(which)[0] for which in (resource.RLIMIT_DATA, resource.RLIMIT_CPU)],
    }


@deed
def tell_progress(args: Told, context: Context) -> Any:
    for percent in range(100):
        context.progress(percent, f"at {percent}")
    args.path.write_text("told")
    wait_for(args.path.with_suffix(".go"))
    context.progress(100, "all")
    return "done"


@deed
def save_and_fail(args: Told, context: Context) -> Any:
    if context.last_checkpoint is None:
        context.checkpoint({"page": 3})
        os._exit(9)
    return context.last_checkpoint


@deed
def checkpoint(args: Told, context: Context) -> Any:
    context.checkpoint(args.value)
    return "saved"


@deed
def too_large(args: Told, context: Context) -> Any:
    with suppress(ValueError):
        context.checkpoint("x" * 100_000)
        return "kept"
    return "refused"


@deed
def log(args: Told, context: Context) -> Any:
    context.log.bind(page=3).info("page_fetched", odd={1, 2}, level="mine", huge=2**70)
    context.log.debug("too_quiet")
    structlog.get_logger("acme").warning("from_acme", job_id="another")
    logging.getLogger("acme.library").log(25, "on %s", "paper")
    try:
        int("no luck")
    except ValueError:
        context.log.exception("it_broke")


@deed
def call_out(args: Told, context: Context) -> Any:
    return context.http.request("GET", args.value).body.decode()


@deed
def open_session(args: Told, context: Context) -> Any:
    return str(context.session)


@deed
def answer(args: Told, context: Context) -> Any:
    raise {
        "retry": RetryLater(timedelta(hours=1), "later"),
        "snooze": Snooze(timedelta(hours=1), "too early"),
        "permanent": Permanent("never", "no-such"),
    }[args.value]


# Of those that wait


@deed
def listen(args: Told, context: Context) -> Any:
    args.path.write_text("begun")
    try:
        context.wait(60)
    finally:
        args.path.write_text("cleaned up")


@deed
def spin(args: Told, context: Context) -> Any:
    args.path.write_text("begun")
    try:
        while True:
            pass
    finally:
        args.path.write_text("cleaned up")


@deed
def sleep(args: Told, context: Context) -> Any:
    args.path.write_text("begun")
    try:
        time.sleep(60)
    finally:
        args.path.write_text("cleaned up")


@deed
def swallow(args: Told, context: Context) -> Any:
    args.path.write_text("begun")
    while True:
        with suppress(Interrupt):
            time.sleep(60)


@deed
def hold_the_lock(args: Told, context: Context) -> Any:
    """One call into the regular expressions, which never lets go of the interpreter's lock."""
    args.path.write_text("begun")
    return bool(re.match(r"(a+)+$", "a" * 40 + "b"))


@deed
def start_a_program(args: Told, context: Context) -> Any:
    program = subprocess.Popen(["sleep", "300"])
    args.path.write_text(f"{os.getpid()} {program.pid}")
    program.wait()


# Of those that do harm


@deed
def crash(args: Told, context: Context) -> Any:
    ctypes.string_at(0)


@deed
def leave(args: Told, context: Context) -> Any:
    os._exit(args.value)


@deed
def end(args: Told, context: Context) -> Any:
    sys.exit("enough")


@deed
def raise_base(args: Told, context: Context) -> Any:
    class OddError(BaseException):
        pass

    raise OddError("odd")


@deed
def hoard(args: Told, context: Context) -> Any:
    return len(bytearray(args.value * 1024 * 1024))


@deed
def keep_much(args: Told, context: Context) -> Any:
    _KEPT.append(bytearray(args.value * 1024 * 1024))
    return os.getpid()


_KEPT: list[bytearray] = []


@deed
def make_noise(args: Told, context: Context) -> Any:
    for stream in (sys.stdout, sys.stderr):
        stream.write("\x00\x00\x00\x05noise" * 1000)
    os.write(1, b"\xff" * 10_000)
    return "heard"


@deed
def hang_up(args: Told, context: Context) -> Any:
    os.closerange(3, 100)
    time.sleep(60)


@deed
def talk_nonsense(args: Told, context: Context) -> Any:
    desk: Any = context.desk
    desk.channel.socket.sendall(b"\xff" * 100)
    time.sleep(60)


@deed
def end_in_nonsense(args: Told, context: Context) -> Any:
    args.path.write_text("begun")
    try:
        context.wait(60)
    finally:
        talk_nonsense(args, context)


@deed
def no_json(args: Told, context: Context) -> Any:
    return {"value": object()}


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
