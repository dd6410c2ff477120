"""How dead letters look in JSON; what is done like this for all other records, documents.py does."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api import examples
from api.documents import Id, Instant, JobDocument, job_document, shown
from jobs.dead_letters import group_of
from models.dead_groups import Group
from models.documents import moment
from models.job import Job, JobEvent
from models.states import Move, State

_PLACE = Field(description="The function of your code that it came from; null where there is none, as for a timeout.")


class AttemptErrorDocument(TypedDict):
    """Why an attempt failed, with all that is known of it."""

    type: Annotated[str | None, Field(description="The class of the error, as the handler's language names it.")]
    message: str | None
    code: Annotated[str | None, Field(description="What kind of failure it was, for programs.")]
    place: Annotated[str | None, _PLACE]
    trace: Annotated[str | None, Field(description="The traceback; of a long one the end, where the fault is.")]


class AttemptDocument(TypedDict):
    """An attempt that failed, or was lost with its worker."""

    attempt: int
    at: Annotated[Instant, Field(description="When it ended.")]
    move: Annotated[Move, Field(description="What it came to: a `retry`, a `rescue`, at last the `bury`.")]
    state: Annotated[State, Field(description="The job's state after it.")]
    lease: Annotated[int, Field(description="Grows with each hand-over to a worker.")]
    actor: Annotated[str, Field(description="Who recorded it, as `worker:...`.")]
    reason: str | None
    error: AttemptErrorDocument


@with_config(shown(examples.DEAD_LETTER))
class DeadLetterDocument(JobDocument):
    """A job that failed for good."""

    group: Annotated[str | None, Field(description="Of those that died of the same thing; null of an older release's.")]
    place: Annotated[str | None, _PLACE]


@with_config(shown(examples.WHOLE_DEAD_LETTER))
class WholeDeadLetterDocument(DeadLetterDocument):
    """A job that failed for good, and each of its attempts."""

    attempts: Annotated[
        list[AttemptDocument],
        Field(description="Oldest first, those before a replay too; of more than 50 the last 50."),
    ]


@with_config(shown(examples.DEAD_GROUP))
class DeadGroupDocument(TypedDict):
    """Dead letters of one type that died of the same thing, at the same place, by the same words."""

    group: Annotated[str, Field(description="Its name, for `?group=`; it stays while only lines, ids or numbers move.")]
    type: str
    error_type: str | None
    message: Annotated[str | None, Field(description="That of the last to die.")]
    place: Annotated[str | None, _PLACE]
    count: Annotated[int, Field(description="How many are dead now.")]
    first_seen: Annotated[Instant, Field(description="When the first of those died.")]
    last_seen: Instant
    sample_id: Annotated[Id, Field(description="The last to die.")]


def dead_letter_document(job: Job) -> DeadLetterDocument:
    """A dead letter as operators see it in a list."""
    group = None if job.fingerprint is None else group_of(job.type, job.fingerprint)
    return {**job_document(job), "group": group, "place": (job.error or {}).get("place")}


def whole_dead_letter_document(job: Job, attempts: Sequence[JobEvent]) -> WholeDeadLetterDocument:
    """A dead letter with its attempts, oldest first."""
    return {**dead_letter_document(job), "attempts": [_attempt(event) for event in attempts]}


def dead_group_document(group: Group) -> DeadGroupDocument:
    """A group of dead letters."""
    error = _error(group.error)
    return {
        "group": group_of(group.mark.type, group.mark.fingerprint),
        "type": group.mark.type,
        "error_type": error["type"],
        "message": error["message"],
        "place": error["place"],
        "count": group.count,
        "first_seen": moment(group.first_seen),
        "last_seen": moment(group.last_seen),
        "sample_id": str(group.sample_id),
    }


def _attempt(event: JobEvent) -> AttemptDocument:
    return {
        "attempt": event.attempt,
        "at": moment(event.at),
        "move": Move(event.move),
        "state": event.state,
        "lease": event.lease,
        "actor": event.actor,
        "reason": event.reason,
        "error": _error(event.error),
    }


def _error(error: Any) -> AttemptErrorDocument:
    told = error or {}
    return {
        "type": told.get("type"),
        "message": told.get("message"),
        "code": told.get("code"),
        "place": told.get("place"),
        "trace": told.get("trace"),
    }
