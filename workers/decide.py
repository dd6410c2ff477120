"""From what an attempt came to, the move its job makes: a pure function, and the table that applies it."""

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple, assert_never

import orjson
from sqlalchemy.orm import Session

from jobs.outcomes import (
    Abandoned,
    Failed,
    FailedForGood,
    Failure,
    GivenBack,
    Outcome,
    Snoozed,
    Stopped,
    Succeeded,
)
from jobs.retry import LONGEST_DELAY, Exponential, RetryPolicy
from models import moves
from models.moves import Ending, Moved, Started
from models.states import Move


class Decision(NamedTuple):
    """A move, and what it needs to know."""

    move: Move
    ending: Ending


def decide(outcome: Outcome, job: Started, policy: RetryPolicy, chance: float) -> Decision | None:
    """The move that follows from an outcome; None when another worker holds the job.

    `chance` in [0, 1) gives the jitter of a retry's delay.
    """
    decision: Decision | None = None
    match outcome:
        case Succeeded(result, percent, message):
            ending = Ending(job.ref, result=result.decode(), percent=percent, message=message)
            decision = Decision(Move.SUCCEED, ending)
        case Failed(failure, after):
            decision = _after_failure(failure, after, job, policy, chance)
        case FailedForGood(failure):
            decision = Decision(Move.BURY, Ending(job.ref, error=as_json(failure), reason="permanent error"))
        case Snoozed(after, reason):
            decision = Decision(Move.SNOOZE, Ending(job.ref, delay_seconds=after.total_seconds(), reason=reason))
        case Stopped():
            decision = Decision(Move.STOP, Ending(job.ref, reason="the handler stopped as asked"))
        case GivenBack(reason):
            decision = Decision(Move.INTERRUPT, Ending(job.ref, reason=reason))
        case Abandoned():
            pass
        case _:
            assert_never(outcome)
    return decision


def _after_failure(
    failure: Failure, after: timedelta | None, job: Started, policy: RetryPolicy, chance: float
) -> Decision:
    if job.attempt >= job.max_attempts:
        return Decision(Move.BURY, Ending(job.ref, error=as_json(failure), reason="attempts exhausted"))
    wait = _policy_delay(policy, job.attempt, chance) if after is None else after
    return Decision(Move.RETRY, Ending(job.ref, error=as_json(failure), delay_seconds=wait.total_seconds()))


def _policy_delay(policy: RetryPolicy, attempt: int, chance: float) -> timedelta:
    """The policy's wait, bounded; a policy of the user's own that fails must not cost the record of the attempt."""
    try:
        return min(max(policy.delay(attempt, chance), timedelta(0)), LONGEST_DELAY)
    except Exception:  # noqa: BLE001
        return Exponential().delay(attempt, chance)


def as_json(failure: Failure) -> str:
    """A failure as the rows and the API keep it."""
    kept = {"type": failure.type, "message": failure.message, "code": failure.code}
    besides = {"place": failure.place, "trace": failure.trace}
    return orjson.dumps(kept | {name: told for name, told in besides.items() if told}).decode()


def apply(session: Session, decision: Decision, actor: str) -> list[Moved]:
    """Make the move, any but a success; empty when the job was no longer this worker's."""
    return _BY_WORKER[decision.move](session, [decision.ending], actor)


_BY_WORKER: dict[Move, Callable[[Session, list[Ending], str], list[Moved]]] = {
    Move.RETRY: moves.retry,
    Move.SNOOZE: moves.snooze,
    Move.INTERRUPT: moves.interrupt,
    Move.BURY: moves.bury,
    Move.STOP: moves.stop,
}
