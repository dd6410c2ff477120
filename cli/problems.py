"""What the client could not do, in words for a person: what happened, and what to do."""

from collections.abc import Mapping
from typing import Any

from cli.failures import Failure, Refused, TimedOut, Unreachable
from jobmill_client.errors import (
    ApiError,
    ConnectionFailed,
    JobmillError,
    ServerError,
    UnexpectedAnswer,
    WaitTimedOut,
)


def failure(error: JobmillError) -> Failure:
    """How a command ends by an error of the client."""
    match error:
        case ServerError():
            return Unreachable(describe(error))
        case ApiError():
            return Refused(describe(error))
        case ConnectionFailed():
            return Unreachable(f"{error} Start it with `jobmill up`, or set JOBMILL_URL.")
        case UnexpectedAnswer():
            return _unexpected(error)
        case WaitTimedOut():
            return TimedOut(
                f"The job is still {error.state} after {error.seconds:g} s, and goes on. "
                f"Wait again with: jobmill jobs wait {error.job_id}"
            )
        case _:
            return Failure(str(error))


def _unexpected(error: UnexpectedAnswer) -> Failure:
    if error.location is not None:
        return Failure(f"The server sends to {error.location}; set JOBMILL_URL to where it really is.")
    return Unreachable(f"{error.url} answers, but not as Jobmill does. Check JOBMILL_URL.")


def describe(error: ApiError) -> str:
    """Title, detail, every fault with its place, and the request id to ask the operator about."""
    lines = [f"{error.title} ({' '.join(filter(None, [str(error.status), error.code]))})"]
    if error.detail:
        lines.append(f"  {error.detail}")
    lines += [f"  {_fault(fault)}" for fault in error.errors]
    if error.request_id:
        lines.append(f"  request id: {error.request_id}")
    return "\n".join(lines)


def _fault(fault: Mapping[str, Any]) -> str:
    place = " ".join(filter(None, [_word(fault.get("in")), _word(fault.get("pointer"))]))
    return ": ".join(filter(None, [place, _word(fault.get("detail")) or _word(fault.get("code"))]))


def _word(value: object) -> str:
    return "" if value is None else str(value)
