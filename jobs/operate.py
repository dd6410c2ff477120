"""What a client may do with a job that is there: read it, see its history, cancel it. All confined to its tenant."""

from uuid import UUID

from sqlalchemy.orm import Session

from jobs.scopes import Principal
from models import moves, queries
from models.job import Job
from models.states import State


class NoSuchJob(LookupError):  # noqa: N818
    """There is no job of that id, or it is another tenant's, which is the same to whoever asks."""


class JobIsFinal(Exception):  # noqa: N818
    """The job has reached a final state and cannot be cancelled any more."""

    def __init__(self, job: Job) -> None:
        super().__init__(
            f"The job is {job.state} since {job.finished_at:%Y-%m-%dT%H:%M:%SZ}; nothing is left to cancel."
        )
        self.job = job


def find(session: Session, principal: Principal, job_id: UUID, *, without: frozenset[str] = frozenset()) -> Job:
    """The job, or NoSuchJob; `without` documents that nobody wants to read."""
    job = queries.find_job(session, job_id, principal.tenant_id, without=without)
    if job is None:
        raise NoSuchJob(f"There is no job {job_id}.")
    return job


def cancel(session: Session, principal: Principal, job_id: UUID, *, again: bool = False) -> Job:
    """Cancel a waiting job, or ask a running one to stop; gives it as it is then. Raises NoSuchJob, JobIsFinal.

    With `again`, an earlier try may have been committed and only its answer lost: cancelled is then as asked.
    """
    find(session, principal, job_id)
    moved = moves.cancel(session, [job_id], principal.actor)
    job = find(session, principal, job_id)
    if job.final and not moved and not (again and job.state is State.CANCELLED):
        raise JobIsFinal(job)
    return job
