"""Handlers that do as a test tells them, and an executor that runs them on a database lent for a whole module."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import BaseModel
from sqlalchemy import Engine, event, text

from jobs.context import Context
from jobs.outbound import Outbound
from jobs.registry import Registry, job
from jobs.retry import Steps
from models import worker
from models.database import Database, connect_postgresql, connect_sqlite
from models.dialect import POSTGRESQL
from models.doorbell import LocalDoorbell
from models.ids import new_id
from models.job import Ref
from models.states import State
from tests.factories import history_of, job_in, row_of, unique
from workers.executor import Executor
from workers.flow import Flow

POOL_SIZE = 16
WAIT = 10.0
"""Seconds that the policy of `test.do` waits, without jitter."""

types = Registry()
_told: dict[str, Callable[[Context], Any]] = {}

Behaviour = Callable[[Context], Any]


class Told(BaseModel):
    key: str


@job("test.do", retry=Steps((timedelta(seconds=WAIT),), jitter=0), into=types)
def do(args: Told, context: Context) -> Any:
    """Do what the test told under this key."""
    return _told[args.key](context)


def told(behaviour: Behaviour) -> dict[str, str]:
    """Arguments with which `test.do` behaves like that."""
    key = unique("behaviour")
    _told[key] = behaviour
    return {"key": key}


def lent_database(request: pytest.FixtureRequest, dialect: str) -> Iterator[Database]:
    """A fresh database for as long as a fixture lasts, with a table of the handlers' own."""
    if dialect == POSTGRESQL:
        server = request.getfixturevalue("postgresql_server")
        name = server.create(request.getfixturevalue("postgresql_template"))
        database = connect_postgresql(server.url_of(name), "jobmill-tests", POOL_SIZE)
    else:
        path = request.getfixturevalue("tmp_path_factory").mktemp("lent") / "jobmill.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        database = connect_sqlite(path, POOL_SIZE)
    with database.transaction() as session:
        session.execute(text("CREATE TABLE effects (job text NOT NULL, note text NOT NULL)"))
    yield database
    database.close()
    if dialect == POSTGRESQL:
        server.drop(name)


def leading(**other: Any) -> Any:
    """The leadership of a process that leads, and has for long, as a duty sees it."""
    usual = {"held": True, "in_motion": True, "listened_seconds": 3600.0, "holder": new_id(), "wake": threading.Event()}
    return SimpleNamespace(**usual | other)


def counted(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0


@contextmanager
def statements() -> Iterator[list[str]]:
    """Whatever is sent to any database while the block lasts."""
    seen: list[str] = []

    def see(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", see)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", see)


def write_effect(context: Context, note: str = "done") -> None:
    context.session.execute(text("INSERT INTO effects VALUES (:job, :note)"), {"job": context.job_id.hex, "note": note})


class Bench:
    """An executor of one worker. `rung` is set when it woke the dispatcher."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.worker_id = new_id()
        self.rung = threading.Event()
        self.flow = Flow(4)
        self.executor = Executor(database, types, self.worker_id, Outbound(), LocalDoorbell(self.rung), self.flow)

    def register(self, *queues: str, threads: int = 4) -> None:
        with self.database.transaction() as session:
            worker.register(
                session, self.worker_id, host="test", pid=1, queues=queues or ("default",), threads=threads, version="0"
            )

    def plant(self, behaviour: Behaviour | None = None, state: State = State.DISPATCHED, **columns: Any) -> Ref:
        """A job on the broker, of 5 attempts the third of which begins, that behaves like that."""
        asked = {"type": "test.do", "args": told(behaviour)} if behaviour else {}
        return self.database.run(lambda session: job_in(session, state, **{**asked, **columns}))

    def run(self, behaviour: Behaviour, **columns: Any) -> dict[str, Any]:
        """The job's row after its attempt."""
        ref = self.plant(behaviour, **columns)
        self.executor.run([ref])
        return self.row(ref)

    def row(self, ref: Ref) -> dict[str, Any]:
        with self.database.reading() as session:
            return row_of(session, ref)

    def history(self, job: Ref | dict[str, Any]) -> list[dict[str, Any]]:
        with self.database.reading() as session:
            return history_of(session, job if isinstance(job, Ref) else job["id"])

    def effects(self, job: Ref | dict[str, Any]) -> list[str]:
        job_id = job.id if isinstance(job, Ref) else job["id"]
        with self.database.reading() as session:
            return list(
                session.scalars(text("SELECT note FROM effects WHERE job = :job ORDER BY note"), {"job": job_id.hex})
            )
