"""The job type that handles dead letters by the thousand, paced: a redrive."""

import time
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from jobs import redrives
from jobs.context import Context
from jobs.outcomes import Permanent, Snooze
from jobs.pacing import Step
from jobs.registry import job
from jobs.retry import Exponential
from jobs.scopes import Scope
from models import reports
from models.job import Ref
from models.redrives import TYPE, Redrive, RedriveState

SECTION_SECONDS = 10.0
"""For so long it keeps a worker's thread at most; then others have their turn, and a worker may drain."""
LONGEST_NAP = 1.0
UNTIL_CANCELLED = 5.0


class Nothing(BaseModel):
    """No arguments: what is to be done stands in the redrive of the job's id."""

    model_config = ConfigDict(extra="forbid")


class Redriven(BaseModel):
    """How it ended."""

    state: RedriveState
    matched: int
    replayed: int
    discarded: int
    skipped: int


@job(
    TYPE,
    queue=redrives.QUEUE,
    max_attempts=redrives.MOST_ATTEMPTS,
    timeout=timedelta(seconds=redrives.TIMEOUT_SECONDS),
    retry=Exponential(first=timedelta(seconds=1), factor=2, longest=timedelta(seconds=30)),
    internal=Scope.DEAD_LETTERS_WRITE,
    keeps_queue=True,
)
def redrive(_args: Nothing, context: Context) -> Redriven:
    """Replays or discards the dead letters that were pinned for it, at its pace."""
    until = time.monotonic() + SECTION_SECONDS
    while True:
        done, step = _step(context)
        if step.end is RedriveState.PAUSED:
            raise Snooze(timedelta(seconds=step.wait_seconds), "The redrive is paused.")
        if step.end is RedriveState.CANCELLED:
            context.wait(UNTIL_CANCELLED)  # this job's own cancellation is on its way, unless it died meanwhile
        if step.end is not None:
            return _ended(done)
        if step.wait_seconds > LONGEST_NAP or time.monotonic() > until:
            context.desk.run(lambda session: reports.forget_losses(session, Ref(context.job_id, context.lease)))
            raise Snooze(timedelta(seconds=step.wait_seconds), "The redrive goes on.")
        context.wait(step.wait_seconds)


def _step(context: Context) -> tuple[Redrive, Step]:
    ref = Ref(context.job_id, context.lease)
    found = context.desk.run(lambda session: redrives.step(session, ref))
    if found is None:
        raise Permanent("There is no redrive of this job's id.", "no-such-redrive")
    done, _step = found
    context.progress(100 * done.handled / max(1, done.matched), f"{done.handled} of {done.matched} letters")
    return found


def _ended(done: Redrive) -> Redriven:
    return Redriven(
        state=done.state,
        matched=done.matched,
        replayed=done.ever_replayed,
        discarded=done.discarded,
        skipped=done.skipped,
    )
