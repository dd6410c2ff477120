"""Whether a queue takes more: one that is too far behind does not, if the operator has set a bound.

Better told so at once than to wait in vain: whoever submits can go elsewhere, come back, or drop it.
"""

import math
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from api.problems import Problem
from api.services import Services
from jobs import submit
from models.job import NewJob

LONGEST_WAIT_SECONDS = 60


def is_bounded(services: Services) -> bool:
    """Whether there is anything to ask."""
    return services.settings.backlog_limit_seconds is not None


def refusals(services: Services, new: Sequence[NewJob], session: Session) -> dict[UUID, Problem]:
    """By id, the jobs whose queue's oldest due job has waited for longer than the bound.

    A job that was recorded before under its key is none more, and is answered as ever.
    """
    bound = services.settings.backlog_limit_seconds
    if bound is None:
        return {}
    ages = {queue: services.backlog.age(session, queue) for queue in {job.queue for job in new}}
    behind = {queue: age.total_seconds() - bound for queue, age in ages.items() if age.total_seconds() > bound}
    late = [job for job in new if job.queue in behind]
    known = submit.recorded_keys(session, late)
    return {job.id: _too_old(job.queue, bound, behind[job.queue]) for job in late if job.idempotency_key not in known}


def _too_old(queue: str, bound: float, behind: float) -> Problem:
    wait = min(LONGEST_WAIT_SECONDS, math.ceil(behind))
    detail = f"The oldest due job of queue {queue} has waited for longer than {bound:g} s. Nothing was recorded."
    return Problem("backlog-too-old", detail, headers={"Retry-After": str(wait)})
