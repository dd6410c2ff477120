"""Whether a queue takes more: one that is too far behind does not, if the operator has set a bound.

Better told so at once than to wait in vain: whoever submits can go elsewhere, come back, or drop it.
"""

import math

from api.endpoint import Call
from api.problems import Problem
from jobs import submit
from models.job import NewJob

LONGEST_WAIT_SECONDS = 60


def admit(call: Call, new: NewJob) -> None:
    """Raises Problem while the queue's oldest due job has waited for longer than the bound.

    A job that was recorded before under its key is none more, and is answered as ever.
    """
    bound = call.services.settings.backlog_limit_seconds
    if bound is None:
        return
    queue = new.queue
    behind = call.services.backlog.age(call.session, queue).total_seconds() - bound
    if behind > 0 and not submit.is_recorded(call.session, new):
        wait = min(LONGEST_WAIT_SECONDS, math.ceil(behind))
        detail = f"The oldest due job of queue {queue} has waited for longer than {bound:g} s. Nothing was recorded."
        raise Problem("backlog-too-old", detail, headers={"Retry-After": str(wait)})
