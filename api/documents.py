"""How records look in JSON: the one place that names their members."""

from datetime import UTC, datetime
from typing import Any

from jobs.registry import JobType
from models.job import Job, JobEvent
from models.worker import Worker


def moment(at: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds and `Z`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z") if at else None


def job_document(job: Job) -> dict[str, Any]:
    """A job as clients see it."""
    progress = {"percent": job.progress_percent, "message": job.progress_message}
    return {
        "id": str(job.id),
        "type": job.type,
        "queue": job.queue,
        "state": job.state,
        "priority": job.priority,
        "args": job.args,
        "result": job.result,
        "error": error_document(job.error),
        "progress": progress if job.progress_percent is not None else None,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "lost": job.lost,
        "timeout_seconds": job.timeout_seconds,
        "created_at": moment(job.created_at),
        "due_at": moment(job.due_at),
        "dispatched_at": moment(job.dispatched_at),
        "started_at": moment(job.started_at),
        "finished_at": moment(job.finished_at),
        "cancel_requested_at": moment(job.cancel_requested_at),
        "tags": job.tags,
        "unique_key": job.unique_key,
        "idempotency_key": job.idempotency_key,
        "worker_id": str(job.worker_id) if job.worker_id else None,
        "schedule_id": str(job.schedule_id) if job.schedule_id else None,
    }


def error_document(error: Any) -> dict[str, Any] | None:
    """An error as clients see it; the trace is for operators."""
    return {name: error.get(name) for name in ("type", "message", "code")} if error else None


def event_document(event: JobEvent) -> dict[str, Any]:
    """One entry of a job's history."""
    return {
        "id": str(event.id),
        "at": moment(event.at),
        "move": event.move,
        "state": event.state,
        "attempt": event.attempt,
        "lease": event.lease,
        "actor": event.actor,
        "reason": event.reason,
        "error": error_document(event.error),
    }


def job_type_document(job_type: JobType) -> dict[str, Any]:
    """A job type with all that a client needs to submit one."""
    return {
        "type": job_type.name,
        "description": job_type.description,
        "queue": job_type.queue,
        "args_schema": job_type.args_schema,
        "result_schema": job_type.result_schema,
        "retry": job_type.retry.describe(),
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


def worker_document(worker: Worker) -> dict[str, Any]:
    """A worker process."""
    return {
        "id": str(worker.id),
        "state": worker.state,
        "host": worker.host,
        "pid": worker.pid,
        "parent_pid": worker.parent_pid,
        "queues": worker.queues,
        "threads": worker.threads,
        "busy": worker.busy,
        "version": worker.version,
        "started_at": moment(worker.started_at),
        "heartbeat_at": moment(worker.heartbeat_at),
    }
