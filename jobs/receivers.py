"""How receivers of webhooks are doing, and what follows: pure decisions over a gate and what came of an attempt."""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from models.gate import Gate

CLOSES_AFTER = 5
"""So many attempts in a row without an answer, and its deliveries are held back."""
FIRST_HOLD = timedelta(seconds=5)
LONGEST_HOLD = timedelta(minutes=5)
GIVEN_UP_AFTER = timedelta(days=5)
FORGOTTEN_AFTER = timedelta(days=2)
"""Two failures are of one trouble if no more time lies between them: one delivery waits for up to a day."""


class Sign(StrEnum):
    """What an attempt tells of a receiver."""

    SUCCESS = "success"
    FAILURE = "failure"
    """It answered, but not with success."""
    SILENCE = "silence"
    """It gave no answer in time, or could not be reached."""


def after(gate: Gate, sign: Sign) -> Gate:
    """The gate after an attempt that gave this sign of its receiver."""
    if sign is Sign.SUCCESS:
        return replace(gate, unanswered=0, closed_until=None, failing_since=None)
    still_failing = gate.failing_since is not None and gate.now - gate.used_at < FORGOTTEN_AFTER
    failing_since = gate.failing_since if still_failing else gate.now
    if sign is Sign.FAILURE:
        return replace(gate, unanswered=0, closed_until=None, failing_since=failing_since)
    unanswered = gate.unanswered + 1
    return replace(
        gate, unanswered=unanswered, closed_until=_held_until(unanswered, gate.now), failing_since=failing_since
    )


def given_up(gate: Gate) -> bool:
    """Whether nothing but failures has come of it for so long that nobody is there any more."""
    return gate.failing_since is not None and gate.now - gate.failing_since >= GIVEN_UP_AFTER


def _held_until(unanswered: int, now: datetime) -> datetime | None:
    """Until when its deliveries wait; then one is tried, and the next wait is twice as long if that was in vain."""
    beyond = unanswered - CLOSES_AFTER
    if beyond < 0:
        return None
    return now + min(FIRST_HOLD * (1 << min(beyond, 10)), LONGEST_HOLD)
