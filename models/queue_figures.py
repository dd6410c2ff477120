"""Queues as an operator looks at them: which there are, what waits in each, what comes and goes.

No answer grows with finished jobs. One that would grow with waiting jobs counts them up to MOST_COUNTED in each lane,
and the rates look at the last MOST_LOOKED_AT jobs at most.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, exists, func, literal, select
from sqlalchemy import union as union_of
from sqlalchemy.orm import Session

from models import worker
from models.dead_groups import dead_groups
from models.dialect import dialect_of, given, now, rows_parameter, seconds_from_now
from models.ids import earliest_id
from models.job import in_state, jobs
from models.lineup import waits
from models.queue import queues
from models.states import State
from models.tenancy import of_tenant, within_tenant

MOST_COUNTED = 100_000
MOST_LOOKED_AT = 5_000
RATE_OVER = timedelta(seconds=60)
CLOCKS_DIFFER = timedelta(seconds=30)
"""Ids are made by the clocks of those who submit."""
_FINISHES = (State.SUCCEEDED, State.DEAD, State.CANCELLED)

_c = jobs.c


@dataclass
class QueueFigures:
    """What is in a queue and how it moves; `oldest_due` is how long its longest due job has waited."""

    counts: Counter[State] = field(default_factory=Counter)
    oldest_due: timedelta | None = None
    in_per_second: float = 0.0
    out_per_second: float = 0.0
    workers: int = 0


def queue_names(session: Session, tenant_id: UUID | None, behind: str | None, limit: int) -> list[str]:
    """The queues that an operator said something of, that a live worker serves, or that have jobs, by name.

    To a tenant, jobs are its own, finished ones included; to the platform, those that are live or dead.
    """
    served = given(dialect_of(session), "served", name=str)
    sources: list[Select[Any]] = [select(queues.c.name), select(served.c.name)]
    sources += [select(found.c.name) for found in _with_jobs(tenant_id, behind)]
    names = union_of(*(source.where(source.selected_columns[0].is_not(None)) for source in sources)).subquery("names")
    page = select(names.c.name).where(_behind(names.c.name, behind)).order_by(names.c.name).limit(limit)
    rows = rows_parameter([{"name": name} for name in _served(session)])
    return list(session.scalars(page, {**rows, "most": limit}))


def has_jobs(session: Session, name: str, tenant_id: UUID) -> bool:
    """Whether the tenant has jobs in the queue, finished ones included."""
    return bool(session.scalar(select(exists().where(of_tenant(_c.tenant_id, tenant_id), _c.queue == name))))


def figures_of(session: Session, names: Sequence[str], tenant_id: UUID | None) -> dict[str, QueueFigures]:
    """The figures of those queues, of the jobs of a tenant or of all."""
    found: dict[str, QueueFigures] = {name: QueueFigures() for name in names}
    _count_waiting(session, found, tenant_id)
    _count_in_motion(session, found, tenant_id)
    _count_dead(session, found, tenant_id)
    _rate(session, found, tenant_id)
    for name, how_many in _served(session).items():
        if name in found:
            found[name].workers = how_many
    return found


def _with_jobs(tenant_id: UUID | None, behind: str | None) -> list[Any]:
    """The names of queues with jobs, each found by an index probe."""
    if tenant_id is not None:
        return [_distinct(of_tenant(_c.tenant_id, tenant_id), behind, "own")]
    running = select(_c.queue.label("name")).where(in_state(State.RUNNING)).distinct().subquery("running")
    states = (State.QUEUED, State.DISPATCHED, State.DEAD)
    return [running, *(_distinct(in_state(state), behind, f"of_{state}") for state in states)]


def _distinct(condition: ColumnElement[bool], behind: str | None, name: str) -> Any:
    following = select(_c.queue).where(condition).order_by(_c.queue).limit(1)
    first = following.where(_behind(_c.queue, behind)).scalar_subquery()
    one = select(first.label("name"), literal(1).label("number")).cte(name, recursive=True)
    another = following.where(_c.queue > one.c.name).scalar_subquery()
    goes_on = and_(one.c.name.is_not(None), one.c.number < bindparam("most"))
    return one.union_all(select(another, one.c.number + 1).where(goes_on))


def _behind(column: ColumnElement[str], behind: str | None) -> ColumnElement[bool]:
    return column > ("" if behind is None else behind)


def _served(session: Session) -> Counter[str]:
    """How many live workers each queue has."""
    return Counter(name for one in worker.live_workers(session) for name in one.queues)


def _count_waiting(session: Session, found: dict[str, QueueFigures], tenant_id: UUID | None) -> None:
    rows = session.execute(_lanes(session, tenant_id), rows_parameter([{"name": name} for name in found]))
    for row in rows:
        figures = found[row.name]
        figures.counts[State.QUEUED] = min(MOST_COUNTED, figures.counts[State.QUEUED] + row.waiting)
        if row.due_at is not None and row.due_at <= row.now:
            figures.oldest_due = max(figures.oldest_due or timedelta(0), row.now - row.due_at)


def _lanes(session: Session, tenant_id: UUID | None) -> Select[Any]:
    """For each queue and priority in use: how many jobs wait, and when the first is due."""
    names = given(dialect_of(session), "asked", name=str)
    waiting = select(_c.priority).where(in_state(State.QUEUED))
    highest = waiting.order_by(_c.priority.desc()).limit(1)
    first = highest.where(_c.queue == names.c.name).correlate(names).scalar_subquery()
    top = select(names.c.name, first.label("priority")).select_from(names).cte("used", recursive=True)
    lower = highest.where(_c.queue == top.c.name, _c.priority < top.c.priority).correlate(top).scalar_subquery()
    used = top.union_all(select(top.c.name, lower).where(top.c.priority.is_not(None)))
    of_lane = and_(_c.queue == used.c.name, _c.priority == used.c.priority, within_tenant(_c.tenant_id, tenant_id))
    of_these = select(_c.due_at).where(waits() if tenant_id else in_state(State.QUEUED), of_lane)
    in_order = (_c.tenant_id, _c.due_at) if tenant_id else (_c.due_at,)
    first_due = of_these.order_by(*in_order).limit(1).correlate(used)
    counted = of_these.limit(MOST_COUNTED).correlate(used).subquery()
    count = select(func.count()).select_from(counted).correlate(used).scalar_subquery()
    wanted = (used.c.name, count.label("waiting"), first_due.scalar_subquery().label("due_at"), now().label("now"))
    return select(*wanted).where(used.c.priority.is_not(None))


def _count_in_motion(session: Session, found: dict[str, QueueFigures], tenant_id: UUID | None) -> None:
    """Of all tenants, and theirs among them: a condition of the tenant would be an index of all its jobs' to answer."""
    for state in (State.DISPATCHED, State.RUNNING):
        counted = select(_c.queue, _theirs(_c.tenant_id, tenant_id)).where(in_state(state)).group_by(_c.queue)
        for name, how_many in session.execute(counted):
            if name in found:
                found[name].counts[state] = how_many


def _count_dead(session: Session, found: dict[str, QueueFigures], tenant_id: UUID | None) -> None:
    g = dead_groups.c
    counted = select(g.queue, func.sum(g.count)).where(of_tenant(g.tenant_id, tenant_id)).group_by(g.queue)
    for name, how_many in session.execute(counted):
        if name in found:
            found[name].counts[State.DEAD] = int(how_many)


def _theirs(column: ColumnElement[UUID], tenant_id: UUID | None) -> ColumnElement[int]:
    return func.sum(case((of_tenant(column, tenant_id), 1), else_=0))


def _rate(session: Session, found: dict[str, QueueFigures], tenant_id: UUID | None) -> None:
    for name, per_second in _rates(session, _newest(tenant_id), tenant_id).items():
        if name in found:
            found[name].in_per_second = per_second
    for state in _FINISHES:
        for name, per_second in _rates(session, _ended(state), tenant_id).items():
            if name in found:
                found[name].out_per_second += per_second


def _newest(tenant_id: UUID | None) -> Select[Any]:
    since = earliest_id(datetime.now(UTC) - RATE_OVER - CLOCKS_DIFFER)
    of_tenants = (of_tenant(_c.tenant_id, tenant_id), _c.id > since)
    query = select(_c.queue, _c.created_at.label("at"), _c.tenant_id).where(*of_tenants)
    return query.order_by(_c.id.desc())


def _ended(state: State) -> Select[Any]:
    lately = (_c.finished_at.is_not(None), _c.finished_at > seconds_from_now(-RATE_OVER.total_seconds()))
    query = select(_c.queue, _c.finished_at.label("at"), _c.tenant_id).where(in_state(state), *lately)
    return query.order_by(_c.finished_at.desc())


def _rates(session: Session, events: Select[Any], tenant_id: UUID | None) -> dict[str, float]:
    """How many of the tenant a second in the last minute; of more than are looked at, since the oldest of those."""
    last = events.limit(MOST_LOOKED_AT).subquery()
    query = select(
        last.c.queue, _theirs(last.c.tenant_id, tenant_id), func.count(), func.min(last.c.at), now()
    ).group_by(last.c.queue)
    rows = session.execute(query.where(last.c.at > seconds_from_now(-RATE_OVER.total_seconds()))).all()
    seconds = RATE_OVER.total_seconds()
    if sum(row[2] for row in rows) >= MOST_LOOKED_AT:
        seconds = max(0.001, (rows[0][4] - min(row[3] for row in rows)).total_seconds())
    return {row[0]: row[1] / seconds for row in rows}
