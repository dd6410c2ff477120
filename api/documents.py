"""How records look in JSON: the one place that names their members, and says what each means.

Each document is a type, for the checker and for the OpenAPI document alike, and a function that makes one of a record.
"""

from typing import Annotated, Any, cast

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from api import examples
from jobs.registry import Isolation, JobType
from models import documents
from models.documents import moment
from models.job import Job, JobEvent
from models.states import Move, State
from models.worker import Worker

Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
JsonSchema = dict[str, Any]


def shown(example: Any) -> ConfigDict:
    """The configuration of a document with an example. It forbids no further members: a later release may add some."""
    return ConfigDict(json_schema_extra={"examples": [example]})


class ErrorDocument(TypedDict):
    """Why an attempt failed."""

    type: Annotated[str | None, Field(description="The class of the error, as the handler's language names it.")]
    message: str | None
    code: Annotated[str | None, Field(description="What kind of failure it was, for programs.")]


class ProgressDocument(TypedDict):
    """How far a handler says it is."""

    percent: float | None
    message: str | None


@with_config(shown(examples.JOB))
class JobDocument(TypedDict):
    """A job as it is now."""

    id: Id
    type: Annotated[str, Field(description="One of GET /v1/job-types.")]
    queue: str
    state: State
    priority: Annotated[int, Field(description="-100 to 100; higher runs first.")]
    args: Annotated[dict[str, Any], Field(description="As they were submitted.")]
    result: Annotated[Any, Field(description="What the handler returned; null until it succeeded.")]
    error: Annotated[ErrorDocument | None, Field(description="Why the last attempt failed.")]
    progress: ProgressDocument | None
    attempt: Annotated[int, Field(description="Attempts begun so far, less those that were given back.")]
    max_attempts: int
    lost: Annotated[int, Field(description="How often its worker died under it; that costs no attempt.")]
    timeout_seconds: Annotated[int, Field(description="How long one attempt may take.")]
    created_at: Instant
    due_at: Annotated[Instant, Field(description="Not begun before then; after a failure, the time of the next try.")]
    dispatched_at: Instant | None
    started_at: Instant | None
    finished_at: Instant | None
    cancel_requested_at: Instant | None
    tags: dict[str, str]
    unique_key: str | None
    idempotency_key: str | None
    worker_id: Annotated[Id | None, Field(description="The worker that ran it last.")]
    schedule_id: Id | None


@with_config(shown(examples.EVENT))
class EventDocument(TypedDict):
    """One entry of a job's history: a move off the straight path."""

    id: Id
    at: Instant
    move: Move
    state: Annotated[State, Field(description="The state after the move.")]
    attempt: int
    lease: Annotated[int, Field(description="Grows with each hand-over to a worker.")]
    actor: Annotated[str, Field(description="Who moved it, as `key:ops1` or `worker:...`.")]
    reason: str | None
    error: ErrorDocument | None


class LimitsDocument(TypedDict):
    """The most that a job of a type may ask for."""

    max_attempts: int
    timeout_seconds: int


@with_config(shown(examples.JOB_TYPE))
class JobTypeDocument(TypedDict):
    """A job type with all that a client needs to submit one."""

    type: str
    description: str
    queue: str
    args_schema: Annotated[JsonSchema, Field(description="JSON Schema 2020-12 of `args`.")]
    result_schema: Annotated[JsonSchema, Field(description="JSON Schema 2020-12 of `result`.")]
    retry: Annotated[dict[str, Any], Field(description="The policy by which the waits between attempts grow.")]
    max_attempts: Annotated[int, Field(description="What a job gets that asks for nothing.")]
    timeout_seconds: Annotated[int, Field(description="What a job gets that asks for nothing.")]
    limits: LimitsDocument
    isolation: Isolation
    memory_limit_mb: int | None
    cpu_limit_seconds: int | None


@with_config(shown(examples.WORKER))
class WorkerDocument(TypedDict):
    """A worker process."""

    id: Id
    state: Annotated[str, Field(json_schema_extra={"enum": ["live", "connecting", "draining", "silent", "stopped"]})]
    host: str
    pid: int
    parent_pid: Annotated[int | None, Field(description="The process that watches over it and takes its signals.")]
    queues: list[str]
    threads: int
    busy: Annotated[int, Field(description="Jobs it runs now.")]
    version: str
    started_at: Instant
    heartbeat_at: Instant


def job_document(job: Job) -> JobDocument:
    """A job as clients see it."""
    return cast("JobDocument", documents.job_document(job))


def error_document(error: Any) -> ErrorDocument | None:
    """An error as clients see it; the trace is for operators."""
    return cast("ErrorDocument | None", documents.error_document(error))


def event_document(event: JobEvent) -> EventDocument:
    """One entry of a job's history."""
    return {
        "id": str(event.id),
        "at": moment(event.at),
        "move": Move(event.move),
        "state": event.state,
        "attempt": event.attempt,
        "lease": event.lease,
        "actor": event.actor,
        "reason": event.reason,
        "error": error_document(event.error),
    }


def job_type_document(job_type: JobType) -> JobTypeDocument:
    """A job type with all that a client needs to submit one."""
    return {
        "type": job_type.name,
        "description": job_type.description,
        "queue": job_type.queue,
        "args_schema": job_type.args_schema,
        "result_schema": job_type.result_schema,
        "retry": dict(job_type.retry.describe()),
        "max_attempts": job_type.max_attempts,
        "timeout_seconds": int(job_type.timeout.total_seconds()),
        "limits": {
            "max_attempts": job_type.max_attempts_limit,
            "timeout_seconds": int(job_type.timeout_limit.total_seconds()),
        },
        "isolation": job_type.isolation,
        "memory_limit_mb": job_type.memory_limit_mb,
        "cpu_limit_seconds": job_type.cpu_limit_seconds,
    }


def worker_document(worker: Worker) -> WorkerDocument:
    """A worker process."""
    return {
        "id": str(worker.id),
        "state": worker.state,
        "host": worker.host,
        "pid": worker.pid,
        "parent_pid": worker.parent_pid,
        "queues": list(worker.queues),
        "threads": worker.threads,
        "busy": worker.busy,
        "version": worker.version,
        "started_at": moment(worker.started_at),
        "heartbeat_at": moment(worker.heartbeat_at),
    }
