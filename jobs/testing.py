"""Runs a handler in a unit test, as a worker would but without any service.

ran = run_job(greet, {"name": "Ada"})
assert ran.result == {"text": "Hello Ada"}
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import orjson
import structlog
from pydantic import BaseModel

import jobs.registry
from jobs.attempt import attempt as run_attempt
from jobs.context import Answer, Context, Progress
from jobs.outbound import Outbound
from jobs.outcomes import Failed, FailedForGood, Failure, Json, Outcome, Snoozed, Stopped, Succeeded
from jobs.registry import Handler, JobType, Registry
from jobs.serialise import to_json

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MOST_CHECKPOINT_BYTES = 64 * 1024
JOB_ID = UUID("01900000-0000-7000-8000-000000000001")
TENANT = UUID("01900000-0000-7000-8000-000000000002")


@dataclass(frozen=True)
class Ran:
    """What one attempt came to, and what it told on the way."""

    outcome: Outcome
    progress: list[Progress]
    checkpoints: list[Json]

    @property
    def result(self) -> Json:
        """The result as a client would read it; an AssertionError tells why there is none."""
        if isinstance(self.outcome, Succeeded):
            return orjson.loads(self.outcome.result)
        failure = self.error
        raise AssertionError(f"No result: {failure.trace or failure if failure else self.outcome}")

    @property
    def error(self) -> Failure | None:
        """The failure as it would be recorded; None if the attempt did not fail."""
        return self.outcome.failure if isinstance(self.outcome, Failed | FailedForGood) else None

    @property
    def permanent(self) -> bool:
        """Whether it failed in a way that no retry can mend."""
        return isinstance(self.outcome, FailedForGood)

    @property
    def retry_after(self) -> timedelta | None:
        """The wait that a failure named; None if the retry policy decides, or nothing failed."""
        return self.outcome.after if isinstance(self.outcome, Failed) else None

    @property
    def snoozed(self) -> timedelta | None:
        """How much later the handler asked to run, if it did."""
        return self.outcome.after if isinstance(self.outcome, Snoozed) else None

    @property
    def cancelled(self) -> bool:
        """Whether the handler yielded to a cancellation."""
        return isinstance(self.outcome, Stopped)


def run_job(  # noqa: PLR0913 - what a context holds, each with a default
    job: Handler | str,
    args: Mapping[str, Json] | BaseModel,
    *,
    attempt: int = 1,
    max_attempts: int = 5,
    tags: Mapping[str, str] | None = None,
    last_checkpoint: Json = None,
    cancelled: bool = False,
    session: "Session | None" = None,
    http: Outbound | None = None,
    registry: Registry = jobs.registry.registry,
) -> Ran:
    """Run a declared handler, or the type of that name, once; `args` go through JSON as they would in life.

    `session` is what the handler finds as `context.session` (yours to commit or roll back), `http` what it
    calls out with: without one, calling out fails the attempt. `cancelled` asks for cancellation from the start.
    """
    job_type = _declared(job, registry)
    desk = _Desk(session)
    context = _RecordingContext(
        job_id=JOB_ID,
        job_type=job_type.name,
        tenant=TENANT,
        attempt=attempt,
        max_attempts=max_attempts,
        lease=attempt,
        tags=dict(tags or {}),
        timeout=job_type.timeout,
        last_checkpoint=last_checkpoint,
        log=structlog.get_logger(),
        http=http or _NoNetwork(),
        desk=desk,
        cancelled=cancelled,
    )
    outcome = run_attempt(job_type, orjson.loads(to_json(_plain(args))), context)
    return Ran(outcome, context.told, desk.checkpoints)


def _declared(job: Handler | str, registry: Registry) -> JobType:
    if isinstance(job, str):
        return registry.get(job)
    for job_type in registry.all():
        if job_type.handler is job:
            return job_type
    raise LookupError(f"{job} is no declared handler; decorate it with @job(...), or pass its registry.")


def _plain(args: Mapping[str, Json] | BaseModel) -> dict[str, Json]:
    return args.model_dump(mode="json") if isinstance(args, BaseModel) else dict(args)


@dataclass
class _RecordingContext(Context):
    told: list[Progress] = field(default_factory=list)

    def progress(self, percent: float, message: str | None = None) -> None:
        super().progress(percent, message)
        if self.latest_progress:
            self.told.append(self.latest_progress)


class _Desk:
    def __init__(self, session: "Session | None") -> None:
        self._session = session
        self.checkpoints: list[Json] = []

    def save_checkpoint(self, value: Json) -> None:
        self.checkpoints.append(orjson.loads(to_json(value, MOST_CHECKPOINT_BYTES)))

    def open_session(self) -> "Session":
        if self._session is None:
            raise RuntimeError("The handler asks for context.session: give run_job a session=.")
        return self._session

    def run(self, step: Callable[["Session"], Answer]) -> Answer:
        return step(self.open_session())


class _NoNetwork(Outbound):
    """Refuses every call: a unit test that reaches out by accident should say so."""

    def request(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("The handler calls out: give run_job an http=, such as Outbound(allowed_networks=...).")

    def stream(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("The handler calls out: give run_job an http=, such as Outbound(allowed_networks=...).")
