"""Redrives, as types: dead letters that are replayed or discarded at a pace."""

from datetime import datetime
from typing import Any, Literal, TypedDict

from jobmill_client.dead_letters import DeadGroup, DeadLetter
from jobmill_client.documents import Document


class RedriveOptions(TypedDict, total=False):
    """How a redrive shall go; what is left out is as the server has it."""

    action: Literal["replay", "discard"]
    rate_per_second: float
    ramp_seconds: float
    abort_when_failure_ratio: float | None
    priority: int | None


class Redrive(Document):
    """A redrive as it was when it was read."""

    id: str
    action: str
    filter: dict[str, Any]
    rate_per_second: float
    ramp_seconds: float
    abort_when_failure_ratio: float | None
    priority: int | None
    state: str
    reason: str | None
    matched: int
    replayed: int
    succeeded_again: int
    died_again: int
    ended_otherwise: int
    unanswered: int
    failing: int
    discarded: int
    skipped: int
    waiting: int
    rate_now: float
    created_at: datetime
    created_by: str
    finished_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether it handles no further letter."""
        return self.state not in {"running", "paused"}


class RedrivePreview(Document):
    """What a redrive would do: how many letters match, their largest groups, and those that died first."""

    matched: int
    groups: list[DeadGroup]
    samples: list[DeadLetter]
