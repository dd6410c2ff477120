"""What a handler can answer, and what its run came to.

A handler returns a value, or raises one of the three answers below; any other exception is a failure
that follows the type's retry policy. The executor turns what happened into one immutable `Outcome`.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


class Answer(Exception):  # noqa: N818 - an answer is not an error
    """Base of what a handler may raise to say how its job goes on."""


class RetryLater(Answer):
    """The attempt failed; try again `after` this long instead of when the policy says. Costs an attempt."""

    def __init__(self, after: timedelta, reason: str = "The handler asked for a retry.") -> None:
        super().__init__(reason)
        self.after = after
        self.reason = reason


class Snooze(Answer):
    """Nothing failed, it is only too early; run again `after` this long. Costs no attempt."""

    def __init__(self, after: timedelta, reason: str = "The handler asked to run later.") -> None:
        super().__init__(reason)
        self.after = after
        self.reason = reason


class Permanent(Answer):
    """No retry can help; the job is dead at once. `code` is a short word that clients may match on."""

    def __init__(self, reason: str, code: str = "permanent") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Interrupt(BaseException):
    """Raised inside a handler from outside; a BaseException, so that `except Exception` lets it pass."""


class CancelRequested(Interrupt):
    """Someone asked for this job to be cancelled."""


class TimedOut(Interrupt):
    """The attempt ran longer than the job's `timeout_seconds`."""


class Draining(Interrupt):
    """The worker stops and its grace period is over."""


class LeaseLost(Interrupt):
    """The job was given to another worker; nothing this attempt does will be recorded."""


@dataclass(frozen=True)
class Failure:
    """An attempt's error as it is recorded: `type` and `message` for people, `code` for programs.

    `place` is the function of the user's code that it came from (`jobs.places`).
    """

    type: str
    message: str
    code: str
    trace: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Succeeded:
    """The handler returned; `result` is a JSON document in UTF-8, `percent` and `message` its last progress."""

    result: bytes
    percent: float | None = None
    message: str | None = None


@dataclass(frozen=True)
class Failed:
    """The attempt failed; `after` overrides the retry policy when the handler or a server named a delay."""

    failure: Failure
    after: timedelta | None = None


@dataclass(frozen=True)
class FailedForGood:
    """The attempt failed in a way that no retry can mend."""

    failure: Failure


@dataclass(frozen=True)
class Snoozed:
    """The handler asked to run later; the attempt is given back."""

    after: timedelta
    reason: str


@dataclass(frozen=True)
class Stopped:
    """The handler yielded to a requested cancellation."""


@dataclass(frozen=True)
class GivenBack:
    """Through no fault of its own the attempt came to nothing, and is given back."""

    reason: str = "the worker stopped"


@dataclass(frozen=True)
class Abandoned:
    """The lease went to another worker while the handler ran; there is nothing to record."""


Outcome = Succeeded | Failed | FailedForGood | Snoozed | Stopped | GivenBack | Abandoned

Json = Any
"""A value that JSON can express: None, bool, int, float, str, list and dict with str keys."""
