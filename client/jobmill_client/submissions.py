"""What a client hands in: jobs, one by one or in batches, each under an idempotency key of its own."""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypedDict

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from jobmill_client.documents import Job
from jobmill_client.errors import ApiError, RequestTooLarge
from jobmill_client.webhooks import JobWebhook

MOST_JOBS = 1000
MOST_BATCH_BYTES = 16 * 1024 * 1024
_ENVELOPE_BYTES = 32
_LIMIT = MOST_BATCH_BYTES - _ENVELOPE_BYTES


class Options(TypedDict, total=False):
    """What may be said of a job besides its type and arguments; the server's defaults hold for what is left out.

    `due_at` (with its time zone) or `delay_seconds`: not before then. `priority`: -100 to 100, higher runs first.
    `unique_key`: refuse it while an unfinished job of the type has this key. `timeout_seconds`: of each attempt.
    `webhook`: the `url` to call when the job has ended; `events`, if not at each end.
    """

    queue: str | None
    priority: int | None
    due_at: datetime | None
    delay_seconds: float | None
    max_attempts: int | None
    timeout_seconds: int | None
    unique_key: str | None
    tags: Mapping[str, str] | None
    webhook: JobWebhook | None
    idempotency_key: str | None


class Submission(BaseModel):
    """A job to hand in. Its idempotency key is made with it: handed in twice, it is still one job."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    type: str
    args: dict[str, Any] = Field(default_factory=dict)
    queue: str | None = None
    priority: int | None = None
    due_at: AwareDatetime | None = None
    delay_seconds: float | None = None
    max_attempts: int | None = None
    timeout_seconds: int | None = None
    unique_key: str | None = None
    tags: dict[str, str] | None = None
    webhook: dict[str, Any] | None = None
    idempotency_key: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,255}$")] = Field(
        default_factory=lambda: str(uuid.uuid4())
    )

    @field_validator("args", mode="before")
    @classmethod
    def _members(cls, args: Any) -> Any:
        return args.model_dump(mode="json", by_alias=True) if isinstance(args, BaseModel) else args

    def document(self) -> dict[str, Any]:
        """What is sent of it, without its key."""
        members = self.model_dump(mode="json", by_alias=True, exclude={"idempotency_key"})
        return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True)
class BatchItem:
    """What became of one job of a batch: the `job`, or the `error` that it would have had alone.

    `replayed`: it had been recorded under its key before.
    """

    submission: Submission
    job: Job | None = None
    error: ApiError | None = None
    replayed: bool = False


def portions(submissions: Iterable[Submission]) -> Iterator[Sequence[Submission]]:
    """The jobs in their order, in batches that the API takes. Raises RequestTooLarge for a job that no batch holds."""
    portion: list[Submission] = []
    size = 0
    for submission in submissions:
        grows = len(json.dumps(batch_member(submission))) + len(", ")
        if grows > _LIMIT:
            raise RequestTooLarge(grows, MOST_BATCH_BYTES)
        if len(portion) == MOST_JOBS or size + grows > _LIMIT:
            yield portion
            portion, size = [], 0
        portion.append(submission)
        size += grows
    if portion:
        yield portion


def batch_member(submission: Submission) -> dict[str, Any]:
    """A job as it stands in a batch, with its key."""
    return submission.document() | {"idempotency_key": submission.idempotency_key}
