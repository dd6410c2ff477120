"""What the moves should do, in plain Python over a dictionary: the state machine that the real one is held against.

Nothing here is imported from the product but its words (states and moves), so that one mistake cannot be made twice.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from models.job import NewJob, Ref
from models.moves import Started
from models.states import Move, State

LIVE = {State.QUEUED, State.DISPATCHED, State.RUNNING}
GIVES_THE_ATTEMPT_BACK = {Move.SNOOZE, Move.INTERRUPT, Move.RESCUE}
SILENT_AFTER = timedelta(seconds=20)
LOSSES_UNTIL_DEAD = 3
LOSSES_UNTIL_ALONE = 2


@dataclass(frozen=True)
class Row:
    """A job's row: what was asked for, and what only moves write."""

    id: UUID
    tenant_id: UUID
    queue: str
    priority: int
    max_attempts: int
    unique_key: str | None
    idempotency_key: str | None
    created_at: datetime
    due_at: datetime
    state: State = State.QUEUED
    attempt: int = 0
    lost: int = 0
    lease: int = 0
    lease_expires_at: datetime | None = None
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    worker_id: UUID | None = None
    result: Any = None
    error: Any = None
    error_type: str | None = None
    args: Any = None
    checkpoint: Any = None
    progress_percent: float | None = None

    @property
    def ref(self) -> Ref:
        return Ref(self.id, self.lease)

    @property
    def asked_to_stop(self) -> bool:
        return self.cancel_requested_at is not None

    def back_in_the_queue(self, **changes: Any) -> "Row":
        nobodys = {"dispatched_at": None, "lease_expires_at": None, "started_at": None, "worker_id": None}
        return replace(self, state=State.QUEUED, **nobodys, **changes)


@dataclass(frozen=True)
class Entry:
    """One entry of a job's history. `attempt` is the one it is about, also when the move has given it back."""

    job_id: UUID
    tenant_id: UUID
    at: datetime
    move: Move
    state: State
    attempt: int
    lease: int
    actor: str
    error: Any = None


class Reference:
    """Every job as it should be. A move gives the refs of the jobs that it moved; what is stale is not among them."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.rows: dict[UUID, Row] = {}
        self.history: list[Entry] = []
        self.heartbeats: dict[UUID, datetime] = {}
        self.stopped: set[UUID] = set()

    # What is asked of the rows

    def of(self, ref: Ref, *states: State) -> Row | None:
        """The job, if it is still under that lease and in one of those states."""
        row = self.rows.get(ref.id)
        return row if row and row.lease == ref.lease and row.state in states else None

    def in_state(self, *states: State) -> list[Row]:
        return [row for row in self.rows.values() if row.state in states]

    def due(self, queue: str, priority: int) -> list[Row]:
        waiting = [row for row in self.in_state(State.QUEUED) if (row.queue, row.priority) == (queue, priority)]
        return sorted((row for row in waiting if row.due_at <= self.now), key=lambda row: (row.due_at, row.id))

    def expired(self) -> list[Ref]:
        return [row.ref for row in self.in_state(State.DISPATCHED) if row.lease_expires_at < self.now]  # type: ignore[operator]

    def settled(self, queue: str, older_than: timedelta) -> list[Row]:
        on_broker = [row for row in self.in_state(State.DISPATCHED) if row.queue == queue]
        return [row for row in on_broker if row.dispatched_at < self.now - older_than]  # type: ignore[operator]

    def silent(self) -> set[UUID]:
        return {
            worker
            for worker, beat in self.heartbeats.items()
            if worker not in self.stopped and beat < self.now - SILENT_AFTER
        }

    def stopped_with_jobs(self) -> set[UUID]:
        return {row.worker_id for row in self.in_state(State.RUNNING) if row.worker_id in self.stopped}  # type: ignore[misc]

    def running_of(self, workers: Iterable[UUID]) -> list[Ref]:
        return [row.ref for row in self.in_state(State.RUNNING) if row.worker_id in workers]

    def holder_of(self, new: NewJob) -> Row | None:
        """The unfinished job that holds the unique key."""
        return next((row for row in self.in_state(*LIVE) if row.unique_key and _same_key(row, new)), None)

    def keeper_of(self, new: NewJob) -> Row | None:
        """The job, finished or not, that was recorded under the idempotency key."""
        mine = [row for row in self.rows.values() if row.tenant_id == new.tenant_id]
        return next((row for row in mine if new.idempotency_key and row.idempotency_key == new.idempotency_key), None)

    # The way to a worker

    def record(self, new: NewJob) -> bool:
        if new.id in self.rows or self.keeper_of(new) or self.holder_of(new):
            return False
        self.rows[new.id] = Row(
            id=new.id,
            tenant_id=new.tenant_id,
            queue=new.queue,
            priority=new.priority,
            max_attempts=new.max_attempts,
            unique_key=new.unique_key,
            idempotency_key=new.idempotency_key,
            args=new.args,
            created_at=self.now,
            due_at=self.now + timedelta(seconds=new.delay_seconds),
        )
        return True

    def claim(self, queue: str, priority: int, limit: int, expires_after: timedelta) -> list[Ref]:
        return self._all(
            self.due(queue, priority)[:limit],
            lambda row: replace(
                row,
                state=State.DISPATCHED,
                lease=row.lease + 1,
                dispatched_at=self.now,
                lease_expires_at=self.now + expires_after,
            ),
        )

    def renew(self, refs: Sequence[Ref], expires_after: timedelta) -> list[Ref]:
        renewed = self.now + expires_after
        return self._all(self._held(refs, State.DISPATCHED), lambda row: replace(row, lease_expires_at=renewed))

    def release(self, refs: Sequence[Ref]) -> list[Ref]:
        return self._all(self._held(refs, State.DISPATCHED), Row.back_in_the_queue)

    def needs_to_be_alone(self, ref: Ref) -> bool:
        """Whether one more loss would bury a job that is yet to begin."""
        row = self.of(ref, State.DISPATCHED)
        return row is not None and row.lost >= LOSSES_UNTIL_ALONE

    def start(self, refs: Sequence[Ref], worker_id: UUID, *, alone: bool = False) -> list[Ref]:
        return self._all(
            [row for row in self._held(refs, State.DISPATCHED) if alone or not self.needs_to_be_alone(row.ref)],
            lambda row: replace(
                row,
                state=State.RUNNING,
                attempt=row.attempt + 1,
                started_at=self.now,
                lease_expires_at=None,
                worker_id=worker_id,
            ),
        )

    # The ends of an attempt

    def succeed(self, run: Started, result: Any, percent: float | None) -> Move | None:
        moved = self._all(
            self._held([run.ref], State.RUNNING),
            lambda row: replace(
                row,
                state=State.SUCCEEDED,
                result=result,
                error=None,
                finished_at=self.now,
                progress_percent=row.progress_percent if percent is None else percent,
            ),
        )
        return Move.SUCCEED if moved else None

    def fail(self, run: Started, error: Any, after: timedelta, actor: str) -> Move | None:
        if run.attempt >= run.max_attempts:
            return self.bury(run, error, actor)
        return self._put_back(
            run, Move.RETRY, actor, lambda row: row.back_in_the_queue(error=error, due_at=self.now + after), error
        )

    def bury(self, run: Started, error: Any, actor: str) -> Move | None:
        dead = {"state": State.DEAD, "error": error, "error_type": error["type"], "finished_at": self.now}
        held = self._held([run.ref], State.RUNNING)
        moved = self._all(held, lambda row: replace(row, **dead), Move.BURY, actor, error)
        return Move.BURY if moved else None

    def give_back(self, run: Started | Row, move: Move, after: timedelta | None, actor: str) -> Move | None:
        """Snooze (to be due after a while) or interrupt (as it was before): as if it had not begun."""
        due = {} if after is None else {"due_at": self.now + after}
        return self._put_back(run, move, actor, lambda row: row.back_in_the_queue(attempt=row.attempt - 1, **due))

    def give_back_unbegun(self, refs: Sequence[Ref], actor: str) -> list[Ref]:
        """Started as far as the rows know; not those that are to be cancelled."""
        held = [row for row in self._held(refs, State.RUNNING) if not row.asked_to_stop]
        return self._all(held, lambda row: row.back_in_the_queue(attempt=row.attempt - 1), Move.INTERRUPT, actor)

    def put_off(self, ref: Ref, worker_id: UUID, after: timedelta, actor: str) -> None:
        """Begun and given back in one."""
        for begun in self.start([ref], worker_id, alone=True):
            self.give_back(self.rows[begun.id], Move.SNOOZE, after, actor)

    def stop(self, run: Started, actor: str, error: Any = None) -> Move | None:
        held = [row for row in self._held([run.ref], State.RUNNING) if row.asked_to_stop]
        cancelled = {"state": State.CANCELLED, "finished_at": self.now}
        moved = self._all(held, lambda row: replace(row, **cancelled), Move.STOP, actor, error)
        return Move.STOP if moved else None

    def rescue(self, refs: Sequence[Ref], error: Any, actor: str) -> list[Ref]:
        return self._all(
            self._held(refs, State.RUNNING), lambda row: self._rescued(row, error), Move.RESCUE, actor, error
        )

    def _rescued(self, row: Row, error: Any) -> Row:
        row = replace(row, attempt=row.attempt - 1, lost=row.lost + 1)
        if row.asked_to_stop:
            return replace(row, state=State.CANCELLED, finished_at=self.now)
        if row.lost >= LOSSES_UNTIL_DEAD:
            return replace(row, state=State.DEAD, error=error, error_type=error["type"], finished_at=self.now)
        return row.back_in_the_queue(error=error)

    def _put_back(
        self, run: Started, move: Move, actor: str, change: Callable[[Row], Row], error: Any = None
    ) -> Move | None:
        """A job whose cancellation was asked for does not go back: it stops here."""
        held = self._held([run.ref], State.RUNNING)
        if any(row.asked_to_stop for row in held):
            return self.stop(run, actor, error)
        return move if self._all(held, change, move, actor, error) else None

    # What a running attempt says meanwhile

    def save_checkpoint(self, ref: Ref, value: Any) -> bool:
        return bool(self._all(self._held([ref], State.RUNNING), lambda row: replace(row, checkpoint=value)))

    def tell_progress(self, ref: Ref, percent: float) -> None:
        self._all(self._held([ref], State.RUNNING), lambda row: replace(row, progress_percent=percent))

    # What people do

    def cancel(self, job_id: UUID, actor: str) -> bool:
        row = self.rows[job_id]
        if row.state not in LIVE or row.asked_to_stop:
            return False
        asked = replace(row, cancel_requested_at=self.now)
        if row.state is not State.RUNNING:
            asked = replace(asked, state=State.CANCELLED, finished_at=self.now, lease_expires_at=None)
        return bool(self._all([row], lambda _: asked, Move.CANCEL, actor))

    def run_now(self, job_id: UUID, actor: str) -> bool:
        row = self.rows[job_id]
        if row.state is not State.QUEUED or row.due_at <= self.now:
            return False
        return bool(self._all([row], lambda row: replace(row, due_at=self.now), Move.RUN_NOW, actor))

    def edit(self, ref: Ref, before: Any, args: Any, actor: str) -> list[Ref]:
        """Other arguments for a dead job, unless they are others already; the work on the old ones is forgotten."""
        held = [row for row in self._held([ref], State.DEAD) if row.args == before]
        return self._all(held, lambda row: replace(row, args=args, checkpoint=None), Move.EDIT, actor)

    def redrive(self, refs: Sequence[Ref], actor: str) -> list[Ref]:
        """Of several that share a unique key the oldest goes, and none while an unfinished job holds the key."""
        going: list[Row] = []
        for row in sorted(self._held(refs, State.DEAD), key=lambda row: row.id):
            others = [*self.in_state(*LIVE), *going]
            if row.unique_key is None or not any(_same_key(row, other) for other in others):
                going.append(row)
        fresh = {"attempt": 0, "lost": 0, "finished_at": None, "cancel_requested_at": None, "progress_percent": None}
        return self._all(going, lambda row: row.back_in_the_queue(due_at=self.now, **fresh), Move.REDRIVE, actor)

    def discard(self, refs: Sequence[Ref], actor: str) -> list[Ref]:
        discarded = {"state": State.DISCARDED, "finished_at": self.now}
        return self._all(self._held(refs, State.DEAD), lambda row: replace(row, **discarded), Move.DISCARD, actor)

    def prune(self, state: State, older_than: timedelta) -> int:
        old = [row for row in self.in_state(state) if row.finished_at < self.now - older_than]  # type: ignore[operator]
        for row in old:
            del self.rows[row.id]
        self.history = [entry for entry in self.history if entry.job_id in self.rows]
        return len(old)

    # Moving

    def _held(self, refs: Sequence[Ref], state: State) -> list[Row]:
        return [row for ref in dict.fromkeys(refs) if (row := self.of(ref, state))]

    def _all(
        self,
        rows: Iterable[Row],
        change: Callable[[Row], Row],
        move: Move | None = None,
        actor: str = "",
        error: Any = None,
    ) -> list[Ref]:
        """Change those rows; a move that is named is off the straight path, and leaves an entry for each."""
        changed = [change(row) for row in rows]
        self.rows |= {row.id: row for row in changed}
        if move:
            self.history += [self._entry(row, move, actor, error) for row in changed]
        return [row.ref for row in changed]

    def _entry(self, row: Row, move: Move, actor: str, error: Any) -> Entry:
        attempt = row.attempt + (move in GIVES_THE_ATTEMPT_BACK)
        return Entry(row.id, row.tenant_id, self.now, move, row.state, attempt, row.lease, actor, error)


def _same_key(one: Any, other: Any) -> bool:
    return (one.tenant_id, one.unique_key) == (other.tenant_id, other.unique_key)
