"""What a handler is given besides its arguments."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

from jobs.outcomes import CancelRequested, Json
from jobs.serialise import clean_text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from structlog.typing import FilteringBoundLogger

    from jobs.outbound import Outbound


Answer = TypeVar("Answer")

_making_bells = threading.Lock()
"""Two threads of a handler that begin to wait at once get one bell. One lock for all, since it is held for a moment."""
MOST_MESSAGE = 500
"""Characters of a progress message that are kept."""


@dataclass(frozen=True)
class Progress:
    """How far a job is, as its handler last said; `percent` in [0, 100]."""

    percent: float
    message: str | None


Pepper = Callable[["Session"], bytes]
"""Gives what an installation's secrets are sealed with."""


def no_pepper(_session: "Session") -> bytes:
    """Where no secrets are kept."""
    raise RuntimeError("No secrets are kept here.")


class Desk(Protocol):
    """Where a context's requests go: the worker's executor, or a test."""

    def save_checkpoint(self, value: Json) -> None:
        """Keep `value` for the next attempt, durably, before returning."""

    def open_session(self) -> "Session":
        """The session whose writes commit together with the job's success."""

    def run(self, step: "Callable[[Session], Answer]") -> Answer:
        """Do a step in a transaction of its own, at once: for the shipped types whose work is on jobs themselves."""


@dataclass
class Context:
    """One attempt at one job, as its handler sees it.

    `tenant` is the tenant's id, `attempt` counts from 1, `lease` is larger each time the job is run, for systems
    that can refuse whoever comes with an older one, `last_checkpoint` is what an earlier attempt saved (None when
    none did), `traceparent` and `tracestate` are the submission's W3C trace context. `http` is the only way a handler
    should call out: it refuses addresses inside our own network. `pepper` is what secrets are sealed with, for the
    shipped types.
    """

    job_id: UUID
    job_type: str
    tenant: UUID
    attempt: int
    max_attempts: int
    lease: int
    tags: Mapping[str, str]
    timeout: timedelta
    last_checkpoint: Json
    log: "FilteringBoundLogger"
    http: "Outbound"
    desk: Desk = field(repr=False)
    traceparent: str | None = None
    tracestate: str | None = None
    pepper: "Pepper" = field(default=no_pepper, repr=False)
    cancelled: bool = False
    """Whether someone asked to cancel this job; a handler that sees it should clean up and stop."""
    latest_progress: Progress | None = None
    _bell: threading.Event | None = field(default=None, init=False, compare=False, repr=False)
    """Ends a wait; made for the first, since most handlers never wait."""

    def cancel(self) -> None:
        """Say that someone asked to cancel this job. For the worker, not for handlers."""
        self.cancelled = True
        if self._bell is not None:
            self._bell.set()

    def raise_if_cancelled(self) -> None:
        """Stop here if cancellation was asked for. Raises CancelRequested, which a handler lets pass."""
        if self.cancelled:
            raise CancelRequested

    def wait(self, seconds: float) -> None:
        """Sleep that a cancellation ends at once, by raising CancelRequested."""
        deadline = time.monotonic() + seconds
        with _making_bells:
            bell = self._bell = self._bell or threading.Event()
        # Short naps, since a thread inside one long wait cannot be interrupted from outside. What was asked for before
        # there was a bell is seen before the first of them.
        while (left := deadline - time.monotonic()) > 0 and not self.cancelled:
            bell.wait(min(left, 0.5))
        self.raise_if_cancelled()

    def progress(self, percent: float, message: str | None = None) -> None:
        """Tell how far the job is. Cheap: kept in memory and written about once a second."""
        if not 0 <= percent <= 100:  # noqa: PLR2004 - percents
            raise ValueError(f"progress: percent must be between 0 and 100, not {percent}")
        told = clean_text(message)[:MOST_MESSAGE] if message is not None else None
        self.latest_progress = Progress(float(percent), told)

    def checkpoint(self, value: Json) -> None:
        """Keep a JSON value (64 KiB at most) that the next attempt finds in `last_checkpoint`.

        It is committed when this returns. Raises ValueError if the value is no JSON or too large.
        """
        self.desk.save_checkpoint(value)
        self.last_checkpoint = value

    @property
    def session(self) -> "Session":
        """The job's database session: what is written here commits with the job's success, or not at all.

        Opened at first use. Never commit it. On SQLite it holds the only write lock, so open it late
        and after the last `checkpoint`.
        """
        return self.desk.open_session()
