"""Where a job stands among all that decides when it runs: what is read to tell why it does not.

A fixed number of statements, each over live rows by an index, and none that counts beyond MOST_AHEAD.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, literal, select, tuple_, union_all
from sqlalchemy.orm import Session

from models import gate, lease, lineup, queries, queue, worker
from models.dialect import UtcTime, now
from models.gate import Gate
from models.job import GATED_QUEUE, SHARE, Job, JobEvent, in_state, jobs
from models.lineup import InHand, Lane, Waiting
from models.queue import Queue
from models.states import State
from models.tenancy import of_tenant
from models.worker import Worker

MOST_AHEAD = 1000
MOST_TENANTS = 200
MOST_EVENTS = 10
_c = jobs.c


@dataclass(frozen=True)
class Ahead:
    """How many due jobs of the queue go before one: of higher priorities, and of its own those that are due longer.

    `own` are those of the latter that are of its tenant. MOST_AHEAD + 1 means more than that.
    """

    higher: int
    same: int
    own: int


@dataclass(frozen=True)
class Standing:
    """A job and all that is known of why it is where it is, at `now` by the database's clock.

    `events` are its last, newest first; `workers` those that serve its queue, `by` the one that runs it;
    `tenants` those with due jobs of its queue and priority. Of its gate, `passing` jobs are handed out or run.
    What says nothing about a job in its state is not read.
    """

    job: Job
    now: datetime
    lease_expires_at: datetime | None
    events: Sequence[JobEvent] = ()
    queue: Queue | None = None
    leads: bool = True
    workers: Sequence[Worker] = ()
    by: Worker | None = None
    in_hand: InHand | None = None
    ahead: Ahead | None = None
    tenants: Sequence[Waiting] = ()
    gate: Gate | None = None
    passing: int = 0
    at_silent: int = 0
    """Jobs in hand for receivers that gave no answer, its own among them."""

    def without_operators(self) -> "Standing":
        """The same without who paused its queue."""
        return replace(self, queue=replace(self.queue, paused_by=None)) if self.queue else self

    def waits_for(self) -> timedelta:
        """How long it is until the job is due; nothing if it is."""
        return max(timedelta(0), self.job.due_at - self.now)


def standing_of(session: Session, job: Job) -> Standing | None:
    """Where the job stands; None if it was pruned meanwhile."""
    row = session.execute(select(now(), _c.lease_expires_at).where(_c.id == job.id)).one_or_none()
    if row is None:
        return None
    at, expires = row
    events = queries.list_events(session, job.id, None, MOST_EVENTS)
    known = Standing(job, at, expires, events)
    if job.state is State.QUEUED:
        known = _of_queue(session, known)
        return known if known.waits_for() else _in_line(session, known)
    if job.state is State.DISPATCHED:
        return _of_queue(session, known)
    if job.state is State.RUNNING and job.worker_id is not None:
        return replace(known, by=worker.find_worker(session, job.worker_id))
    return known


def _of_queue(session: Session, known: Standing) -> Standing:
    name = known.job.queue
    return replace(
        known,
        queue=queue.find_queue(session, name),
        leads=lease.is_held(session),
        workers=worker.serving(session, name),
        in_hand=lineup.in_hand(session, name),
    )


def _in_line(session: Session, known: Standing) -> Standing:
    job = known.job
    if job.queue == GATED_QUEUE and job.gate_id is not None:
        return replace(
            known,
            gate=gate.find(session, job.gate_id),
            passing=gate.in_hand(session, [job.gate_id]).get(job.gate_id, 0),
            at_silent=gate.in_hand_at_silent(session),
            ahead=_ahead_at_gate(session, job, job.gate_id),
        )
    found = lineup.lanes(session, job.queue)
    own = next((lane for lane in found if lane.priority == job.priority), None)
    tenants = lineup.waiting_shares(session, own, None, MOST_TENANTS) if own is not None and own.shared else []
    due = [tenant for tenant in tenants if tenant.due]
    return replace(known, ahead=ahead(session, job, found), tenants=due)


def _ahead_at_gate(session: Session, job: Job, gate_id: UUID) -> Ahead:
    """Only those of its own gate go before a job that waits at one; other gates have turns of their own."""
    before = lineup.waits_in(GATED_QUEUE), SHARE.in_([gate_id]), _c.priority == job.priority, _c.due_at <= now()
    earlier = tuple_(_c.due_at, _c.id) < tuple_(literal(job.due_at, UtcTime()), literal(job.id, _c.id.type))
    of_gate = select(literal(1).label("one")).where(*before, earlier).order_by(_c.due_at, _c.id).limit(_most())
    same = _count(session, [of_gate])
    return Ahead(higher=0, same=same, own=same)


def ahead(session: Session, job: Job, lanes: Sequence[Lane]) -> Ahead:
    """How many due jobs go before a job, of the queue's `lanes`."""
    above = [lane.priority for lane in lanes if lane.due and lane.priority > job.priority]
    mine = tuple_(literal(job.due_at, UtcTime()), literal(job.id, _c.id.type))
    earlier = tuple_(_c.due_at, _c.id) < mine
    return Ahead(
        higher=_count(session, [_due(job.queue, priority) for priority in above]),
        same=_count(session, [_due(job.queue, job.priority, earlier)]),
        own=_count(session, [_due(job.queue, job.priority, earlier, of_tenant(_c.tenant_id, job.tenant_id))]),
    )


def _due(of_queue: str, priority: int, *conditions: ColumnElement[bool]) -> Select[int]:
    """One row for each due job of a lane, longest due first, and no more than count."""
    lane = (in_state(State.QUEUED), _c.queue == of_queue, _c.priority == priority, _c.due_at <= now())
    return select(literal(1).label("one")).where(*lane, *conditions).order_by(_c.due_at, _c.id).limit(_most())


def _count(session: Session, lanes: Sequence[Select[int]]) -> int:
    """How many rows the lanes have together, counted so far and no further."""
    if not lanes:
        return 0
    found = union_all(*(lane.subquery().select() for lane in lanes)).limit(_most()).subquery("found")
    return session.scalars(select(func.count()).select_from(found)).one()


def _most() -> ColumnElement[int]:
    """Written into the statement: for any limit at all a planner would rather read every waiting job."""
    return literal(MOST_AHEAD + 1, literal_execute=True)
