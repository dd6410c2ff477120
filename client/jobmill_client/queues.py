"""Queues, as a type: what is in one, and what may be done with it."""

from datetime import datetime
from typing import TypedDict

from jobmill_client.documents import Document


class Limits(TypedDict, total=False):
    """How many jobs may run at once, and begin in a second; None is no limit."""

    max_running: int | None
    max_per_second: float | None


class QueueCounts(Document):
    """How many jobs are in which state; of more than 100,000 queued ones it says 100,000."""

    queued: int
    dispatched: int
    running: int
    dead: int


class Queue(Document):
    """A queue: what was said of it, and how many jobs are in it, come and go. To a tenant, of its own jobs."""

    name: str
    paused: bool
    paused_at: datetime | None
    paused_by: str | None
    max_running: int | None
    max_per_second: float | None
    counts: QueueCounts
    oldest_waiting_seconds: float | None
    in_per_second: float
    out_per_second: float
    workers: int
