"""What waits in a queue, as the dispatcher looks at it: lanes, whose jobs are in them, and what is in hand."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Select, and_, bindparam, func, literal, null, or_, select, union_all
from sqlalchemy.orm import Session

from models.dialect import dialect_of, given, now, rows_parameter
from models.identity import tenants
from models.job import GATED_QUEUE, SHARE, in_state, jobs
from models.queue import restrained_names
from models.states import State
from models.tenancy import behind_tenant

_c = jobs.c
_dispatched_counts = select(_c.queue, func.count()).where(in_state(State.DISPATCHED)).group_by(_c.queue)


@dataclass(frozen=True)
class Lane:
    """Waiting jobs of one queue and priority, and when the first of them is due."""

    queue: str
    priority: int
    due_at: datetime
    due: bool
    shared: bool = False
    """Whether jobs of more than one share wait, or may not be taken without a look at their gates."""


@dataclass(frozen=True)
class Waiting:
    """Whose jobs of one queue and priority wait: a tenant, or in the gated queue a gate; when the first of them is due.

    The weight is the tenant's.
    """

    share_id: UUID
    tenant_id: UUID
    weight: int
    due_at: datetime
    due: bool
    gated: bool = False
    """Whether it is a gate, and not a tenant."""


@dataclass(frozen=True)
class Sight:
    """What is to be seen of some queues: the `lanes` of each, and how many jobs of any are on the broker, not begun.

    And whether any queue at all is `restrained`: paused or limited.
    """

    lanes: dict[str, list[Lane]]
    on_broker: Counter[str]
    restrained: bool


@dataclass(frozen=True)
class InHand:
    """How many jobs of a queue are on the broker, and how many run, at a moment of the database's clock."""

    on_broker: int
    running: int
    at: datetime


def waits() -> ColumnElement[bool]:
    """Whether a job is queued, for questions that go from tenant to tenant: in no other state has it neither time.

    In words that only `jobs_claim_by_tenant` answers. `jobs_claim`, which knows no tenants, looks as good to a planner
    whose statistics have not heard of a backlog; it would read all of that to find whose jobs are in it.
    """
    return and_(jobs.c.dispatched_at.is_(None), jobs.c.finished_at.is_(None))


def share_of(queue: str) -> ColumnElement[UUID]:
    """Whose turn a job of that queue takes: its tenant's, or in the gated queue its gate's."""
    return SHARE if queue == GATED_QUEUE else _c.tenant_id


def waits_in(queue: str) -> ColumnElement[bool]:
    """As `waits`, of one queue. The gated one has an index of its own, which is found by the name only."""
    name = literal(queue, literal_execute=True) if queue == GATED_QUEUE else bindparam("of_queue", queue)
    return and_(waits(), _c.queue == name)


def lanes(session: Session, queue: str) -> list[Lane]:
    """The priorities at which jobs of a queue wait, highest first, each with its first due time."""
    rows = session.execute(_lanes(dialect_of(session)), rows_parameter([{"name": queue}])).all()
    return _in_order(_lane(row) for row in rows)


def look(session: Session, queues: Iterable[str]) -> Sight:
    """What the dispatcher must know of those queues, by one statement: a submission waits for it to start."""
    found: dict[str, list[Lane]] = {queue: [] for queue in queues}
    on_broker: Counter[str] = Counter()
    restrained = False
    parameters = rows_parameter([{"name": queue} for queue in found])
    for row in session.execute(_look(dialect_of(session)), parameters).all():
        if row.priority is not None:
            found[row.queue].append(_lane(row))
        elif row.on_broker is not None:
            on_broker[row.queue] = row.on_broker
        else:
            restrained = True
    return Sight({queue: _in_order(lanes) for queue, lanes in found.items()}, on_broker, restrained)


def _lane(row: Any) -> Lane:
    return Lane(row.queue, row.priority, row.due_at, bool(row.due), bool(row.shared))


def _in_order(lanes: Iterable[Lane]) -> list[Lane]:
    return sorted(lanes, key=lambda lane: -lane.priority)


@cache
def _look(dialect: str) -> Any:
    """Three questions in one: lanes have a priority, counts have a count, and restrained queues have neither."""
    of_lanes = _lanes(dialect).add_columns(null().cast(Integer).label("on_broker"))
    of_no_lane = (null(), null(), null(), null())
    return union_all(
        of_lanes,
        _dispatched_counts.with_only_columns(_c.queue, *of_no_lane, func.count()),
        restrained_names.add_columns(*of_no_lane, null()),
    )


@cache
def _lanes(dialect: str) -> Select[Any]:
    """One index probe per priority that is in use: a `SELECT DISTINCT` would read every waiting job.

    So would min and max, for a planner whose statistics have not heard of a sudden backlog; a LIMIT leaves no choice
    where bitmap scans are off, as they are on our connections.
    """
    asked = given(dialect, "asked", name=str)
    waiting = select(_c.priority).where(in_state(State.QUEUED))
    highest = waiting.order_by(_c.priority.desc()).limit(1)
    first = highest.where(_c.queue == asked.c.name).correlate(asked).scalar_subquery()
    top = select(asked.c.name.label("queue"), first.label("priority")).cte("used", recursive=True)
    following = highest.where(_c.queue == top.c.queue, _c.priority < top.c.priority).scalar_subquery()
    used = top.union_all(select(top.c.queue, following).where(top.c.priority.is_not(None)))
    of_lane = (_c.queue == used.c.queue, _c.priority == used.c.priority)
    of_one = waiting.with_only_columns(_c.due_at).where(*of_lane)
    first_due = of_one.order_by(_c.due_at).limit(1).scalar_subquery()
    of_tenants = select(_c.tenant_id).where(waits(), *of_lane)
    # By tenant alone `jobs_list` would do as well, and read all that other priorities hold to find the one job of this.
    order = (_c.tenant_id, _c.due_at, _c.id)
    ends = [of_tenants.order_by(*by).limit(1).scalar_subquery() for by in (order, [column.desc() for column in order])]
    # Of the gated queue a single gate too may be full.
    shared = or_(used.c.queue == GATED_QUEUE, ends[0] != ends[1])
    wanted = (used.c.queue, used.c.priority, first_due.label("due_at"), shared.label("shared"))
    heads = select(*wanted).where(used.c.priority.is_not(None)).subquery()
    return select(heads, (heads.c.due_at <= now()).label("due")).where(heads.c.due_at.is_not(None))


def waiting_shares(session: Session, lane: Lane, behind: UUID | None, limit: int) -> list[Waiting]:
    """Those whose jobs wait in a lane, in the order of their ids: the first `limit` behind that one.

    An index probe for each, which finds its first job, however many jobs wait.
    """
    head = jobs.alias("head")
    of_head = _gate_of(head) if lane.queue == GATED_QUEUE else head.c.tenant_id
    return _first_of_each(session, lane, waits_in(lane.queue), (share_of(lane.queue), head, of_head), behind, limit)


def longest_due_gates(session: Session, lane: Lane, limit: int) -> list[Waiting]:
    """Of each of the first `limit` tenants whose jobs wait in a lane of the gated queue: the gate of its first job."""
    head = jobs.alias("head")
    # A planner that knew the queue's name could take the index by gates instead, and read the whole backlog by it.
    name = select(bindparam("of_queue", lane.queue)).scalar_subquery()
    waiting = and_(waits(), _c.queue == name)
    return _first_of_each(session, lane, waiting, (_c.tenant_id, head, head.c.tenant_id), None, limit)


def _first_of_each(
    session: Session,
    lane: Lane,
    waits_there: ColumnElement[bool],
    by: tuple[ColumnElement[UUID], Any, ColumnElement[UUID]],
    behind: UUID | None,
    limit: int,
) -> list[Waiting]:
    """The first job of each, from one to the next in the order of `by`: of any job, and of the `head` found last."""
    each, head, of_head = by
    gated = lane.queue == GATED_QUEUE
    following = select(_c.id).where(waits_there, _c.priority == lane.priority)
    following = following.order_by(each, _c.due_at, _c.id).limit(1)
    first = following.where(behind_tenant(each, behind)).scalar_subquery()
    heads = select(first.label("id"), literal(1).label("number")).cte("heads", recursive=True)
    another = following.where(each > of_head).correlate(head).scalar_subquery()
    goes_on = select(another, heads.c.number + 1).join_from(heads, head, head.c.id == heads.c.id)
    heads = heads.union_all(goes_on.where(heads.c.number < bindparam("most")))
    query = (
        select(
            (_gate_of(head) if gated else head.c.tenant_id).label("share_id"),
            head.c.tenant_id,
            tenants.c.weight,
            head.c.due_at,
            (head.c.due_at <= now()).label("due"),
            (head.c.gate_id.is_not(None) if gated else literal(False)).label("gated"),
        )
        .join_from(heads, head, head.c.id == heads.c.id)
        .join_from(head, tenants)
        .order_by(heads.c.number)
    )
    rows = session.execute(query, {"most": limit}).mappings()
    return [Waiting(**{**row, "due": bool(row["due"]), "gated": bool(row["gated"])}) for row in rows]


def _gate_of(job: Any) -> ColumnElement[UUID]:
    return func.coalesce(job.c.gate_id, job.c.tenant_id)


def dispatched_counts(session: Session) -> dict[str, int]:
    """How many jobs of each queue are on the broker and not begun."""
    return {row.queue: row[1] for row in session.execute(_dispatched_counts)}


def in_hand(session: Session, queue: str) -> InHand:
    """How many jobs of a queue are on the broker, and how many run."""
    dispatched, running = (
        select(func.count()).where(in_state(state), _c.queue == queue).scalar_subquery()
        for state in (State.DISPATCHED, State.RUNNING)
    )
    row = session.execute(select(dispatched.label("on_broker"), running.label("running"), now().label("at"))).one()
    return InHand(row.on_broker, row.running, row.at)
