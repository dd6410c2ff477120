"""One attempt at a job: parse its arguments, run its handler, say what it came to.

Pure but for the handler itself. The executor runs this in a worker, `jobs.testing` in a unit test.
"""

import os
import traceback
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from jobs.context import Context
from jobs.masking import masked
from jobs.outcomes import (
    Abandoned,
    Answer,
    CancelRequested,
    Draining,
    Failed,
    FailedForGood,
    Failure,
    GivenBack,
    Interrupt,
    Json,
    LeaseLost,
    Outcome,
    Permanent,
    RetryLater,
    Snooze,
    Snoozed,
    Stopped,
    Succeeded,
    TimedOut,
)
from jobs.places import place_of, users_part
from jobs.registry import JobType
from jobs.retry import LONGEST_DELAY
from jobs.serialise import NotSerialisable, clean_text, to_json

MOST_MESSAGE_BYTES = 2 * 1024
MOST_TRACE_BYTES = 16 * 1024
MOST_TRACE_FRAMES = 60
MOST_FAULTS_NAMED = 20


def attempt(job_type: JobType, args: Json, context: Context) -> Outcome:
    """Run the handler once. Whatever it raises becomes an outcome.

    An Interrupt that strikes before or after the handler is not its doing and leaves this function as it
    is; `outcome_of` says what it means.
    """
    try:
        parsed = job_type.parse(args)
    except ValidationError as error:
        return FailedForGood(Failure("ValidationError", _faults(error), "invalid-args"))
    except Exception as error:  # noqa: BLE001 - a model's own validator may raise anything
        return outcome_of(error)
    try:
        answer = _called(job_type, parsed, context)
    except BaseException as error:  # noqa: BLE001 - SystemExit from a handler must not end a worker thread
        return outcome_of(error)
    return _succeeded(job_type, answer)


def _called(job_type: JobType, parsed: Any, context: Context) -> Any:
    home = os.getpid()
    try:
        return job_type.call(parsed, context)
    finally:
        if os.getpid() != home:
            # A process that the handler forked has come out of it too. It is no worker: were it to go on, it would
            # record the job beside its parent, and take messages from no connection of its own.
            os._exit(os.EX_SOFTWARE)


def outcome_of(error: BaseException) -> Outcome:
    """What an attempt that ended with this exception came to."""
    if isinstance(error, Interrupt):
        return _interrupted(error)
    if isinstance(error, Answer):
        return _answered(error)
    return Failed(_failure(error, "out-of-memory" if isinstance(error, MemoryError) else "exception"))


def _succeeded(job_type: JobType, answer: object) -> Outcome:
    try:
        return Succeeded(to_json(job_type.plain(answer)))
    except ValidationError as error:
        return _unusable("ValidationError", f"The result is not what the handler declares: {_faults(error)}")
    except (NotSerialisable, PydanticSerializationError) as error:
        return _unusable(type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - a model's own serialiser may raise anything
        return _unusable(_name(error), f"Turning the result into JSON failed: {_message(error)}")


def _unusable(kind: str, message: str) -> FailedForGood:
    return FailedForGood(Failure(kind, _head(message, MOST_MESSAGE_BYTES), "result-not-serialisable"))


def _interrupted(error: Interrupt) -> Outcome:
    match error:
        case CancelRequested():
            return Stopped()
        case Draining():
            return GivenBack()
        case LeaseLost():
            return Abandoned()
        case TimedOut():
            # Without a place: where the time happened to be over says nothing of what took so long; the trace does.
            message = "The attempt ran longer than the job's timeout_seconds."
            return Failed(Failure(_name(error), message, "timed-out", _trace(error)))
        case _:
            return Failed(_failure(error, "exception"))


def _answered(error: Answer) -> Outcome:
    match error:
        case Permanent():
            return FailedForGood(_failure(error, clean_text(str(error.code))[:100]))
        case RetryLater(after=timedelta()):
            return Failed(_failure(error, "retry-later"), _bounded(error.after))
        case Snooze(after=timedelta()):
            return Snoozed(_bounded(error.after), _message(error))
        case _:
            return Failed(_failure(error, "exception"))


def _bounded(after: timedelta) -> timedelta:
    return min(max(after, timedelta(0)), LONGEST_DELAY)


def _failure(error: BaseException, code: str) -> Failure:
    return Failure(_name(error), _message(error), code, _trace(error), _place(error))


def _name(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return clean_text(name)[:200]


def _message(error: BaseException) -> str:
    try:
        return _head(str(error), MOST_MESSAGE_BYTES)
    except Exception:  # noqa: BLE001 - an exception that cannot tell its message is still a failure to record
        return "(the exception could not say its message)"


def _trace(error: BaseException) -> str | None:
    try:
        # The limit keeps the innermost frames, where the fault is.
        lines = traceback.format_exception(type(error), error, users_part(error), limit=-MOST_TRACE_FRAMES)
        return _tail("".join(lines), MOST_TRACE_BYTES)
    except Exception:  # noqa: BLE001 - out of memory, or an exception that cannot be formatted
        return None


def _place(error: BaseException) -> str | None:
    try:
        place = place_of(error)
        return None if place is None else clean_text(place)
    except Exception:  # noqa: BLE001 - out of memory, or a frame that was tampered with
        return None


def _faults(error: ValidationError) -> str:
    """Every fault with its place, without the values: those may be secrets."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"/{'/'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:MOST_FAULTS_NAMED]]
    return _head("; ".join(told), MOST_MESSAGE_BYTES)


# Secrets are masked before the text is cut, since half a secret has no form.
def _head(text: str, most_bytes: int) -> str:
    text = masked(text[: 2 * most_bytes])
    body = clean_text(text[:most_bytes]).encode()
    if len(body) <= most_bytes and len(text) <= most_bytes:
        return body.decode()
    return body[: most_bytes - 3].decode(errors="ignore") + "…"


def _tail(text: str, most_bytes: int) -> str:
    text = masked(text[-2 * most_bytes :])
    body = clean_text(text[-most_bytes:]).encode()
    if len(body) <= most_bytes and len(text) <= most_bytes:
        return body.decode()
    return "…" + body[3 - most_bytes :].decode(errors="ignore")
