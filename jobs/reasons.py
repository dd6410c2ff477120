"""The reasons why a job is where it is, as `jobs.explain` finds them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from jobs.outcomes import Json


class Why(StrEnum):
    """A reason, for programs."""

    WAITS_FOR_TIME = "waits_for_time"
    WAITS_FOR_RETRY = "waits_for_retry"
    PUT_OFF = "put_off"
    QUEUE_PAUSED = "queue_paused"
    BROKER_AWAY = "broker_away"
    NO_DISPATCHER = "no_dispatcher"
    NO_WORKER = "no_worker"
    MAX_RUNNING = "max_running"
    MAX_PER_SECOND = "max_per_second"
    BEHIND_OTHERS = "behind_others"
    FAIR_SHARE = "fair_share"
    RECEIVER_HELD = "receiver_held"
    RECEIVER_BUSY = "receiver_busy"
    THREADS_BUSY = "threads_busy"
    NEXT = "next"
    DISPATCHED = "dispatched"
    CLAIM_EXPIRED = "claim_expired"
    WAITS_TO_RUN_ALONE = "waits_to_run_alone"
    RUNNING = "running"
    CANCEL_REQUESTED = "cancel_requested"
    WORKER_LOST = "worker_lost"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


@dataclass(frozen=True)
class Reason:
    """A reason in a word and in a sentence; since when it holds and until when, where that is known, and figures."""

    why: Why
    message: str
    since: datetime | None = None
    until: datetime | None = None
    detail: dict[str, Json] = field(default_factory=dict)
