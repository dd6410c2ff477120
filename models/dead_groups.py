"""Dead letters by what they died of, and how many there are: counted by a trigger, read without counting."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    ScalarSelect,
    Select,
    SmallInteger,
    Table,
    Text,
    Uuid,
    cast,
    desc,
    exists,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.orm import Session

from models.dead_letters import DeadFilter, matches
from models.dialect import UtcTime
from models.job import in_state, jobs
from models.schema import metadata
from models.states import State
from models.tenancy import of_tenant

dead_groups = Table(
    "dead_groups",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("queue", Text, primary_key=True),
    # On PostgreSQL a count is kept in several rows: one would be waited for by all who die of the same thing at once.
    Column("part", SmallInteger, primary_key=True, autoincrement=False),
    # When the first of them died; it stays, so that pages stay, and that a death changes no index.
    Column("since", UtcTime, nullable=False),
    Column("count", BigInteger, nullable=False),
    Index("dead_groups_page", "tenant_id", "since", "type", "fingerprint"),
    Index("dead_groups_page_of_all", "since", "type", "fingerprint", "tenant_id"),
    postgresql_with={"fillfactor": "50"},
)
"""How many dead jobs there are of a fingerprint in a queue, in parts; a row goes with its last job."""

_c = jobs.c
_g = dead_groups.c


class Mark(NamedTuple):
    """Where a group stands in the list."""

    since: datetime
    type: str
    fingerprint: str
    tenant_id: UUID


@dataclass(frozen=True)
class Group:
    """The dead jobs of one type and fingerprint: how many, when the first and last of them died, and that last one."""

    mark: Mark
    count: int
    first_seen: datetime
    last_seen: datetime
    sample_id: UUID
    error: Any


@dataclass(frozen=True)
class DeadFigure:
    """How many jobs of a type are dead in a queue, and when the one died that has been so for longest."""

    queue: str
    type: str
    count: int
    oldest_at: datetime


def list_groups(session: Session, tenant_id: UUID | None, before: Mark | None, limit: int) -> list[Group]:
    """The tenant's groups (None: everybody's, tenant by tenant), the last to appear first, those behind `before`."""
    page = _page(tenant_id, before, limit).subquery("page")
    of_page = {name: page.c[name] for name in ("tenant_id", "type", "fingerprint")}
    counted = select(cast(func.sum(_g.count), BigInteger)).where(*(_g[name] == key for name, key in of_page.items()))
    last_id, last_at = (_end_of(column, newest=True, **of_page) for column in (_c.id, _c.finished_at))
    first_at = _end_of(_c.finished_at, newest=False, **of_page)
    # The first of each, as an index gives it; min and max would let the planner choose to read them all.
    query = select(*(page.c[name] for name in Mark._fields), counted.scalar_subquery(), first_at, last_at, last_id)
    rows = session.execute(query.order_by(*(page.c[name].desc() for name in Mark._fields))).all()
    found = [row for row in rows if row[-1] is not None]
    return _groups(session, found)


def groups_among(session: Session, wanted: DeadFilter, limit: int) -> list[Group]:
    """The groups of the dead letters that match, the largest first; letters of an older release have none."""
    key = {name: _c[name] for name in ("tenant_id", "type", "fingerprint")}
    ends = {"first_seen": func.min(_c.finished_at), "last_seen": func.max(_c.finished_at)}
    counted = select(
        *key.values(), func.count().label("letters"), *(end.label(name) for name, end in ends.items())
    ).where(*matches(wanted), _c.fingerprint.is_not(None))
    largest = counted.group_by(*key.values()).order_by(desc("letters"), _c.type, _c.fingerprint).limit(limit)
    found, one = largest.subquery("found"), jobs.alias("one")
    samples = select(one.c.id).where(*matches(wanted, one), *(one.c[name] == found.c[name] for name in key))
    sample = samples.order_by(one.c.finished_at.desc(), one.c.id.desc()).limit(1).scalar_subquery()
    mark = (found.c[name] for name in ("first_seen", "type", "fingerprint", "tenant_id"))
    query = select(*mark, found.c.letters, found.c.first_seen.label("first_at"), found.c.last_seen, sample)
    rows = session.execute(query.order_by(found.c.letters.desc(), found.c.type, found.c.fingerprint)).all()
    return _groups(session, rows)


def _groups(session: Session, found: Sequence[Any]) -> list[Group]:
    errors = _errors(session, [row[-1] for row in found])
    return [
        Group(Mark(*mark), count, first_seen, last_seen, sample_id, errors.get(sample_id))
        for *mark, count, first_seen, last_seen, sample_id in found
    ]


def _page(tenant_id: UUID | None, before: Mark | None, limit: int) -> Select[Any]:
    """The places of groups; one of several rows stands where the first of them appeared."""
    earlier = dead_groups.alias("earlier")
    appeared_before = exists().where(
        *(earlier.c[name] == _g[name] for name in ("tenant_id", "type", "fingerprint")),
        tuple_(earlier.c.since, earlier.c.queue, earlier.c.part) < tuple_(_g.since, _g.queue, _g.part),
    )
    order = [_g[name] for name in Mark._fields]
    page = select(*order).where(of_tenant(_g.tenant_id, tenant_id), ~appeared_before)
    if before is not None:
        page = page.where(tuple_(*order) < tuple_(*map(literal, before, [column.type for column in order])))
    return page.order_by(*(column.desc() for column in order)).limit(limit)


def _errors(session: Session, ids: Sequence[UUID]) -> dict[UUID, Any]:
    return {row.id: row.error for row in session.execute(select(_c.id, _c.error).where(_c.id.in_(ids)))}


def _end_of(column: ColumnElement[Any], *, newest: bool, **key: ColumnElement[Any]) -> ScalarSelect[Any]:
    """That column of the dead job that died last, or first, of those with such a key."""
    by = (_c.finished_at, _c.id)
    dead = select(column).where(in_state(State.DEAD), *(_c[name] == value for name, value in key.items()))
    return dead.order_by(*(one.desc() if newest else one for one in by)).limit(1).scalar_subquery()


def dead_figures(session: Session) -> list[DeadFigure]:
    """The figures of the whole installation, by queue and type."""
    oldest = _end_of(_c.finished_at, newest=False, queue=_g.queue, type=_g.type)
    query = select(_g.queue, _g.type, cast(func.sum(_g.count), BigInteger), oldest).group_by(_g.queue, _g.type)
    return [DeadFigure(*row) for row in session.execute(query.order_by(_g.queue, _g.type)) if row[3] is not None]
