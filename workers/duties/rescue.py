"""The duty that takes jobs back: from workers whose heartbeat stopped, and from claims whose time is over."""

import math
import time
from datetime import timedelta
from uuid import UUID

import orjson
import structlog
from sqlalchemy.orm import Session

from models import lease, moves, queries, worker
from models.database import Database
from models.moves import Ending, Moved
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


def lost(cause: str) -> str:
    """The error of a job whose worker is gone, as JSON; `cause` is a clause, such as `its heartbeat stopped`."""
    message = f"The worker died while it ran this job: {cause}."
    return orjson.dumps({"type": "WorkerLost", "message": message, "code": "lost"}).decode()


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
        """Rescue one batch; again at once when there may be more."""
        if not self.leadership.held or not self._is_time(time.monotonic()):
            return EVERY_SECONDS
        rescued, released = self.database.run(self._step)
        metrics.moves.labels(Move.RESCUE).inc(len(rescued))
        if rescued or released:
            # Nobody is woken: for a moment the dispatch still counts on workers that just turned out to be gone.
            log.warning("jobs_taken_back", rescued=len(rescued), released=len(released))
        return 0.0 if len(rescued) == BATCH or len(released) == BATCH else EVERY_SECONDS

    def _is_time(self, now: float) -> bool:
        """Where nothing moves there is nothing to take back; the dead are found all the same, only later."""
        if not self.leadership.in_motion and now - self._looked_at < AT_REST_SECONDS:
            return False
        self._looked_at = now
        return True

    def _step(self, session: Session) -> tuple[list[Moved], list[Moved]]:
        actor = f"dispatcher:{self.leadership.holder}"
        rescued = [] if self.alone else self._from_the_dead(session, actor)
        expired = queries.expired_claims(session, BATCH)
        released = moves.release(session, expired) if expired else []
        metrics.count(Move.RELEASE, len(expired), len(released))
        return rescued, released

    def _from_the_dead(self, session: Session, actor: str) -> list[Moved]:
        heard_out = self.leadership.listened_seconds >= HEARD_OUT.total_seconds()
        silent = worker.silent(session, BATCH) if heard_out else []
        given_back, more = give_back_from(session, worker.told_to_stop(session, silent), actor, NOT_LET_FINISH)
        if given_back:
            log.warning("jobs_taken_back", interrupted=len(given_back))
        rescued = [] if more else rescue_from(session, silent, actor, "its heartbeat stopped")
        return rescued or rescue_from(
            session, worker.stopped_with_jobs(session, BATCH), actor, "its worker had stopped"
        )


def take_over(database: Database, actor: str) -> int:
    """Queue whatever an earlier process left in motion; gives how many jobs. Only for a process that is alone.

    Its term as leader ends as well: nothing would be dispatched until it runs out.
    """
    database.run(lambda session: lease.vacate(session, LEASE))
    count = 0
    while taken := database.run(lambda session: _take_over_once(session, actor)):
        count += taken
    return count


def _take_over_once(session: Session, actor: str) -> int:
    dead = worker.unstopped(session, BATCH)
    given_back, more = give_back_from(session, worker.told_to_stop(session, dead), actor, NOT_LET_FINISH)
    rescued = [] if more else rescue_from(session, dead, actor, "its process ended without a word")
    return len(given_back) + len(rescued) + len(moves.release(session, queries.all_dispatched(session, BATCH)))


def give_back_from(session: Session, dead: list[UUID], actor: str, cause: str) -> tuple[list[Moved], bool]:
    """Give back one batch of what workers ran that were to stop and were not let finish; and whether there may be more.

    It costs no attempt and is no loss: no job did that. What is to be cancelled is left to a rescue, which cancels it.
    """
    running = queries.running_of(session, dead, BATCH) if dead else []
    given_back = moves.interrupt(session, [Ending(ref, reason=cause) for ref in running], actor) if running else []
    metrics.moves.labels(Move.INTERRUPT).inc(len(given_back))
    return given_back, len(running) == BATCH and bool(given_back)


def rescue_from(session: Session, dead: list[UUID], actor: str, cause: str) -> list[Moved]:
    """Take one batch of jobs from dead workers, and say of workers without any more that they are gone."""
    if not dead:
        return []
    refs = queries.running_of(session, dead, BATCH)
    rescued = moves.rescue(session, [Ending(ref, error=lost(cause), reason=cause) for ref in refs], actor)
    metrics.stale.labels(Move.RESCUE).inc(len(refs) - len(rescued))
    if len(refs) < BATCH:
        worker.mark_stopped(session, dead)
    return rescued
