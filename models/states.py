"""The seven states of a job, the moves between them, and what a row looks like in each.

The moves and shapes here are data: the CHECK constraints, the test matrix and the diagram in the docs
derive from them.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a job is. A retry is `queued` with a later `due_at`; there is no second waiting state."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


LIVE = (State.QUEUED, State.DISPATCHED, State.RUNNING)
FINAL = (State.SUCCEEDED, State.DEAD, State.CANCELLED, State.DISCARDED)


class Move(StrEnum):
    """The only ways a job's state changes."""

    RECORD = "record"
    CLAIM = "claim"
    RELEASE = "release"
    START = "start"
    SUCCEED = "succeed"
    RETRY = "retry"
    SNOOZE = "snooze"
    INTERRUPT = "interrupt"
    BURY = "bury"
    RESCUE = "rescue"
    RUN_NOW = "run_now"
    CANCEL = "cancel"
    STOP = "stop"
    EDIT = "edit"
    REDRIVE = "redrive"
    DISCARD = "discard"
    PRUNE = "prune"


@dataclass(frozen=True)
class Transition:
    """What one move does: from which states, to which, who makes it, and whether it is fenced by the lease."""

    sources: tuple[State, ...]
    targets: tuple[State, ...]
    by: str
    also: str
    fenced: bool = True


MOVES: dict[Move, Transition] = {
    Move.RECORD: Transition(
        (), (State.QUEUED,), "API, schedule", "idempotent on (tenant, idempotency key)", fenced=False
    ),
    Move.CLAIM: Transition((State.QUEUED,), (State.DISPATCHED,), "dispatcher", "lease + 1, expiry", fenced=False),
    Move.RELEASE: Transition(
        (State.DISPATCHED,),
        (State.QUEUED,),
        "dispatcher, upkeep, API",
        "publish failed, message lost, the claim expired; by no lease when its queue is paused or over its limit",
    ),
    Move.START: Transition(
        (State.DISPATCHED,),
        (State.RUNNING,),
        "worker",
        "attempt + 1, worker id; not while its queue is paused; after 2 losses alone in its process",
    ),
    Move.SUCCEED: Transition((State.RUNNING,), (State.SUCCEEDED,), "worker", "result"),
    Move.RETRY: Transition(
        (State.RUNNING,), (State.QUEUED,), "worker", "error kept in history, due_at by the retry policy"
    ),
    Move.SNOOZE: Transition((State.RUNNING,), (State.QUEUED,), "worker", "the attempt is given back"),
    Move.INTERRUPT: Transition(
        (State.RUNNING,),
        (State.QUEUED,),
        "worker, parent, dispatcher",
        "the attempt is given back, the place in the queue kept",
    ),
    Move.BURY: Transition(
        (State.RUNNING,), (State.DEAD,), "worker", "attempts exhausted, or a permanent error; its fingerprint"
    ),
    Move.RESCUE: Transition(
        (State.RUNNING,),
        (State.QUEUED, State.DEAD, State.CANCELLED),
        "the worker's parent, dispatcher",
        "its worker died: lost + 1, the attempt is given back, the place kept; dead after 3 losses; "
        "cancelled if that was asked for",
    ),
    Move.RUN_NOW: Transition(
        (State.QUEUED,), (State.QUEUED,), "API", "due now; nothing happens to a job that is due already", fenced=False
    ),
    Move.CANCEL: Transition(
        LIVE, (State.CANCELLED, State.RUNNING), "API", "a running job is only asked to stop", fenced=False
    ),
    Move.STOP: Transition((State.RUNNING,), (State.CANCELLED,), "worker", "its handler yielded to a cancellation"),
    Move.EDIT: Transition((State.DEAD,), (State.DEAD,), "operator", "other args; the old ones are in the audit log"),
    Move.REDRIVE: Transition((State.DEAD,), (State.QUEUED,), "operator", "fresh attempts; history keeps the old ones"),
    Move.DISCARD: Transition((State.DEAD,), (State.DISCARDED,), "operator", "kept until its retention ends"),
    Move.PRUNE: Transition(FINAL, (), "upkeep", "the row is deleted, by retention per state", fenced=False),
}

LOSSES_UNTIL_DEAD = 3
LOSSES_UNTIL_ALONE = LOSSES_UNTIL_DEAD - 1
"""From here on a job starts in a process that does nothing else: the loss that would bury it shall be its own doing."""


@dataclass(frozen=True)
class Shape:
    """Which columns a row must have and must not have in a state."""

    present: tuple[str, ...]
    absent: tuple[str, ...]


SHAPES: dict[State, Shape] = {
    State.QUEUED: Shape(
        present=(),
        absent=(
            "dispatched_at",
            "lease_expires_at",
            "started_at",
            "finished_at",
            "worker_id",
            "result",
            "cancel_requested_at",
        ),
    ),
    State.DISPATCHED: Shape(
        present=("dispatched_at", "lease_expires_at"),
        absent=("started_at", "finished_at", "worker_id", "result", "cancel_requested_at"),
    ),
    State.RUNNING: Shape(
        present=("dispatched_at", "started_at", "worker_id"), absent=("lease_expires_at", "finished_at", "result")
    ),
    State.SUCCEEDED: Shape(
        present=("dispatched_at", "started_at", "worker_id", "finished_at"), absent=("lease_expires_at", "error")
    ),
    State.DEAD: Shape(
        present=("dispatched_at", "started_at", "worker_id", "finished_at", "error"),
        absent=("lease_expires_at", "result"),
    ),
    State.CANCELLED: Shape(present=("finished_at", "cancel_requested_at"), absent=("lease_expires_at", "result")),
    State.DISCARDED: Shape(
        present=("dispatched_at", "started_at", "worker_id", "finished_at", "error"),
        absent=("lease_expires_at", "result"),
    ),
}
