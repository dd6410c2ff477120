"""The duty that takes jobs back: from workers whose heartbeat stopped, and from claims whose time is over."""

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import orjson
import structlog
from sqlalchemy.orm import Session

from models import lease, moves, queries, worker
from models.database import Database
from models.job import Ref
from models.moves import Ending
from models.states import Move
from workers import metrics
from workers.duties.leadership import LEASE, Leadership

log = structlog.get_logger(__name__)

BATCH = 500
EVERY_SECONDS = 2.0
AT_REST_SECONDS = 30.0
HEARD_OUT = worker.HEARTBEAT_EVERY + timedelta(seconds=2)
"""How long a dispatcher, leader or standby, must have been able to listen before it takes silence for death: while the
database was away nobody could beat, and when it is back all are given the time for it."""

NOT_LET_FINISH = "its worker was to stop, and ended before it had"
OTHERS_RAN = "its worker died while it ran other jobs"
MOST_SPARED = 3
"""So often a job may be with a worker that dies, and not run just then, until that counts as a loss all the same: what
kills its worker otherwise than by its handler, such as a result that takes all memory, would go on without end."""


def lost(cause: str) -> str:
    """The error of a job whose worker is gone, as JSON; `cause` is a clause, such as `its heartbeat stopped`."""
    message = f"The worker died while it ran this job: {cause}."
    return orjson.dumps({"type": "WorkerLost", "message": message, "code": "lost"}).decode()


@dataclass(frozen=True)
class TakenBack:
    """What became of one batch of the jobs of dead workers; whether there may be `more`."""

    interrupted: int = 0
    rescued: int = 0
    stale: int = 0
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.interrupted or self.rescued)

    @property
    def told(self) -> dict[str, int]:
        """The moves that were made, as a log line tells them."""
        return {"interrupted": self.interrupted, "rescued": self.rescued}

    def count(self) -> None:
        """For the metrics, once it is committed."""
        metrics.moves.labels(Move.INTERRUPT).inc(self.interrupted)
        metrics.count(Move.RESCUE, self.rescued + self.stale, self.rescued)


class Rescue:
    """Finds jobs that nobody holds any more.

    With `alone` set every worker is in this process and lives as long as it: a heartbeat that is late then
    only says that a handler holds SQLite's one write lock.
    """

    name = "rescue"

    def __init__(self, database: Database, leadership: Leadership, *, alone: bool = False) -> None:
        self.database = database
        self.leadership = leadership
        self.alone = alone
        self._looked_at = -math.inf

    def run_once(self) -> float:
        """Take back one batch; again at once when there may be more."""
        if not self.leadership.held or not self._is_time(time.monotonic()):
            return EVERY_SECONDS
        taken, expired, released = self.database.run(self._step)
        taken.count()
        metrics.count(Move.RELEASE, expired, released)
        if taken or released:
            # Nobody is woken: for a moment the dispatch still counts on workers that just turned out to be gone.
            log.warning("jobs_taken_back", **taken.told, released=released)
        return 0.0 if taken.more or released == BATCH else EVERY_SECONDS

    def _is_time(self, now: float) -> bool:
        """Where nothing moves there is nothing to take back; the dead are found all the same, only later."""
        if not self.leadership.in_motion and now - self._looked_at < AT_REST_SECONDS:
            return False
        self._looked_at = now
        return True

    def _step(self, session: Session) -> tuple[TakenBack, int, int]:
        taken = TakenBack() if self.alone else self._from_the_dead(session)
        expired = queries.expired_claims(session, BATCH)
        released = moves.release(session, expired) if expired else []
        return taken, len(expired), len(released)

    def _from_the_dead(self, session: Session) -> TakenBack:
        actor = f"dispatcher:{self.leadership.holder}"
        heard_out = self.leadership.listened_seconds >= HEARD_OUT.total_seconds()
        silent = worker.silent(session, BATCH) if heard_out else []
        taken = take_back(session, silent, worker.told_to_stop(session, silent), actor, "its heartbeat stopped")
        if taken:
            return taken
        stopped = worker.stopped_with_jobs(session, BATCH)
        return take_back(session, stopped, worker.told_to_stop(session, stopped), actor, "its worker had stopped")


def take_over(database: Database, actor: str) -> int:
    """Queue whatever an earlier process left in motion; gives how many jobs. Only for a process that is alone.

    Its term as leader ends as well: nothing would be dispatched until it runs out.
    """
    database.run(lambda session: lease.vacate(session, LEASE))
    count, more = 0, True
    while more:
        taken, released = database.run(lambda session: _take_over_once(session, actor))
        taken.count()
        more = bool(taken or released)
        count += taken.interrupted + taken.rescued + released
    return count


def _take_over_once(session: Session, actor: str) -> tuple[TakenBack, int]:
    dead = worker.unstopped(session, BATCH)
    told = worker.told_to_stop(session, dead)
    taken = take_back(session, dead, told, actor, "its process ended without a word")
    return taken, len(moves.release(session, queries.all_dispatched(session, BATCH)))


def take_back(
    session: Session,
    dead: Sequence[UUID],
    told: Sequence[UUID],
    actor: str,
    cause: str,
    *,
    cause_if_told: str = NOT_LET_FINISH,
    ran: Collection[Ref] = (),
) -> TakenBack:
    """Take one batch of jobs from dead workers, and say of workers without any more that they are gone.

    What those ran that were `told` to stop and were not let finish is given back, which costs no attempt and is no
    loss: no job did that. So is what did not run where others `ran`, as far as that is known, MOST_SPARED times: a
    message's jobs are started together. What is to be cancelled is left to the rescue, which cancels it.
    """
    if not dead:
        return TakenBack()
    # Each is read once: a start that is committed meanwhile is seen by the next look, and as what it is.
    of_told = queries.running_of(session, told, BATCH) if told else []
    others = [worker_id for worker_id in dead if worker_id not in told]
    of_others = queries.running_of(session, others, BATCH) if others else []
    endings = [Ending(ref, reason=cause_if_told) for ref in of_told]
    if ran:
        beside = [ref for ref in of_others if ref not in ran]
        endings += [Ending(ref, reason=OTHERS_RAN) for ref in _to_be_spared(session, beside)]
    interrupted = moves.interrupt(session, endings, actor) if endings else []
    gone = {job.id for job in interrupted}
    refs = [ref for ref in of_told + of_others if ref.id not in gone]
    rescued = moves.rescue(session, [Ending(ref, error=lost(cause), reason=cause) for ref in refs], actor)
    full = BATCH in {len(of_told), len(of_others)}
    if not full:
        worker.mark_stopped(session, dead)
    more = full and bool(interrupted or rescued)
    return TakenBack(len(interrupted), len(rescued), stale=len(refs) - len(rescued), more=more)


def _to_be_spared(session: Session, refs: Sequence[Ref]) -> list[Ref]:
    if not refs:
        return []
    often = queries.moved_often(session, [ref.id for ref in refs], Move.INTERRUPT, OTHERS_RAN, MOST_SPARED)
    return [ref for ref in refs if ref.id not in often]
