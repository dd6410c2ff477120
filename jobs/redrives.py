"""Redrives as operators start and steer them, and the one step by which their job goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from jobs import pacing
from jobs.outcomes import LeaseLost
from jobs.pacing import Step
from jobs.scopes import Principal
from models import audit, identity, moves, queries, redrive_letters, redrives
from models.audit import Entry
from models.crashpoints import crashpoint
from models.dead_groups import Group, groups_among
from models.dead_letters import DeadFilter, count_dead, list_dead
from models.ids import new_id
from models.job import Job, NewJob, Ref
from models.redrive_letters import Pinned
from models.redrives import OPEN, TYPE, Action, Fate, NewRedrive, Redrive, RedriveState, Seen
from models.states import State

QUEUE = "redrives"
"""Every worker serves it, whatever its queues are: a redrive works for moments only."""
PRIORITY = 100
MOST_LETTERS = 100_000
MOST_ATTEMPTS = 100
TIMEOUT_SECONDS = 120
MOST_GROUPS = 20
MOST_SAMPLES = 5
LOOKED_AT = 2_000


class NoSuchRedrive(LookupError):  # noqa: N818
    """There is no redrive of that id, or it is another tenant's, which is the same to whoever asks."""


class TooManyLetters(Exception):  # noqa: N818
    """More letters match than one redrive takes; nothing was done."""

    def __init__(self, matched: int) -> None:
        super().__init__(
            f"{matched} dead letters match, and a redrive takes {MOST_LETTERS}. Narrow the filter, by died_before say."
        )


class Ended(Exception):  # noqa: N818
    """The redrive is in no state from which it could be steered so."""

    def __init__(self, state: RedriveState, wanted: str) -> None:
        super().__init__(f"The redrive is {state} and cannot be {wanted}.")


@dataclass(frozen=True)
class Asked:
    """A redrive as it was asked for; `filter` is `wanted` in the words of the request."""

    action: Action
    wanted: DeadFilter
    filter: Mapping[str, Any]
    rate_per_second: float
    ramp_seconds: float
    abort_when_failure_ratio: float | None
    priority: int | None


@dataclass(frozen=True)
class Preview:
    """What a redrive would do: how many letters match, their largest groups, and those that died first."""

    matched: int
    groups: list[Group]
    samples: list[Job]


def preview(session: Session, wanted: DeadFilter) -> Preview:
    """What the filter matches now; changes nothing."""
    oldest = list_dead(session, replace(wanted, oldest_first=True), None, MOST_SAMPLES)
    samples = [job for job in oldest.jobs if wanted.type or wanted.group or job.type != TYPE]
    return Preview(count_dead(session, wanted), groups_among(session, wanted, MOST_GROUPS), samples)


def start(session: Session, principal: Principal, asked: Asked, redrive_id: UUID) -> Seen:
    """Pin the letters that match now, and record the job that will handle them. Raises TooManyLetters.

    May be called again with the same id after an unknown outcome.
    """
    known = redrives.find(session, redrive_id, principal.tenant_id)
    if known is not None:
        return known
    moves.record(session, [_job(redrive_id, principal.tenant_id or identity.own_tenant(session))])
    told = {name: value for name, value in vars(asked).items() if name != "wanted"}
    redrives.add(session, NewRedrive(redrive_id, principal.tenant_id, **told, created_by=principal.actor))
    matched = redrive_letters.pin(session, redrive_id, asked.wanted, MOST_LETTERS + 1)
    if matched > MOST_LETTERS:
        raise TooManyLetters(count_dead(session, asked.wanted))
    redrives.pinned(session, redrive_id, matched)
    return find(session, principal, redrive_id)


def _job(redrive_id: UUID, tenant_id: UUID) -> NewJob:
    return NewJob(
        id=redrive_id,
        tenant_id=tenant_id,
        type=TYPE,
        queue=QUEUE,
        args={},
        priority=PRIORITY,
        max_attempts=MOST_ATTEMPTS,
        timeout_seconds=TIMEOUT_SECONDS,
        tags={},
    )


def find(session: Session, principal: Principal, redrive_id: UUID) -> Seen:
    """The redrive, or NoSuchRedrive."""
    seen = redrives.find(session, redrive_id, principal.tenant_id)
    if seen is None:
        raise NoSuchRedrive(f"There is no redrive {redrive_id}.")
    return seen


def state_of(seen: Seen) -> tuple[RedriveState, str | None]:
    """Where a redrive is, and why: one whose job was ended by other hands goes on no more."""
    state, reason = seen.redrive.state, seen.redrive.reason
    if state in OPEN and seen.job_state is State.CANCELLED:
        return RedriveState.CANCELLED, "Its job was cancelled."
    if state in OPEN and seen.job_state is State.DEAD:
        return RedriveState.ABORTED, "Its job died. Replay that dead letter, and the redrive goes on."
    if state in OPEN and seen.job_state is State.DISCARDED:
        return RedriveState.ABORTED, "Its job died and was discarded."
    return state, reason


def pause(session: Session, principal: Principal, redrive_id: UUID) -> Seen:
    """Have it handle no further letter until it is resumed. Raises NoSuchRedrive, Ended."""
    return _steered(session, principal, redrive_id, RedriveState.PAUSED)


def resume(session: Session, principal: Principal, redrive_id: UUID) -> Seen:
    """Have it go on at its pace. Raises NoSuchRedrive, Ended."""
    seen = _steered(session, principal, redrive_id, RedriveState.RUNNING)
    moves.run_now(session, [redrive_id], principal.actor)
    return seen


def cancel(session: Session, principal: Principal, redrive_id: UUID) -> Seen:
    """Have it handle no further letter at all; those that were replayed stay so. Raises NoSuchRedrive, Ended."""
    _steered(session, principal, redrive_id, RedriveState.CANCELLED)
    moves.cancel(session, [redrive_id], principal.actor)
    return find(session, principal, redrive_id)


def _steered(session: Session, principal: Principal, redrive_id: UUID, target: RedriveState) -> Seen:
    """The redrive in that state, where it may have been before; one whose job died can be cancelled too."""
    seen = find(session, principal, redrive_id)
    state, _ = state_of(seen)
    open_ = state in OPEN or (target is RedriveState.CANCELLED and seen.redrive.state in OPEN)
    if state is not target and not (open_ and redrives.steer(session, redrive_id, OPEN, target)):
        raise Ended(state, _DONE[target])
    return find(session, principal, redrive_id)


_DONE = {RedriveState.PAUSED: "paused", RedriveState.RUNNING: "resumed", RedriveState.CANCELLED: "cancelled"}


def step(session: Session, ref: Ref) -> tuple[Redrive, Step] | None:
    """Do what a redrive does next, for its job under that lease; None: there is no such redrive. Raises LeaseLost."""
    seen = redrives.take_hold(session, ref.id)
    if seen is None:
        return None
    if queries.states_of(session, [ref]).get(ref) is not State.RUNNING:
        raise LeaseLost
    if seen.redrive.state is RedriveState.PAUSED:
        redrive = _heard(session, seen.redrive)
        redrives.keep(session, redrive)
        return redrive, pacing.paused(redrive, seen.now)
    if seen.redrive.state is RedriveState.ABORTED:
        redrive = _heard(session, seen.redrive)
        redrives.keep(session, redrive)
        return redrive, pacing.afterwards(redrive, seen.now)
    if seen.redrive.state is not RedriveState.RUNNING:
        return seen.redrive, Step(end=seen.redrive.state)
    redrive = _heard(session, pacing.credited(seen.redrive, seen.now))
    following = pacing.next_step(redrive, seen.now)
    if following.take:
        letters = redrive_letters.following(session, redrive.id, redrive.handled, following.take)
        redrive = pacing.taken(redrive, _handle(session, redrive, letters), seen.now)
    if following.end is not None:
        redrive = replace(redrive, state=following.end, reason=following.reason, finished_at=seen.now)
        audit.add(session, _ended(redrive))
    redrives.keep(session, redrive)
    if following.take:
        crashpoint("redrive.before_commit")
    return redrive, pacing.afterwards(redrive, seen.now) if redrive.state is RedriveState.ABORTED else following


def _heard(session: Session, redrive: Redrive) -> Redrive:
    """With what became of letters that were replayed, some thousands a step."""
    if not redrive.unanswered:
        return redrive
    sightings = redrive_letters.sightings(session, redrive.id, redrive.swept, LOOKED_AT)
    if not sightings and redrive.swept:
        return replace(redrive, swept=0)
    redrive, fates = pacing.answered(redrive, sightings, LOOKED_AT)
    redrive_letters.settle(session, redrive.id, fates)
    return redrive


def _handle(session: Session, redrive: Redrive, letters: list[Pinned]) -> list[Fate]:
    """Replay or discard letters; gives what became of each. Those that somebody else has handled are skipped."""
    refs, reason = [letter.ref for letter in letters], f"redrive {redrive.id}"
    if redrive.action is Action.REPLAY:
        moved = moves.redrive(session, refs, redrive.created_by, reason, priority=redrive.priority)
    else:
        moved = moves.discard(session, refs, redrive.created_by, reason)
    done = Fate.REPLAYED if redrive.action is Action.REPLAY else Fate.DISCARDED
    ids = {job.id for job in moved}
    fates = [done if letter.ref.id in ids else Fate.SKIPPED for letter in letters]
    places = (letter.place for letter in letters)
    redrive_letters.settle(session, redrive.id, dict(zip(places, fates, strict=True)))
    return fates


def _ended(redrive: Redrive) -> Entry:
    detail = {"state": redrive.state, "reason": redrive.reason, **figures(redrive)}
    actor, place = f"job:{redrive.id}", str(redrive.id)
    return Entry(new_id(), redrive.tenant_id, actor, "end_redrive", "redrives", place, None, None, detail)


def up_to_date(session: Session, seen: Seen) -> Redrive:
    """With what became of its letters while no step heard of them: it is paused, or has ended."""
    redrive = seen.redrive
    if state_of(seen)[0] is RedriveState.RUNNING or not redrive.unanswered:
        return redrive
    return pacing.recounted(redrive, redrive_letters.tallies(session, redrive.id))


def figures(redrive: Redrive) -> dict[str, int]:
    """What it has done so far; `waiting` are letters whose turn has not come, `unanswered` those that are not final."""
    return {
        "matched": redrive.matched,
        "replayed": redrive.ever_replayed,
        "succeeded_again": redrive.succeeded_again,
        "died_again": redrive.died_again,
        "ended_otherwise": redrive.ended_otherwise,
        "unanswered": redrive.unanswered,
        "failing": redrive.failing,
        "discarded": redrive.discarded,
        "skipped": redrive.skipped,
        "waiting": redrive.matched - redrive.handled,
    }
