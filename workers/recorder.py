"""Recording what an attempt came to: the finishing move, fenced by lease, and what to do when its answer is lost."""

from datetime import timedelta

from sqlalchemy.orm import Session

from jobs.attempt import outcome_of
from jobs.outcomes import Failed, Failure, GivenBack, Outcome
from jobs.retry import RetryPolicy, jitter
from models import moves, queries
from models.database import Database
from models.errors import Unavailable
from models.job import Ref
from models.moves import Ending, Started
from models.states import MOVES, Move, State
from workers.decide import Decision, apply, decide
from workers.desk import DatabaseDesk

# A result is worth waiting for: nothing else can be done while the database is away, and once it is back
# the lease decides whether the result still counts.
PATIENCE = timedelta(minutes=2)


class Recorder:
    """Makes the finishing moves of one worker; `actor` is how history names it."""

    def __init__(self, database: Database, actor: str) -> None:
        self.database = database
        self.actor = actor

    def record(self, job: Started, outcome: Outcome, policy: RetryPolicy, desk: DatabaseDesk) -> Move | None:
        """The move that the job made; None when it was no longer this worker's, and nothing changed."""
        decision = decide(outcome, job, policy, jitter())
        if desk.session is not None and decision is not None and decision.move is Move.SUCCEED:
            mishap = self._succeed_together(desk, desk.session, decision)
            if not isinstance(mishap, Failed | GivenBack):
                return mishap
            decision = decide(mishap, job, policy, jitter())
        desk.roll_back()
        return self._make(decision) if decision else None

    def _succeed_together(
        self, desk: DatabaseDesk, session: Session, decision: Decision
    ) -> Move | Failed | GivenBack | None:
        """Commit the handler's own writes and its job's success at once; an outcome says why that went wrong."""
        try:
            if not apply(session, decision, self.actor):
                desk.roll_back()
                return None
            desk.commit()
        except Unavailable:
            return self._after_lost_commit(decision.ending.ref)
        except Exception as error:  # noqa: BLE001 - whatever the handler left in its session fails the attempt
            return Failed(Failure(*_told(outcome_of(error)), code="commit-failed"))
        return Move.SUCCEED

    def _after_lost_commit(self, ref: Ref) -> Move | GivenBack:
        """Look again: the COMMIT may have succeeded while its answer was lost. If not, nobody is to blame."""
        states = self.database.run(lambda session: queries.states_of(session, [ref]), PATIENCE)
        if states.get(ref) is State.SUCCEEDED:
            return Move.SUCCEED
        return GivenBack("the database was lost before the handler's writes were committed")

    def _make(self, decision: Decision) -> Move | None:
        # Success is one statement; every other ending writes history too.
        run = self.database.run_single if decision.move is Move.SUCCEED else self.database.run
        return run(lambda session: self._apply(session, decision), PATIENCE)

    def _apply(self, session: Session, decision: Decision) -> Move | None:
        if apply(session, decision, self.actor):
            return decision.move
        ref = decision.ending.ref
        state = queries.states_of(session, [ref]).get(ref)
        if state is State.RUNNING:
            # Still ours and yet refused: a cancellation came meanwhile, and such a job does not go back.
            ending = Ending(ref, error=decision.ending.error, reason="cancelled between two attempts")
            stopped = moves.stop(session, [ending], self.actor)
            return Move.STOP if stopped else None
        # Same lease, target reached: an earlier try was committed and only its answer was lost.
        return decision.move if state in MOVES[decision.move].targets else None


def _told(outcome: Outcome) -> tuple[str, str]:
    failure = getattr(outcome, "failure", None)
    return (failure.type, failure.message) if failure else (type(outcome).__name__, "")
