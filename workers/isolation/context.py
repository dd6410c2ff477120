"""The context of a handler in a process of its own: the same words, said to the worker."""

import queue
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

import structlog

from jobs.context import Context, Progress
from jobs.outbound import Outbound
from jobs.outcomes import Json, LeaseLost
from jobs.serialise import NotSerialisable, to_json
from workers.isolation.frames import Channel, Frame

FLUSH_SECONDS = 0.2
"""How often progress is sent at most; the last word always is."""


def told_of(context: Context) -> dict[str, Any]:
    """What a context says that can cross a channel."""
    return {
        "job_id": str(context.job_id),
        "job_type": context.job_type,
        "tenant": str(context.tenant),
        "attempt": context.attempt,
        "lease": context.lease,
        "max_attempts": context.max_attempts,
        "tags": dict(context.tags),
        "timeout": context.timeout.total_seconds(),
        "last_checkpoint": context.last_checkpoint,
        "traceparent": context.traceparent,
        "tracestate": context.tracestate,
    }


@dataclass(kw_only=True)
class ForwardingContext(Context):
    """A context whose progress goes to the worker."""

    channel: Channel = field(repr=False)
    told_progress: Progress | None = None
    flushed_at: float = 0.0
    flushing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def progress(self, percent: float, message: str | None = None) -> None:
        """Tell how far the job is. Cheap: sent five times a second at most."""
        super().progress(percent, message)
        if time.monotonic() - self.flushed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the last word, if it has not been sent; in order, whichever thread does it."""
        with self.flushing:
            latest = self.latest_progress
            if latest is not None and latest is not self.told_progress:
                self.told_progress, self.flushed_at = latest, time.monotonic()
                self.channel.send("progress", percent=latest.percent, message=latest.message)


def forwarding_context(
    told: dict[str, Any], channel: Channel, answers: "queue.SimpleQueue[Frame]", http: Outbound
) -> ForwardingContext:
    """The context that the worker told of."""
    return ForwardingContext(
        job_id=UUID(told["job_id"]),
        job_type=told["job_type"],
        tenant=UUID(told["tenant"]),
        attempt=told["attempt"],
        lease=told["lease"],
        max_attempts=told["max_attempts"],
        tags=told["tags"],
        timeout=timedelta(seconds=told["timeout"]),
        last_checkpoint=told["last_checkpoint"],
        log=structlog.get_logger(f"jobs.{told['job_type']}"),
        http=http,
        desk=_ForwardingDesk(channel, answers),
        traceparent=told["traceparent"],
        tracestate=told["tracestate"],
        channel=channel,
    )


class _ForwardingDesk:
    """Asks the worker, and waits for its answer."""

    def __init__(self, channel: Channel, answers: "queue.SimpleQueue[Frame]") -> None:
        self.channel = channel
        self.answers = answers
        self._asking = threading.Lock()

    def save_checkpoint(self, value: Json) -> None:
        """Have the worker commit it. Raises as the worker's own desk does."""
        body = to_json(value)
        with self._asking:
            self.channel.send("checkpoint", body)
            answer = self._answer()
        if answer.kind == "refused":
            raise _refusal(answer.told["reason"], answer.told["message"])

    def _answer(self) -> Frame:
        while True:
            try:
                # Short waits, since a thread inside one long wait cannot be interrupted from outside.
                return self.answers.get(timeout=0.2)
            except queue.Empty:
                continue

    def open_session(self) -> NoReturn:
        """Refused."""
        raise RuntimeError(
            "context.session cannot be had with isolation='process': a transaction does not cross into another "
            "process. Return what is to be written, or declare the type with isolation='thread'."
        )

    def run(self, _step: object) -> NoReturn:
        """Refused."""
        self.open_session()


def _refusal(reason: str, message: str) -> BaseException:
    match reason:
        case "LeaseLost":
            return LeaseLost()
        case "NotSerialisable":
            return NotSerialisable(message)
        case "Unavailable":
            from models.errors import Unavailable  # brings SQLAlchemy along, which is seldom needed here

            return Unavailable(message)
        case _:
            return RuntimeError(f"{reason}: {message}")
