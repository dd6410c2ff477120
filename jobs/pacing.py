"""How a redrive goes on: at which pace, how far ahead of its answers, and when it gives up. Decisions only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models.redrive_letters import Sighting, Tally
from models.redrives import Action, Fate, Redrive, RedriveState
from models.states import State

MOST_A_STEP = 500
BURST_SECONDS = 1.0
"""So much of its pace a redrive may catch up on. What a dead worker missed beyond that is not made up."""
TRIAL = 20
"""So many letters are replayed before one has succeeded again."""
MORE_A_SUCCESS = 10
JUDGED_BY = 50
"""The answers that came last. Over all of them, an outage that returned late would take thousands to be noticed."""
SHORTEST_WAIT = 0.2
LONGEST_WAIT = 30.0
SHORTEST_PAUSE, LONGEST_PAUSE = 2.0, 600.0
FOLLOWED_FOR = timedelta(hours=1)
SUCCESS, DEATH = "s", "d"


@dataclass(frozen=True)
class Step:
    """What a redrive does now: handle `take` letters and look again after `wait_seconds`, or end."""

    take: int = 0
    wait_seconds: float = SHORTEST_WAIT
    end: RedriveState | None = None
    reason: str | None = None


def rate_at(redrive: Redrive, active_seconds: float) -> float:
    """Letters a second, once it has been active for so long."""
    if redrive.ramp_seconds <= 0:
        return redrive.rate_per_second
    return redrive.rate_per_second * min(1.0, active_seconds / redrive.ramp_seconds)


def credited(redrive: Redrive, now: datetime) -> Redrive:
    """With the letters that the time since its last step lets it handle."""
    elapsed = (now - redrive.stepped_at).total_seconds() if redrive.stepped_at else 0.0
    counted = max(0.0, min(elapsed, max(BURST_SECONDS, 2 / redrive.rate_per_second)))
    active = redrive.active_seconds + counted
    mean = (rate_at(redrive, redrive.active_seconds) + rate_at(redrive, active)) / 2
    most = max(1.0, redrive.rate_per_second * BURST_SECONDS)
    credit = min(redrive.credit + mean * counted, most)
    return replace(redrive, active_seconds=active, credit=credit, stepped_at=now)


def answered(redrive: Redrive, seen: Sequence[Sighting], whole: int) -> tuple[Redrive, dict[int, Fate]]:
    """With what has become of letters; gives the fates that changed too. Fewer than `whole` are the last of a round."""
    fates = {one.place: _fate(one.fate, one.state, one.attempt) for one in seen}
    changed = {sighting.place: fates[sighting.place] for sighting in seen if fates[sighting.place] != sighting.fate}
    counts = {fate: getattr(redrive, fate) for fate in Fate}
    for sighting in seen:
        counts[sighting.fate] -= 1
        counts[fates[sighting.place]] += 1
    ends = sorted((sighting for sighting in seen if sighting.finished_at), key=lambda one: str(one.finished_at))
    line = "".join(_LETTERS.get(fates[sighting.place], "") for sighting in ends)
    return replace(
        redrive,
        **{str(fate): count for fate, count in counts.items()},
        recent=(redrive.recent + line)[-JUDGED_BY:],
        swept=seen[-1].place if seen and len(seen) == whole else 0,
    ), changed


_LETTERS = {Fate.SUCCEEDED: SUCCESS, Fate.DIED: DEATH}


def recounted(redrive: Redrive, found: Sequence[Tally]) -> Redrive:
    """With what has become of its letters since anybody looked at each."""
    counts = {str(fate): getattr(redrive, fate) for fate in Fate}
    for tally in found:
        counts[tally.fate] -= tally.letters
        counts[_fate(tally.fate, tally.state, tally.attempted)] += tally.letters
    return replace(redrive, **counts)


def _fate(last: Fate, state: State | None, attempt: int | None) -> Fate:
    match state:
        case State.SUCCEEDED:
            return Fate.SUCCEEDED
        case State.DEAD:
            return Fate.DIED
        case State.QUEUED if attempt:
            return Fate.FAILING
        case State.QUEUED | State.DISPATCHED | State.RUNNING:
            return last
        case _:
            return Fate.OTHERWISE


def next_step(redrive: Redrive, now: datetime) -> Step:
    """What a running redrive does now."""
    if (reason := _hopeless(redrive)) is not None:
        return Step(end=RedriveState.ABORTED, reason=reason)
    left = redrive.matched - redrive.handled
    idle = now - (redrive.last_handled_at or now)
    if not left and (not redrive.unanswered or idle > FOLLOWED_FOR):
        return Step(end=RedriveState.SUCCEEDED)
    take = min(math.floor(redrive.credit), left, MOST_A_STEP, _room(redrive))
    if take > 0 or (left and redrive.credit < 1):
        rate = max(rate_at(redrive, redrive.active_seconds), redrive.rate_per_second / 100)
        return Step(take, min(max(SHORTEST_WAIT, (1 - redrive.credit) / rate), LONGEST_WAIT))
    return Step(wait_seconds=_patience(idle))


def afterwards(redrive: Redrive, now: datetime) -> Step:
    """What the job of an aborted redrive does: it hears out the letters that are still to be answered."""
    idle = now - (redrive.last_handled_at or now)
    if not redrive.unanswered or idle > FOLLOWED_FOR:
        return Step(end=RedriveState.ABORTED)
    return Step(wait_seconds=_patience(idle))


def _patience(idle: timedelta) -> float:
    """Seconds until another look for answers: at first they may come at any moment."""
    return min(max(SHORTEST_WAIT, idle.total_seconds() / 4), LONGEST_WAIT)


def _hopeless(redrive: Redrive) -> str | None:
    deaths, answers = redrive.recent.count(DEATH), len(redrive.recent)
    if not _too_many(redrive, deaths, answers):
        return None
    return f"Of the last {answers} letters that were answered, {deaths} died again."


def _room(redrive: Redrive) -> int:
    """How many more letters may be out: few before there are successes, and none while too many fail."""
    if redrive.abort_when_failure_ratio is None or redrive.action is Action.DISCARD:
        return MOST_A_STEP
    failures = redrive.recent.count(DEATH) + redrive.failing
    if _too_many(redrive, failures, len(redrive.recent) + redrive.failing):
        return 0
    out = TRIAL + MORE_A_SUCCESS * redrive.succeeded_again - redrive.died_again
    # One that is to bear nearly as many deaths as there are letters goes on by twenties once some succeed.
    return (max(TRIAL, out) if redrive.succeeded_again else out) - redrive.unanswered


def _too_many(redrive: Redrive, failures: int, answers: int) -> bool:
    ratio = redrive.abort_when_failure_ratio
    # Fewer answers than a trial has are judged as if the rest of it were to succeed.
    return ratio is not None and failures >= max(1, ratio * max(answers, min(TRIAL, redrive.matched)))


def paused(redrive: Redrive, now: datetime) -> Step:
    """Until the next look at a paused redrive. A resume makes its job due, unless that comes while it falls asleep."""
    since = (now - redrive.steered_at).total_seconds() if redrive.steered_at else 0.0
    return Step(wait_seconds=min(max(SHORTEST_PAUSE, since), LONGEST_PAUSE), end=RedriveState.PAUSED)


def taken(redrive: Redrive, fates: Sequence[Fate], now: datetime) -> Redrive:
    """With the letters that just had their turn."""
    moved = sum(fate is not Fate.SKIPPED for fate in fates)
    counts = {str(fate): getattr(redrive, fate) + fates.count(fate) for fate in set(fates)}
    return replace(
        redrive,
        **counts,
        handled=redrive.handled + len(fates),
        credit=redrive.credit - moved,
        last_handled_at=now if fates else redrive.last_handled_at,
    )
