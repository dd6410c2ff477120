"""What the API tells, as types. Members that a later server adds are kept, and break nothing."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from jobmill_client.errors import JobFailed
from jobmill_client.waiting import FINAL

if TYPE_CHECKING:
    from jobmill_client.client import Client

WAIT_SECONDS = 3600.0
"""How long a wait lasts at most unless it says otherwise."""


class Document(BaseModel):
    """Something that the server told, as it was then."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


class Failure(Document):
    """Why an attempt failed: `type` is the class of the error, `code` is for programs."""

    type: str | None = None
    message: str | None = None
    code: str | None = None


class Progress(Document):
    """How far a handler says it is."""

    percent: float | None = None
    message: str | None = None


class Job(Document):
    """A job as it was when it was read; its methods ask the server anew, and give a new Job."""

    id: str
    type: str
    queue: str
    state: str
    priority: int
    args: dict[str, Any]
    returned: Any = Field(alias="result")
    error: Failure | None
    progress: Progress | None
    attempt: int
    max_attempts: int
    lost: int
    timeout_seconds: int
    created_at: datetime
    due_at: datetime
    dispatched_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    tags: dict[str, str]
    unique_key: str | None
    idempotency_key: str | None
    worker_id: str | None
    schedule_id: str | None

    _client: "Client | None" = None

    @classmethod
    def told(cls, document: Mapping[str, Any], client: "Client") -> Self:
        """A job of a document, whose methods use that client."""
        job = cls.model_validate(document)
        job._client = client  # noqa: SLF001 - its own
        return job

    def __getstate__(self) -> dict[Any, Any]:
        """Pickled, it leaves its client behind."""
        return {**super().__getstate__(), "__pydantic_private__": {"_client": None}}

    @property
    def final(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in FINAL

    @property
    def succeeded(self) -> bool:
        """Whether it has ended in success."""
        return self.state == "succeeded"

    def refresh(self) -> "Job":
        """The job as it is now."""
        return self._asked.job(self.id)

    def wait(self, timeout: float = WAIT_SECONDS) -> "Job":
        """The job once it has ended, in whatever way. Raises WaitTimedOut after so many seconds."""
        return self if self.final else self._asked.wait(self.id, timeout)

    def result(self, timeout: float = WAIT_SECONDS) -> Any:
        """What its handler returned, once it has ended. Raises JobFailed, or WaitTimedOut after so many seconds."""
        job = self.wait(timeout)
        if not job.succeeded:
            raise JobFailed(job)
        return job.returned

    def cancel(self) -> "Job":
        """Cancel it: at once if it waits, else as soon as its handler lets go. Raises Conflict if it has ended."""
        return self._asked.cancel(self.id)

    def run_now(self) -> "Job":
        """Have it run now if it waits for its time or its next attempt; raises Conflict if it does not wait."""
        return self._asked.run_now(self.id)

    def explain(self) -> "Explanation":
        """Why it is where it is."""
        return self._asked.explain(self.id)

    def events(self) -> "Iterator[Event]":
        """What happened to it besides the straight way, newest first."""
        return self._asked.events(self.id)

    @property
    def _asked(self) -> "Client":
        if self._client is None:
            raise RuntimeError("This job has no client, as after unpickling; ask client.job(job.id) for one that has.")
        return self._client


class Event(Document):
    """One entry of a job's history: a move off the straight path."""

    id: str
    at: datetime
    move: str
    state: str
    attempt: int
    lease: int
    actor: str
    reason: str | None
    error: Failure | None


class Limits(Document):
    """The most that a job of a type may ask for."""

    max_attempts: int
    timeout_seconds: int


class JobType(Document):
    """A job type, with the JSON Schema of what its jobs take and return."""

    type: str
    description: str
    queue: str
    args_schema: dict[str, Any]
    result_schema: dict[str, Any]
    retry: dict[str, Any]
    max_attempts: int
    timeout_seconds: int
    limits: Limits
    isolation: str
    memory_limit_mb: int | None
    cpu_limit_seconds: int | None


class Worker(Document):
    """A worker process."""

    id: str
    state: str
    host: str
    pid: int
    parent_pid: int | None
    queues: list[str]
    threads: int
    busy: int
    version: str
    started_at: datetime
    heartbeat_at: datetime


class Reason(Document):
    """A reason why a job is where it is, in a word for programs and in a sentence; `detail` depends on the reason."""

    reason: str
    message: str
    since: datetime | None
    until: datetime | None
    detail: dict[str, Any]


class Explanation(Reason):
    """Why a job is where it is: the reason that decides now, and what would keep it as well without that."""

    job_id: str
    state: str
    also: list[Reason]
    at: datetime
