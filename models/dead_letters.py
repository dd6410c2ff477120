"""Pages of dead letters by when they died, and what one died of.

As in lists.py, an index answers one filter of one tenant; a page of several, or over all tenants, looks at so many
jobs at most and tells where the next goes on.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, FromClause, Select, func, literal, select, true, tuple_
from sqlalchemy.orm import Session

from models import lists
from models.dialect import UtcTime
from models.job import Job, JobEvent, as_job, columns_without, in_state, job_events, jobs
from models.redrives import TYPE as REDRIVE
from models.states import State
from models.tenancy import beside_tenant, of_tenant

_c = jobs.c


class Died(NamedTuple):
    """A dead letter's place in the list."""

    at: datetime
    id: UUID


@dataclass(frozen=True)
class DeadFilter:
    """Which dead letters a list shows; None means any. A `tenant_id` of None is the whole installation.

    `group` is a type and a fingerprint; the times are from `died_after` on, and before `died_before`. Of an endpoint
    are the webhook deliveries to it.
    """

    tenant_id: UUID | None
    type: str | None = None
    queue: str | None = None
    error_type: str | None = None
    group: tuple[str, str] | None = None
    died_after: datetime | None = None
    died_before: datetime | None = None
    oldest_first: bool = False
    endpoint_id: UUID | None = None


@dataclass(frozen=True)
class DeadPage:
    """Dead letters, and behind which the next page goes on, if this one ends early for having looked at enough."""

    jobs: list[Job]
    goes_on_behind: Died | None = None


def list_dead(
    session: Session, wanted: DeadFilter, behind: Died | None, limit: int, *, without: frozenset[str] = frozenset()
) -> DeadPage:
    """Dead letters, those that died last first unless the oldest are wanted first, `without` some of DOCUMENTS."""
    walk, besides = _walk(wanted, behind)
    if not besides:
        return DeadPage(_jobs(session, walk.with_only_columns(*columns_without(without)).limit(limit)))
    most = max(limit, lists.LOOKED_AT)
    met = walk.limit(literal(most, literal_execute=True)).subquery("met")
    query = select(*columns_without(without)).join(met, met.c.id == _c.id).where(*besides)
    page = query.order_by(*_order(wanted, met.c)).limit(limit).cte("page")
    rows = [dict(row) for row in session.execute(_with_end(page, walk, most, wanted)).mappings()]
    (end,) = {(row.pop("looked_until_at"), row.pop("looked_until")) for row in rows}
    found = [as_job(row) for row in rows if row["id"] is not None]
    return DeadPage(found, Died(*end) if end[1] is not None and len(found) < limit else None)


def _with_end(page: CTE, walk: Select[Any], most: int, wanted: DeadFilter) -> Select[Any]:
    """The page's rows, or one without a job, each with the place where the walk ended, if it looked at `most`.

    One statement, as in lists.py: an end that is asked for later lies behind jobs that nobody looked at.
    """
    end, base = walk.offset(most - 1).limit(1).subquery("ended"), select(literal(1)).subquery("look")
    rows = select(end.c.finished_at.label("looked_until_at"), end.c.id.label("looked_until"), *page.c)
    rows = rows.select_from(base.outerjoin(end, true()).outerjoin(page, true()))
    return rows.order_by(*_order(wanted, page.c))


def attempts_of(session: Session, job_id: UUID, limit: int) -> list[JobEvent]:
    """What a job's last failed or lost attempts came to, oldest first, those before a redrive too."""
    c = job_events.c
    query = select(*(c[field.name] for field in fields(JobEvent))).where(c.job_id == job_id, c.error.is_not(None))
    rows = session.execute(query.order_by(c.id.desc()).limit(limit)).mappings().all()
    return [JobEvent(**{**row, "state": State(row["state"])}) for row in reversed(rows)]


def _walk(wanted: DeadFilter, behind: Died | None) -> tuple[Select[Any], list[ColumnElement[bool]]]:
    """Along the index of the filter that narrows most, and what is looked at besides in the jobs met there."""
    filters = _filters(wanted)
    along = filters[:1] if wanted.tenant_id is not None or wanted.endpoint_id is not None else []
    # The index of an endpoint's letters knows no tenants, and one that begins with them would seem as good.
    wall = of_tenant if wanted.endpoint_id is None else beside_tenant
    walk = select(_c.finished_at, _c.id).where(
        in_state(State.DEAD),
        _c.finished_at.is_not(None),
        wall(_c.tenant_id, wanted.tenant_id),
        *along,
        *_times(wanted),
    )
    if behind is not None:
        here, there = (
            tuple_(_c.finished_at, _c.id),
            tuple_(literal(behind.at, UtcTime()), literal(behind.id, _c.id.type)),
        )
        walk = walk.where(here > there if wanted.oldest_first else here < there)
    return walk.order_by(*_order(wanted, _c)), filters[len(along) :]


def count_dead(session: Session, wanted: DeadFilter) -> int:
    """How many dead letters match now. It looks at each of them, so no list asks this."""
    return session.scalars(select(func.count()).select_from(jobs).where(*matches(wanted))).one()


def matches(wanted: DeadFilter, of: FromClause = jobs) -> list[ColumnElement[bool]]:
    """What a job must be for the filter to match it, whatever the order. A redrive that died is meant by name only."""
    return [
        in_state(State.DEAD, of=of),
        of.c.finished_at.is_not(None),
        of_tenant(of.c.tenant_id, wanted.tenant_id),
        *_filters(wanted, of),
        *_times(wanted, of),
        *([] if wanted.type or wanted.group else [of.c.type != REDRIVE]),
    ]


def _times(wanted: DeadFilter, of: FromClause = jobs) -> list[ColumnElement[bool]]:
    after, before = wanted.died_after, wanted.died_before
    return [
        *([] if after is None else [of.c.finished_at >= after]),
        *([] if before is None else [of.c.finished_at < before]),
    ]


def _filters(wanted: DeadFilter, of: FromClause = jobs) -> list[ColumnElement[bool]]:
    """The filters that are set, those that narrow most first."""
    c = of.c
    job_type, fingerprint = wanted.group or (None, None)
    filters = [
        None if wanted.endpoint_id is None else c.gate_id == wanted.endpoint_id,
        (c.type == job_type) & (c.fingerprint == fingerprint) if wanted.group else None,
        None if wanted.error_type is None else c.error_type == wanted.error_type,
        None if wanted.type is None else c.type == wanted.type,
        None if wanted.queue is None else c.queue == wanted.queue,
    ]
    return [condition for condition in filters if condition is not None]


def _order(wanted: DeadFilter, columns: Any) -> list[ColumnElement[Any]]:
    return [column if wanted.oldest_first else column.desc() for column in (columns.finished_at, columns.id)]


def _jobs(session: Session, query: Select[Any]) -> list[Job]:
    return [as_job(row) for row in session.execute(query).mappings()]
