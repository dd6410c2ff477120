"""What a parent writes of its children: their heartbeats, and what becomes of the jobs of those that died.

One thread does both, one after the other, so that no heartbeat can raise the dead. While the database is away it
keeps what it has to tell, and tries again for as long as the parent lives.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from jobs.outcomes import Failed, Failure
from jobs.retry import Exponential, jitter
from models import queries, worker
from models.database import Database
from models.doorbell import Doorbell
from models.errors import Unavailable
from models.job import Ref
from models.moves import Moved
from models.states import Move, State
from workers import metrics
from workers.decide import apply, decide
from workers.duties.rescue import take_back

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 0.5

_OVERDUE = Failed(
    Failure("TimedOut", "The handler did not yield to the job's timeout_seconds; its process was killed.", "timed-out")
)


@dataclass(frozen=True)
class Living:
    """A child that lives, and whether it consumes."""

    worker_id: UUID
    pid: int
    consuming: bool


@dataclass(frozen=True)
class Gone:
    """A child that died, of what (a clause), which of its jobs had outrun their time limit, and whose handlers ran.

    `asked` says that it ended, or was killed, because it was told to stop, which is no fault of what it ran.
    """

    worker_id: UUID
    cause: str
    overdue: tuple[Ref, ...] = ()
    running: frozenset[Ref] = frozenset()
    asked: bool = False


class Registrar:
    """Keeps the rows of one parent's children; `register` makes one again that was pruned."""

    def __init__(
        self, database: Database, actor: str, doorbell: Doorbell, register: Callable[[Session, Living], None]
    ) -> None:
        self.database = database
        self.actor = actor
        self.doorbell = doorbell
        self.register = register
        self._living: tuple[Living, ...] = ()
        self._written: frozenset[Living] = frozenset()
        self._gone: deque[Gone] = deque()
        self._beat_due = 0.0
        self._away = False
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registrar", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Write what is still to be told of the dead, for at most `timeout` seconds; the dispatcher finds the rest."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout)

    def living(self, children: Sequence[Living]) -> None:
        """These children live. What changed is written at once, the rest with the next heartbeat."""
        self._living = tuple(children)
        if not self._written.issuperset(self._living):
            self._wake.set()

    def gone(self, child: Gone) -> None:
        """This child died. Call `living` without it first."""
        self._gone.append(child)
        self._wake.set()

    def _run(self) -> None:
        while self._gone or not self._stopping.is_set():
            self._wake.wait(max(0.0, self._beat_due - time.monotonic()))
            self._wake.clear()
            if not self.run_once(time.monotonic()):
                time.sleep(AGAIN_SECONDS)
                self._wake.set()

    def run_once(self, now: float) -> bool:
        """Tell of the dead, then of the living; False when some of it must be told again."""
        # Each for itself: what cannot be written of a dead child must not cost the living their heartbeats.
        return all([self._attempt(self._bury), self._attempt(lambda: self._beat(now))])

    def _attempt(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except Unavailable:
            if not self._away:
                log.warning("parent_without_database", dead=len(self._gone))
            self._away = True
            return False
        except Exception:
            log.exception("parent_could_not_write")
            return False
        self._away = False
        return True

    def _bury(self) -> None:
        while self._gone:
            self._end(self._gone[0])
            self._gone.popleft()

    def _beat(self, now: float) -> None:
        """Write the heartbeats if it is time, or if there is news."""
        living = self._living
        if now < self._beat_due and self._written.issuperset(living):
            return
        if living:
            with self.database.heart() as session:
                for child in living:
                    if not worker.beat(session, child.worker_id, consuming=child.consuming):
                        self.register(session, child)
        self._written = frozenset(living)
        self._beat_due = now + worker.HEARTBEAT_EVERY.total_seconds()

    def _end(self, gone: Gone) -> None:
        more = True
        while more:
            with self.database.transaction() as session:
                failed = self._fail(session, gone)
                dead = [gone.worker_id]
                if gone.asked:  # it may not have said so, and a start of its own may still be on its way
                    worker.mark_draining(session, gone.worker_id)
                taken = take_back(
                    session,
                    dead,
                    dead if gone.asked else [],
                    self.actor,
                    gone.cause,
                    cause_if_told=gone.cause,
                    ran=gone.running,
                )
            taken.count()
            for one in failed:
                metrics.moves.labels(Move.BURY if one.state is State.DEAD else Move.RETRY).inc()
            more = taken.more
            if failed or taken:
                self.doorbell.ring()
                log.warning("jobs_taken_back", worker_id=str(gone.worker_id), **taken.told, failed=len(failed))

    def _fail(self, session: Session, gone: Gone) -> list[Moved]:
        """End the attempts that outran their time limit as such an attempt ends: it counts, and is not a loss.

        The waits are the default ones, since the parent has not loaded the job types. One that is to be cancelled
        is left to the rescue, which does that.
        """
        failed: list[Moved] = []
        for job in queries.started_by(session, gone.overdue, gone.worker_id) if gone.overdue else ():
            decision = decide(_OVERDUE, job, Exponential(), jitter())
            failed += apply(session, decision, self.actor) if decision else []
        return failed
