"""How a job looks to clients: the members of its JSON document, which the API answers with and webhooks carry."""

from datetime import UTC, datetime
from typing import Any

from models.job import Job


def job_document(job: Job) -> dict[str, Any]:
    """A job as clients see it."""
    return {
        "id": str(job.id),
        "type": job.type,
        "queue": job.queue,
        "state": job.state,
        "priority": job.priority,
        "args": job.args,
        "result": job.result,
        "error": error_document(job.error),
        "progress": _progress(job),
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "lost": job.lost,
        "timeout_seconds": job.timeout_seconds,
        "created_at": moment(job.created_at),
        "due_at": moment(job.due_at),
        "dispatched_at": moment_or_none(job.dispatched_at),
        "started_at": moment_or_none(job.started_at),
        "finished_at": moment_or_none(job.finished_at),
        "cancel_requested_at": moment_or_none(job.cancel_requested_at),
        "tags": job.tags,
        "unique_key": job.unique_key,
        "idempotency_key": job.idempotency_key,
        "worker_id": str(job.worker_id) if job.worker_id else None,
        "schedule_id": str(job.schedule_id) if job.schedule_id else None,
    }


def error_document(error: Any) -> dict[str, Any] | None:
    """An error as clients see it; the trace is for operators."""
    return {"type": error.get("type"), "message": error.get("message"), "code": error.get("code")} if error else None


def moment(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds and `Z`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment_or_none(at: datetime | None) -> str | None:
    """The same of a moment that has not come."""
    return moment(at) if at else None


def _progress(job: Job) -> dict[str, Any] | None:
    if job.progress_percent is None:
        return None
    return {"percent": job.progress_percent, "message": job.progress_message}
