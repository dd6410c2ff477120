"""How redrives look in JSON."""

from typing import Annotated, Any

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api import examples
from api.dead_documents import DeadGroupDocument, DeadLetterDocument
from api.documents import Id, Instant, shown
from jobs import pacing, redrives
from models.documents import moment, moment_or_none
from models.redrives import OPEN, Action, Redrive, RedriveState, Seen


@with_config(shown(examples.REDRIVE))
class RedriveDocument(TypedDict):
    """Dead letters that are replayed or discarded at a pace."""

    id: Annotated[Id, Field(description="That of its job as well.")]
    tenant_id: Annotated[Id | None, Field(description="Whose letters; null: those of the whole installation.")]
    action: Action
    filter: Annotated[dict[str, Any], Field(description="As it was asked for.")]
    rate_per_second: float
    ramp_seconds: float
    abort_when_failure_ratio: float | None
    priority: int | None
    state: RedriveState
    reason: Annotated[str | None, Field(description="Why it ended so.")]
    matched: Annotated[int, Field(description="Letters that were pinned when it was made.")]
    replayed: Annotated[int, Field(description="Letters that were queued again, whatever came of them.")]
    succeeded_again: int
    died_again: int
    ended_otherwise: Annotated[int, Field(description="Replayed, and then cancelled or discarded.")]
    unanswered: Annotated[int, Field(description="Replayed, and not final yet.")]
    failing: Annotated[int, Field(description="Those of them that failed at least once and wait for another attempt.")]
    discarded: int
    skipped: Annotated[int, Field(description="Replayed or discarded by somebody else; or their unique_key is held.")]
    waiting: Annotated[int, Field(description="Letters whose turn has not come.")]
    rate_now: Annotated[float, Field(description="Letters a second that it may handle at present.")]
    created_at: Instant
    created_by: str
    finished_at: Instant | None


@with_config(shown(examples.REDRIVE_PREVIEW))
class PreviewDocument(TypedDict):
    """What a redrive would do."""

    matched: int
    groups: Annotated[list[DeadGroupDocument], Field(description="The 20 largest among those that match.")]
    samples: Annotated[list[DeadLetterDocument], Field(description="The 5 that died first.")]


def redrive_document(seen: Seen, redrive: Redrive) -> RedriveDocument:
    """A redrive, its counts as in `redrive`."""
    state, reason = redrives.state_of(seen)
    running = state is RedriveState.RUNNING
    return {
        "id": str(redrive.id),
        "tenant_id": str(redrive.tenant_id) if redrive.tenant_id else None,
        "action": redrive.action,
        "filter": redrive.filter,
        "rate_per_second": redrive.rate_per_second,
        "ramp_seconds": redrive.ramp_seconds,
        "abort_when_failure_ratio": redrive.abort_when_failure_ratio,
        "priority": redrive.priority,
        "state": state,
        "reason": reason,
        **redrives.figures(redrive),  # type: ignore[typeddict-item]
        "rate_now": pacing.rate_at(redrive, redrive.active_seconds) if running else 0.0,
        "created_at": moment(redrive.created_at),
        "created_by": redrive.created_by,
        "finished_at": None if state in OPEN else moment_or_none(redrive.finished_at or seen.job_finished_at),
    }
