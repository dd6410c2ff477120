"""What an operator may do with a dead letter: see why it died, give it other arguments, replay it, discard it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.orm import Session

from jobs import operate, submit
from jobs.outcomes import Json
from jobs.registry import Registry
from jobs.scopes import Principal
from jobs.submission import pointer
from jobs.submit import NotUnique, TooBusy
from models import moves, queries
from models.job import Job, Ref
from models.moves import Moved
from models.states import Move, State

MOST_CHANGES = 50
MOST_TOLD = 200
"""Characters of a value, as JSON, that the audit log is told of a change."""
_MOST_REASON = 500
_GROUP = re.compile(r"(.+):([0-9a-f]{16})")


class NotDead(Exception):  # noqa: N818
    """The job is no dead letter, or none any more."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"The job is {job.state}, and no dead letter.")
        self.job = job


class Changed(Exception):  # noqa: N818
    """Somebody else changed the dead letter since it was looked at; nothing was done."""

    def __init__(self) -> None:
        super().__init__("Somebody else edited, replayed or discarded it at the same time. Look at it again.")


def group_of(job_type: str, fingerprint: str) -> str:
    """The name of a group, as `csv.profile:9f86d081884c7d65`."""
    return f"{job_type}:{fingerprint}"


def parts_of(group: str) -> tuple[str, str]:
    """Type and fingerprint of a group. Raises ValueError."""
    parts = _GROUP.fullmatch(group)
    if parts is None:
        raise ValueError("a group is named as csv.profile:9f86d081884c7d65")
    return parts[1], parts[2]


def find(session: Session, principal: Principal, job_id: UUID, *, without: frozenset[str] = frozenset()) -> Job:
    """The dead letter, `without` some of its documents. Raises NoSuchJob also for a job that is not dead."""
    job = operate.find(session, principal, job_id, without=without)
    if job.state is not State.DEAD:
        raise operate.NoSuchJob(f"There is no dead letter {job_id}; the job is {job.state}.")
    return job


def replay(session: Session, principal: Principal, job_id: UUID, *, again: bool = False) -> tuple[Job, bool]:
    """Queue it with fresh attempts; gives the job as it is then, and whether this did it.

    Raises NoSuchJob, NotDead, and NotUnique if another job holds its unique key. With `again`, an earlier try may have
    been committed and only its answer lost: what it did is then as asked.
    """
    job, moved = _moved(session, principal, job_id, Move.REDRIVE, moves.redrive, again=again)
    if job.state is State.DEAD:
        raise _held_back(session, job)
    return job, moved


def discard(session: Session, principal: Principal, job_id: UUID, *, again: bool = False) -> Job:
    """Give it up for good; gives the job as it is then. Raises NoSuchJob, NotDead; `again` as for `replay`."""
    return _moved(session, principal, job_id, Move.DISCARD, moves.discard, again=again)[0]


def edit(
    session: Session, principal: Principal, job_id: UUID, args: dict[str, Json], registry: Registry
) -> tuple[Job, Sequence[Mapping[str, Json]]]:
    """Give it other arguments; gives it as it is then, and each change with its `pointer`, `before` and `after`.

    Raises NoSuchJob, NotDead, Invalid, ArgsTooLarge, Changed.
    """
    job = operate.find(session, principal, job_id)
    if job.state is not State.DEAD:
        raise NotDead(job)
    submit.check_args(job.type, args, registry)
    # Of the text that the move compares: what was read before may have been edited since.
    before = queries.args_text(session, job.id)
    changes = list(_changes(orjson.loads(before), args, ()))
    if changes:
        told = f"args changed at {', '.join(change['pointer'] for change in changes)}"[:_MOST_REASON]
        ref = Ref(job.id, job.lease)
        if not moves.edit(session, ref, before, orjson.dumps(args).decode(), principal.actor, told):
            raise Changed
    return replace(job, args=args), changes[:MOST_CHANGES]


def _moved(
    session: Session,
    principal: Principal,
    job_id: UUID,
    move: Move,
    make: Callable[[Session, Sequence[Ref], str], Sequence[Moved]],
    *,
    again: bool,
) -> tuple[Job, bool]:
    job = operate.find(session, principal, job_id)
    ref = Ref(job.id, job.lease)
    moved = bool(make(session, [ref], principal.actor)) if job.state is State.DEAD else False
    after = operate.find(session, principal, job_id)
    done_before = again and queries.last_operation(session, job_id) == (move, principal.actor)
    if after.state is not State.DEAD and not moved and not done_before:
        raise NotDead(after)
    return after, moved


def _held_back(session: Session, job: Job) -> submit.Refused:
    """Why a dead job was not redriven."""
    key = job.unique_key
    holders = queries.find_unique_holders(session, job.tenant_id, job.type, [key]) if key else {}
    return NotUnique(holders[key]) if key in holders else TooBusy("Its unique_key changed hands meanwhile. Try again.")


def _changes(before: Json, after: Json, place: tuple[Any, ...]) -> Iterator[dict[str, Json]]:
    """What differs between two documents, down to the members of objects."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            if name in before and name in after:
                yield from _changes(before[name], after[name], (*place, name))
            else:
                kept = {"before": before, "after": after}
                told = {when: _bounded(members[name]) for when, members in kept.items() if name in members}
                yield {"pointer": pointer((*place, name)), **told}
    elif _text(before) != _text(after):  # 1 and 1.0 and true are equal to Python
        yield {"pointer": pointer(place), "before": _bounded(before), "after": _bounded(after)}


def _bounded(value: Json) -> Json:
    text = _text(value)
    return value if len(text) <= MOST_TOLD else f"{text[:MOST_TOLD]}…"


def _text(value: Json) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
