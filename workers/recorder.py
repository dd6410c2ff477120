"""Recording what an attempt came to: the finishing move, fenced by lease, and what to do when its answer is lost.

Successes are most of what happens, so they are recorded many at once: what all threads finished since the last
statement goes into the next. Every other ending writes history, and is recorded by itself.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy.orm import Session

from jobs.attempt import outcome_of
from jobs.outcomes import Failed, Failure, GivenBack, Outcome
from jobs.retry import RetryPolicy, jitter
from models import moves, queries
from models.crashpoints import crashpoint
from models.database import AS_LONG_AS_IT_TAKES, Database
from models.engines import give_in_soon
from models.errors import OF_ONE, Unavailable, is_transient
from models.job import Ref
from models.metrics import lost_answers
from models.moves import Ending, Started
from models.states import Move, State
from workers import metrics
from workers.decide import Decision, apply, decide
from workers.desk import DatabaseDesk

PATIENCE = AS_LONG_AS_IT_TAKES
"""A result is worth waiting for: while the database is away nobody can take its job's lease either, and once it is
back the lease decides whether the result still counts. A thread that waits takes no other job, which bounds what is
held; a worker that stops goes without its results when its grace is over, and their jobs are done again."""
MOST_AT_ONCE = 500
MOST_LOST_COMMITS = 3
LOST_COMMIT = "the database was lost before the handler's writes were committed"
HELD_AGAIN_SECONDS = 0.5
"""So long what somebody holds is left alone between two tries, each of which keeps the other results waiting."""
HELD_SECONDS = 0.05
"""So long at most a success waits for others to be recorded with it, while its thread goes on with the next job."""


@dataclass
class Ticket:
    """A job whose ending is being recorded. Once `settled`, `move` is what it made: None if it was stale."""

    job: Started
    move: Move | None = None
    mishap: Exception | None = None
    settled: bool = False
    since: float = field(default_factory=time.monotonic)

    def settle(self, move: Move | None = None, mishap: Exception | None = None) -> "Ticket":
        """Say what came of it."""
        self.move, self.mishap, self.settled = move, mishap, True
        return self


class Recorder:
    """Makes the finishing moves of one worker; `actor` is how history names it, `ring` says that there is work."""

    def __init__(self, database: Database, actor: str, ring: Callable[[], None]) -> None:
        self.database = database
        self.actor = actor
        self.ring = ring
        self._successes: deque[tuple[Ticket, Ending]] = deque()
        self._held: deque[tuple[Ticket, Ending]] = deque()
        """Those whose row somebody held, each to be tried alone, from `_held_until` on."""
        self._held_until = 0.0
        self._recording = threading.Lock()

    def record(self, job: Started, outcome: Outcome, policy: RetryPolicy, desk: DatabaseDesk) -> Ticket:
        """Make the move that follows from an outcome. A success may still be open then: see `settle`."""
        ticket = Ticket(job)
        decision = decide(outcome, job, policy, jitter())
        if desk.session is not None and decision is not None and decision.move is Move.SUCCEED:
            mishap = self._succeed_together(desk, desk.session, decision)
            if not isinstance(mishap, Failed | GivenBack):
                return ticket.settle(mishap)
            decision = decide(mishap, job, policy, jitter())
        desk.roll_back()
        if decision is not None and decision.move is Move.SUCCEED:
            self._successes.append((ticket, decision.ending))
            return ticket
        return ticket.settle(self._make(decision) if decision else None)

    def settle(self, tickets: Sequence[Ticket]) -> None:
        """Return when all of them are settled, by this thread or another."""
        while not _all_settled(tickets):
            with self._recording:
                if not _all_settled(tickets):  # or another thread was at it meanwhile
                    self._record_some(PATIENCE)
            if not (self._successes or _all_settled(tickets)):  # what is open is held: wait where nobody waits for us
                time.sleep(max(0.0, self._held_until - time.monotonic()))

    def hurry(self) -> None:
        """Record what has waited too long for its message to end, unless another thread is at it."""
        if not self._is_late() or not self._recording.acquire(blocking=False):
            return
        try:
            self._record_some(timedelta(0))
        finally:
            self._recording.release()

    def _is_late(self) -> bool:
        now = time.monotonic()
        if self._held and now >= self._held_until:
            return True
        try:
            return now - self._successes[0][0].since > HELD_SECONDS
        except IndexError:
            return False

    def _record_some(self, patience: timedelta) -> None:
        """Record what there is, as one set, and then one whose row somebody held, if it is time for that.

        Only under the lock, so that an open ticket is either here or waits.
        """
        self._record_set([self._successes.popleft() for _ in range(min(len(self._successes), MOST_AT_ONCE))], patience)
        if self._held and time.monotonic() >= self._held_until:
            self._record_set([self._held.popleft()], patience)

    def _record_set(self, some: Sequence[tuple[Ticket, Ending]], patience: timedelta) -> None:
        try:
            self._succeed(some, patience)
        except Exception as error:  # noqa: BLE001 - one result that the database refuses must not cost the others theirs
            left = _open(some)
            if len(left) == 1 or (isinstance(error, Unavailable) and error.trouble not in OF_ONE):
                self._give_up(left, error, patience)
            else:
                self._one_by_one(left, patience)

    def _one_by_one(self, some: Sequence[tuple[Ticket, Ending]], patience: timedelta) -> None:
        for number, one in enumerate(some):
            try:
                self._succeed([one], patience)
            except Exception as error:  # noqa: BLE001
                if isinstance(error, Unavailable) and error.trouble not in OF_ONE:
                    return self._give_up(some[number:], error, patience)
                self._give_up([one], error, patience)
        return None

    def _give_up(self, some: Sequence[tuple[Ticket, Ending]], error: Exception, patience: timedelta) -> None:
        """What was not recorded is tried alone from now on where somebody holds its row, or waits, or fails."""
        if isinstance(error, Unavailable) and error.trouble in OF_ONE:
            self._held.extend(some)
            self._held_until = time.monotonic() + HELD_AGAIN_SECONDS
        elif isinstance(error, Unavailable) and not patience:
            self._successes.extendleft(reversed(some))
        else:
            _fail(some, error)

    def _succeed(self, some: Sequence[tuple[Ticket, Ending]], patience: timedelta) -> None:
        """First the many of which nobody is told, by one statement, then the others."""
        if not some:
            return
        with _held(len(some)):
            endings = [ending for _, ending in some]
            quiet = self.database.run_together(
                lambda session: moves.succeed_unheard(session, endings), patience, unless=OF_ONE
            )
            _settle(some, set(quiet))
            rest = _open(some)
            if not rest:
                return
            others = [ending for _, ending in rest]
            succeeded, told = self.database.run(lambda session: _succeeded(session, others), patience, unless=OF_ONE)
            if told:
                self.ring()
            _settle(rest, succeeded)
            for ticket, _ in _open(rest):
                ticket.settle()

    def _succeed_together(
        self, desk: DatabaseDesk, session: Session, decision: Decision
    ) -> Move | Failed | GivenBack | None:
        """Commit the handler's own writes and its job's success at once; an outcome says why that went wrong."""
        try:
            moved = moves.succeed(session, [decision.ending])
            if not moved:
                desk.roll_back()
                return None
            crashpoint("worker.in_commit")
            desk.commit()
        except Exception as error:  # noqa: BLE001 - whatever the handler left in its session fails the attempt
            desk.roll_back()
            failed = Failed(Failure(*_told(outcome_of(error)), code="commit-failed"))
            passes = isinstance(error, Unavailable) or is_transient(error)
            return self._after_lost_commit(decision.ending.ref, failed) if passes else failed
        if moved[0].told:
            self.ring()
        return Move.SUCCEED

    def _after_lost_commit(self, ref: Ref, failed: Failed) -> Move | Failed | GivenBack:
        """Look again: the COMMIT may have succeeded while its answer was lost. If not, nobody is to blame.

        Unless it comes to that again and again: the server ends a session that is idle for a minute in its transaction.
        """
        states, before = self.database.read(
            lambda session: (
                queries.states_of(session, [ref]),
                queries.moves_because(session, ref.id, Move.INTERRUPT, LOST_COMMIT),
            ),
            PATIENCE,
        )
        if states.get(ref) is State.SUCCEEDED:
            lost_answers.labels(Move.SUCCEED).inc()
            return Move.SUCCEED
        return GivenBack(LOST_COMMIT) if before < MOST_LOST_COMMITS else failed

    def _make(self, decision: Decision) -> Move | None:
        with _held(1):
            return self.database.run(lambda session: self._apply(session, decision), PATIENCE)

    def _apply(self, session: Session, decision: Decision) -> Move | None:
        if apply(session, decision, self.actor):
            return decision.move
        ref = decision.ending.ref
        if queries.states_of(session, [ref]).get(ref) is State.RUNNING:
            # Still ours and yet refused: a cancellation came meanwhile, and such a job does not go back.
            ending = Ending(ref, error=decision.ending.error, reason="cancelled between two attempts")
            stopped = moves.stop(session, [ending], self.actor)
            return Move.STOP if stopped else None
        # An earlier try may have been committed and only its answer was lost. The state does not tell: a rescue
        # takes a job to where we would have. But whatever we did is in its history, under our name.
        done = queries.ended_by(session, ref, self.actor)
        if done is not None:
            lost_answers.labels(done).inc()
        return done


@contextmanager
def _held(results: int) -> Iterator[None]:
    """So many results wait to be recorded while the block lasts."""
    metrics.results_held.inc(results)
    try:
        yield
    finally:
        metrics.results_held.dec(results)


def _succeeded(session: Session, endings: Sequence[Ending]) -> tuple[set[Ref], bool]:
    """Which of the jobs are succeeded under their lease, by this statement or by one whose answer was lost.

    And whether somebody is, or may be, to be told of it.
    """
    give_in_soon(session)
    succeeded = moves.succeed(session, endings)
    moved = {job.ref for job in succeeded}
    missing = [ending.ref for ending in endings if ending.ref not in moved]
    states = queries.states_of(session, missing) if missing else {}
    before = {ref for ref, state in states.items() if state is State.SUCCEEDED}
    lost_answers.labels(Move.SUCCEED).inc(len(before))
    return moved | before, bool(before) or any(job.told for job in succeeded)


def _all_settled(tickets: Sequence[Ticket]) -> bool:
    return all(ticket.settled for ticket in tickets)


def _open(some: Sequence[tuple[Ticket, Ending]]) -> list[tuple[Ticket, Ending]]:
    """Those of which it is not known yet what came of them."""
    return [(ticket, ending) for ticket, ending in some if not ticket.settled]


def _settle(some: Sequence[tuple[Ticket, Ending]], succeeded: Collection[Ref]) -> None:
    for ticket, ending in some:
        if ending.ref in succeeded:
            ticket.settle(Move.SUCCEED)


def _fail(some: Sequence[tuple[Ticket, Ending]], error: Exception) -> None:
    for ticket, _ in some:
        ticket.settle(mishap=error)


def _told(outcome: Outcome) -> tuple[str, str]:
    failure = getattr(outcome, "failure", None)
    return (failure.type, failure.message) if failure else (type(outcome).__name__, "")
