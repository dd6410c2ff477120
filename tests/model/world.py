"""The real database that the model runs on, with a clock that stands still until a rule moves it.

Every statement of the product asks the database for the time by one function. On SQLite that function is the
product's own, and another is put in its place; on PostgreSQL a schema that is searched before the catalogue has one of
the same name. So no row is touched to make time pass, time can also step back, and each moment is known exactly.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import delete, event, func, select, text

from models import webhook_endpoints
from models.database import Database, connect_postgresql, connect_sqlite
from models.dead_groups import dead_groups
from models.ids import new_id
from models.job import job_events, jobs
from models.moves.telling import EVENTS
from models.states import Move, State
from models.webhook_deliveries import TYPE as DELIVERY
from models.webhook_deliveries import webhook_deliveries
from models.worker import workers
from tests.factories import tenant_id_of
from tests.model.reference import Entry, Row

BEGINNING = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROW = [jobs.c[field.name] for field in fields(Row)]
_ENTRY = [job_events.c[field.name] for field in fields(Entry)]

LISTENS: dict[str, Any] = {
    "url": "https://example.com/told",
    "events": list(EVENTS.values()),
    "types": None,
    "description": "",
    "enabled": True,
    "created_by": "model",
}

_OUR_CLOCK = """
    CREATE SCHEMA model;
    CREATE TABLE model.clock (now timestamptz NOT NULL);
    CREATE FUNCTION model.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT now FROM model.clock';
    ALTER DATABASE {name} SET search_path = model, public, pg_catalog;
    ALTER DATABASE {name} SET synchronous_commit = off;
"""


class World:
    """A database, its clock, and what is in it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = BEGINNING
        with database.transaction() as session:
            self.tenants = [tenant_id_of(session, "ours"), tenant_id_of(session, "theirs")]
        self.listener: UUID | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """One of the tenants is told of each end by webhooks, for as long as the block lasts; the other is not."""
        endpoint_id, self.listener = new_id(), self.tenants[0]
        with self.database.transaction() as session:
            webhook_endpoints.add(session, endpoint_id, self.listener, **LISTENS)
        try:
            yield
        finally:
            self.listener = None
            with self.database.transaction() as session:
                webhook_endpoints.remove(session, endpoint_id)

    def reset(self) -> None:
        """Empty the database and begin the time again."""
        with self.database.transaction() as session:
            for table in (job_events, jobs, workers):
                session.execute(delete(table))
        self.set_clock(BEGINNING)

    def set_clock(self, now: datetime) -> None:
        self.now = now

    def rows(self) -> list[Row]:
        with self.database.reading() as session:
            submitted = select(*_ROW).where(jobs.c.type != DELIVERY)
            found = session.execute(submitted.order_by(jobs.c.id)).mappings()
            return [Row(**{**row, "state": State(row["state"])}) for row in found]

    def told(self) -> dict[UUID, Counter[str]]:
        """Of which ends of which jobs webhooks tell."""
        found: dict[UUID, Counter[str]] = defaultdict(Counter)
        with self.database.reading() as session:
            for job_id, event in session.execute(select(webhook_deliveries.c.job_id, webhook_deliveries.c.event)):
                found[job_id][event] += 1
        return found

    def dead_counts(self) -> dict[tuple[UUID, str], list[int]]:
        """How many are dead by each thing they died of, for each tenant and queue."""
        c = dead_groups.c
        found: dict[tuple[UUID, str], list[int]] = defaultdict(list)
        with self.database.reading() as session:
            of_each = select(c.tenant_id, c.queue, func.sum(c.count)).group_by(
                c.tenant_id, c.queue, c.type, c.fingerprint
            )
            for tenant_id, queue, count in session.execute(of_each):
                found[tenant_id, queue].append(count)
        return {key: sorted(counts) for key, counts in found.items()}

    def history(self) -> list[Entry]:
        with self.database.reading() as session:
            found = session.execute(select(*_ENTRY).order_by(job_events.c.id)).mappings()
            return [Entry(**{**row, "move": Move(row["move"]), "state": State(row["state"])}) for row in found]


class PostgresqlWorld(World):
    """Keeps the time in a table."""

    def set_clock(self, now: datetime) -> None:
        super().set_clock(now)
        with self.database.single() as session:
            session.execute(text("UPDATE model.clock SET now = :now"), {"now": now})


@contextmanager
def postgresql_world(url: str) -> Iterator[World]:
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(_OUR_CLOCK.format(name=name))
        connection.execute("INSERT INTO model.clock VALUES (%s)", [BEGINNING])
    database = connect_postgresql(url, "jobmill-model", pool_size=2)
    yield PostgresqlWorld(database)
    database.close()


@contextmanager
def sqlite_world(path: Path) -> Iterator[World]:
    database = connect_sqlite(path, pool_size=2)
    world: list[World] = []

    def microseconds() -> int:
        now = world[0].now if world else BEGINNING
        return (now - _EPOCH) // timedelta(microseconds=1)

    @event.listens_for(database.engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")
        connection.create_function("jobmill_now", 0, microseconds, deterministic=True)

    world.append(World(database))
    yield world[0]
    database.close()
