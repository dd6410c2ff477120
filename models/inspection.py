"""What somebody asks who looks whether all is well: clocks, what waits and what lies too long, and broken indexes.

None of it grows with finished jobs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Index, select, text
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateIndex

from models.dialect import POSTGRESQL, dialect_of, index_names, now
from models.job import in_state, jobs
from models.states import State

_c = jobs.c
_UUID7_TIME_SHIFT = 80  # the first 48 of its 128 bits are milliseconds since 1970 (RFC 9562, 5.7)

_INVALID = text(
    "SELECT i.relname AS name, t.relname AS of_table FROM pg_index x"
    " JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid"
    " JOIN pg_namespace n ON n.oid = t.relnamespace"
    " WHERE n.nspname = current_schema() AND NOT x.indisvalid ORDER BY i.relname"
)


@dataclass(frozen=True)
class BrokenIndex:
    """An index that no statement can use: what is wrong with it, and the statement that mends it."""

    name: str
    table: str
    what: str
    remedy: str


def clock(session: Session) -> datetime:
    """The database's time."""
    return session.execute(select(now())).scalar_one()


def made_at(uuid7: UUID) -> datetime:
    """When an id was made, by the clock of whoever made it."""
    return datetime.fromtimestamp((uuid7.int >> _UUID7_TIME_SHIFT) / 1000, UTC)


def waiting_queues(session: Session) -> list[str]:
    """The queues in which a job waits, due or not: an index probe for each, however many jobs there are."""
    waiting = select(_c.queue).where(in_state(State.QUEUED)).order_by(_c.queue).limit(1)
    first = select(waiting.scalar_subquery().label("queue")).cte("found", recursive=True)
    following = waiting.where(_c.queue > first.c.queue).scalar_subquery()
    found = first.union_all(select(following).where(first.c.queue.is_not(None)))
    return list(session.scalars(select(found.c.queue).where(found.c.queue.is_not(None))))


def longest_final(session: Session, state: State) -> timedelta | None:
    """For how long the oldest job of a final state has been in it; None if there is none."""
    query = select(_c.finished_at, now()).where(in_state(state), _c.finished_at.is_not(None))
    row = session.execute(query.order_by(_c.finished_at).limit(1)).one_or_none()
    return None if row is None else row[1] - row[0]


def broken_indexes(session: Session) -> list[BrokenIndex]:
    """Indexes of this release that are missing, and those that PostgreSQL was not let finish."""
    return [*_missing(session), *(_invalid(session) if dialect_of(session) == POSTGRESQL else ())]


def _missing(session: Session) -> Iterator[BrokenIndex]:
    from models.tables import metadata

    for table in metadata.sorted_tables:
        present = index_names(session.connection(), table.name)
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if index.name not in present:
                yield BrokenIndex(str(index.name), table.name, "is missing", _making(session, index))


def _making(session: Session, index: Index) -> str:
    """The statement that makes an index, beside the work where the database can."""
    statement = " ".join(str(CreateIndex(index).compile(session.connection())).split())
    online = dialect_of(session) == POSTGRESQL
    return statement.replace(" INDEX ", " INDEX CONCURRENTLY ", 1) if online else statement


def _invalid(session: Session) -> Iterator[BrokenIndex]:
    for name, table in session.execute(_INVALID):
        yield BrokenIndex(name, table, "is invalid", f"REINDEX INDEX CONCURRENTLY {name}")
