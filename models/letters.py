"""Letters that have been kept long enough: read with all that happened to them, so that they are written down first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, Text, cast, func, literal, select
from sqlalchemy.orm import Session

from models.dialect import dialect_of, locked, seconds_from_now
from models.job import JOB_COLUMNS, Job, JobEvent, as_job, in_state, job_events, jobs
from models.states import State

EVENTS = 100
"""Of a letter's history, the last so many entries; of the last attempts all is among them."""

_c = jobs.c
_EVENT = tuple(job_events.c[field.name] for field in fields(JobEvent))


@dataclass(frozen=True)
class Letter:
    """A job that failed for good, or was discarded then, and its history, oldest first."""

    job: Job
    events: tuple[JobEvent, ...]


def kept_long_enough(
    session: Session, state: State, older_than: timedelta, limit: int, most_characters: int
) -> list[Letter]:
    """Up to `limit` letters that reached a final state that long ago, oldest first: one, or as many as fit together."""
    length = func.length(cast(_c.args, Text)) + func.coalesce(func.length(cast(_c.error, Text)), 0)
    old = select(_c.id, length).where(in_state(state), _c.finished_at < seconds_from_now(-older_than.total_seconds()))
    # Written out for the same reason as in `moves.prune`.
    found = session.execute(old.order_by(_c.finished_at).limit(literal(limit, literal_execute=True)))
    return _letters(session, select(*JOB_COLUMNS), list(_fitting(found.all(), most_characters)))


def held(session: Session, ids: Sequence[UUID]) -> list[Letter]:
    """Those letters as they are now, kept from changing until the transaction ends; not those that somebody changes."""
    return _letters(session, locked(select(*JOB_COLUMNS), dialect_of(session)), ids)


def _fitting(found: Sequence[Row[UUID, int]], most: int) -> Iterator[UUID]:
    total = 0
    for job_id, length in found:
        total += length
        if total > most and total > length:
            return
        yield job_id


def _letters(session: Session, query: Select[Any], ids: Sequence[UUID]) -> list[Letter]:
    found = [as_job(row) for row in session.execute(query.where(_c.id.in_(ids)).order_by(_c.id)).mappings()]
    told = _events(session, [job.id for job in found])
    return [Letter(job, told.get(job.id, ())) for job in found]


def _events(session: Session, ids: Sequence[UUID]) -> dict[UUID, tuple[JobEvent, ...]]:
    c = job_events.c
    place = func.row_number().over(partition_by=c.job_id, order_by=c.id.desc()).label("place")
    recent = select(c.job_id, *_EVENT, place).where(c.job_id.in_(ids)).subquery("recent")
    query = select(recent).where(recent.c.place <= EVENTS).order_by(recent.c.job_id, recent.c.id)
    rows = session.execute(query).mappings()
    return {job_id: tuple(map(_event, of_job)) for job_id, of_job in groupby(rows, lambda row: row["job_id"])}


def _event(row: Any) -> JobEvent:
    return JobEvent(**{column.name: row[column.name] for column in _EVENT} | {"state": State(row["state"])})
