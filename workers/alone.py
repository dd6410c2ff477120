"""Jobs that one more loss would bury begin only in a process that does nothing else.

So that loss is the job's own doing, and a handler that takes its process down again and again does not take to the
grave who happened to run beside it. Until the others are done such a job waits on its claim, not begun: what ends
the process meanwhile is no loss of its own.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from models import moves, queries, reports
from models.database import Database
from models.job import Ref
from models.moves import Ending, Moved
from models.states import Move
from workers import metrics
from workers.flow import Flow

FIRST_WAIT = timedelta(seconds=2)
"""How long a job waits at first for the others to be done; twice as long each time that was in vain, so that it comes
to run beside any neighbours that end."""
MOST_DOUBLINGS = 10
RESTS_FOR = 10
"""How many times as long it then lets others work: the threads that it has waited idly cost a tenth of the process."""
TAKEN_FOR = timedelta(seconds=4)
"""Where another such job has the process, nobody waited, so the next try costs next to nothing."""
KEEPS_EVERY = timedelta(seconds=2)
KEPT_FOR = timedelta(seconds=60)
TOO_BUSY = "it was lost twice and waits for a process to itself"
TAKEN = "it was lost twice, and another such job had this process to itself"
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Why a job could not have its process to itself, and how long it is to let others work."""

    reason: str
    rest: timedelta


class Alone:
    """Gives a job the process to itself, or puts it off; `actor` is how history names the worker."""

    def __init__(self, database: Database, flow: Flow, worker_id: UUID, actor: str) -> None:
        self.database = database
        self.flow = flow
        self.worker_id = worker_id
        self.actor = actor

    def needed_by(self, refs: Sequence[Ref]) -> list[Ref]:
        """Those of the claims whose jobs begin only alone."""
        return self.database.read(lambda session: queries.lost_often(session, refs)) if refs else []

    @contextmanager
    def process(self, ref: Ref) -> Iterator[Refusal | None]:
        """The process, kept from other messages while the block lasts; or why it is not to be had."""
        with self.flow.reserved() as mine:
            yield self._wait_for_others(ref) if mine else Refusal(TAKEN, TAKEN_FOR)

    def _wait_for_others(self, ref: Ref) -> Refusal | None:
        wait = self.database.read(lambda session: _wait(session, ref))
        until, seconds = time.monotonic() + wait.total_seconds(), 0.0
        while not self.flow.wait_to_be_alone(seconds):
            seconds = min(KEEPS_EVERY.total_seconds(), until - time.monotonic())
            if self.flow.draining or seconds <= 0 or not self._kept(ref):
                return Refusal(TOO_BUSY, wait * RESTS_FOR)
        return None

    def _kept(self, ref: Ref) -> bool:
        return self.database.run_single(lambda session: reports.keep_claim(session, ref, KEPT_FOR))

    def put_off(self, ref: Ref, refusal: Refusal, chance: float) -> None:
        """Queue the job again: due later, with the reason in its history; or due now, if it is this worker that stops.

        `chance` in [0, 1) spreads what was put off together.
        """
        if self.flow.draining:
            released = self.database.run_single(lambda session: moves.release(session, [ref]))
            metrics.count(Move.RELEASE, 1, len(released))
            return
        ending = Ending(ref, delay_seconds=refusal.rest.total_seconds() * (0.75 + chance / 2), reason=refusal.reason)
        snoozed = self.database.run(lambda session: self._snooze(session, ending))
        metrics.count(Move.START, 1, len(snoozed))
        metrics.moves.labels(Move.SNOOZE).inc(len(snoozed))
        for job in snoozed:
            told = {"job_id": str(job.id), "job_type": job.type, "tenant_id": str(job.tenant_id), "lease": job.lease}
            log.info("job_put_off", **told, reason=refusal.reason)

    def _snooze(self, session: Session, ending: Ending) -> list[Moved]:
        """Begun and given back at once: nobody sees it run, so it cannot be lost."""
        moves.start(session, [ending.ref], self.worker_id, alone=True)
        return moves.snooze(session, [ending], self.actor)


def _wait(session: Session, ref: Ref) -> timedelta:
    """How long the job's patience is: as long as it takes to outlast its neighbours, found by doubling."""
    before = queries.moves_because(session, ref.id, Move.SNOOZE, TOO_BUSY)
    return FIRST_WAIT * (1 << min(before, MOST_DOUBLINGS))
