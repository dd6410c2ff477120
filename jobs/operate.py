"""What a client may do with a job of its tenant: read it, see its history, have it run now, cancel it."""

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


class JobIsNotWaiting(Exception):  # noqa: N818
    """The job does not wait for its time any more: it runs, is about to, or is final."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"The job is {job.state} and waits for no time; only a queued job can be made to run now.")
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


def run_now(session: Session, principal: Principal, job_id: UUID, *, again: bool = False) -> tuple[Job, bool]:
    """Make a waiting job due; gives it as it is then, and whether that changed it. Raises NoSuchJob, JobIsNotWaiting.

    With `again`, an earlier try may have been committed and only its answer lost: that it goes on is then as asked.
    """
    find(session, principal, job_id)
    moved = moves.run_now(session, [job_id], principal.actor)
    job = find(session, principal, job_id)
    if job.state is not State.QUEUED and not moved and not again:
        raise JobIsNotWaiting(job)
    return job, bool(moved)
