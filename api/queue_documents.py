"""How queues look in JSON; what is done like this for all other records, documents.py does."""

from typing import Annotated

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api import examples
from api.documents import Instant, shown
from jobs.queues import Overview
from models.documents import moment_or_none
from models.queue_figures import MOST_COUNTED
from models.states import State


class QueueCountsDocument(TypedDict):
    """How many jobs of a queue are in which state now."""

    queued: Annotated[int, Field(description=f"Of more than {MOST_COUNTED:,} it says {MOST_COUNTED:,}.")]
    dispatched: Annotated[int, Field(description="On the broker, and not begun.")]
    running: int
    dead: int


@with_config(shown(examples.QUEUE))
class QueueDocument(TypedDict):
    """A queue: what an operator said of it, and what is in it."""

    name: str
    paused: bool
    paused_at: Instant | None
    paused_by: Annotated[str | None, Field(description="`key:<id>` or `subject:<who>`; to tenants null.")]
    max_running: Annotated[int | None, Field(description="So many of its jobs run at once, at most.")]
    max_per_second: Annotated[float | None, Field(description="So many of its jobs begin in a second, at most.")]
    counts: Annotated[QueueCountsDocument, Field(description="To a tenant, of its own jobs; as all that follows.")]
    oldest_waiting_seconds: Annotated[
        float | None, Field(description="How long the job has waited that is due longest; null if none is due.")
    ]
    in_per_second: Annotated[float, Field(description="Jobs that were submitted, over the last minute or less.")]
    out_per_second: Annotated[float, Field(description="Jobs that succeeded, died or were cancelled, likewise.")]
    workers: Annotated[int, Field(description="Live worker processes that take its jobs, of whatever tenant.")]


def queue_document(found: Overview) -> QueueDocument:
    """A queue as operators see it."""
    queue, figures = found.queue, found.figures
    waited = figures.oldest_due
    return {
        "name": queue.name,
        "paused": queue.paused,
        "paused_at": moment_or_none(queue.paused_at),
        "paused_by": queue.paused_by,
        "max_running": queue.max_running,
        "max_per_second": queue.max_per_second,
        "counts": {
            "queued": figures.counts[State.QUEUED],
            "dispatched": figures.counts[State.DISPATCHED],
            "running": figures.counts[State.RUNNING],
            "dead": figures.counts[State.DEAD],
        },
        "oldest_waiting_seconds": None if waited is None else round(waited.total_seconds(), 3),
        "in_per_second": round(figures.in_per_second, 3),
        "out_per_second": round(figures.out_per_second, 3),
        "workers": figures.workers,
    }
