"""A job as it was asked for, and everything that is wrong with it: pure checks, by its type and its webhook."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from jobs.outcomes import Json
from jobs.registry import JobType, Registry
from jobs.webhook_urls import REFUSED, Reach, refusal


@dataclass(frozen=True)
class Submission:
    """A job as it was asked for; None leaves a choice to its type."""

    type: str
    args: Json
    queue: str | None = None
    priority: int = 0
    due_at: datetime | None = None
    delay_seconds: float = 0
    max_attempts: int | None = None
    timeout_seconds: int | None = None
    unique_key: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    webhook: Mapping[str, Any] | None = None
    """Who is told of its end: a `url`, and of which `events`."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a submission; `pointer` is a JSON pointer into it (RFC 6901)."""

    pointer: str
    code: str
    detail: str


def faults(asked: Submission, job_type: JobType, registry: Registry) -> list[Fault]:
    """What is wrong with it by its type."""
    found = args_faults(asked, job_type)
    if (queue := asked.queue or job_type.queue) in registry.kept_queues:
        found.append(Fault("/queue", "reserved-queue", f"The queue {queue!r} is for jobs that Jobmill makes itself."))
    if asked.max_attempts is not None and asked.max_attempts > job_type.max_attempts_limit:
        detail = f"{job_type.name} allows at most {job_type.max_attempts_limit} attempts."
        found.append(Fault("/max_attempts", "too-many-attempts", detail))
    if asked.timeout_seconds is not None and asked.timeout_seconds > job_type.timeout_limit.total_seconds():
        detail = f"{job_type.name} allows at most {whole_seconds(job_type.timeout_limit)} seconds."
        found.append(Fault("/timeout_seconds", "timeout-too-long", detail))
    return found


def webhook_faults(asked: Submission, reach: Reach) -> list[Fault]:
    """What is wrong with the URL of its webhook, which may lead as far as `reach` says."""
    why = None if asked.webhook is None else refusal(asked.webhook["url"], reach)
    return [] if why is None else [Fault("/webhook/url", REFUSED, why)]


def args_faults(asked: Submission, job_type: JobType) -> list[Fault]:
    """What is wrong with its arguments."""
    try:
        job_type.parse(asked.args)
    except ValidationError as error:
        return [
            Fault(pointer(("args", *fault["loc"])), fault["type"].replace("_", "-"), plain_words(fault["msg"]))
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    except Exception as error:  # noqa: BLE001 - a model's own validator may raise anything
        return [Fault("/args", "invalid-args", f"{job_type.name} cannot read these args: {type(error).__name__}.")]
    return []


def plain_words(message: str) -> str:
    """Pydantic's message without its prefix for errors that our own validators raised."""
    return message.removeprefix("Value error, ")


def pointer(place: tuple[Any, ...]) -> str:
    """A JSON pointer to a place in a document (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def whole_seconds(duration: timedelta) -> int:
    """A time limit as it is kept; one second at least."""
    return max(1, round(duration.total_seconds()))
