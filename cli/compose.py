"""Putting processes together from their parts: the one place that knows every folder."""

import os
import socket
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.types import WSGIApplication

from sqlalchemy.orm import Session

from cli.database import DATABASE_FILE
from cli.starting import importing
from jobs import api_keys, redrives, secret_key
from jobs import registry as job_registry
from jobs.context import Pepper
from jobs.registry import Registry
from models import migrate
from models.database import Database, connect_postgresql, connect_sqlite, postgresql_connector
from models.doorbell import Doorbell, NotifyDoorbell, listen
from models.errors import Unavailable
from models.states import State
from settings import BadSetting, Settings

if TYPE_CHECKING:
    from jobs.outbound import Outbound
    from workers.archive import Archive
    from workers.child import Watched, WorkerProcess
    from workers.parent import Parent

VERSION = version("jobmill")


def database_url(settings: Settings, role: str) -> str:
    """PostgreSQL's address, or BadSetting."""
    if settings.database_url is None:
        raise BadSetting(
            f"`jobmill {role}` needs DATABASE_URL, for example postgresql://jobmill:secret@localhost/jobmill. "
            "Without a PostgreSQL run `jobmill up`, which does everything in one process."
        )
    return settings.database_url.get_secret_value()


def full_database(settings: Settings, role: str, pool_size: int, transactions: int | None = None) -> Database:
    """PostgreSQL as the settings say, with this release's tables and these settings' secret key.

    Raises BadSetting, SchemaMismatch, WrongSecretKey, Unavailable.
    """
    database = connect_postgresql(database_url(settings, role), f"jobmill {role}", pool_size, transactions)
    migrate.require(database)
    require_secret_key(settings, database)
    return database


def require_secret_key(settings: Settings, database: Database) -> None:
    """Raises WrongSecretKey unless the installation's secret key is that of the settings."""
    database.run(lambda session: secret_key.require(session, settings))


def api_database(settings: Settings, statements: int, transactions: int) -> Database:
    """PostgreSQL for one process of the API, which asks for nothing yet: it can start while the database is away."""
    return connect_postgresql(database_url(settings, "api"), "jobmill api", statements, transactions, prompt=True)


def embedded_database(settings: Settings, pool_size: int) -> Database:
    """The SQLite file in the data directory."""
    return connect_sqlite(settings.data_dir / DATABASE_FILE, pool_size)


def brokers(settings: Settings, role: str) -> tuple[str, ...]:
    """RabbitMQ's addresses, or BadSetting."""
    if not settings.rabbitmq_urls:
        raise BadSetting(f"`jobmill {role}` needs RABBITMQ_URL, for example amqp://jobmill:secret@localhost:5672/%2F")
    return settings.rabbitmq_urls


def check_queues(settings: Settings, role: str, queues: Iterable[str]) -> None:
    """See that these queues are, or make them, as this release needs them. Raises WrongQueue, BadSetting."""
    from workers import drift

    drift.check(brokers(settings, role), queue_names(settings, queues))


def queue_names(settings: Settings, queues: Iterable[str]) -> list[str]:
    """The names in RabbitMQ of those queues of jobs."""
    from workers import topology

    return [topology.queue_name(settings.queue_prefix, queue) for queue in queues]


def served_queues(settings: Settings) -> tuple[str, ...]:
    """What a worker takes jobs from: its own queues, and that of redrives, which need somebody everywhere."""
    return tuple(dict.fromkeys([*settings.queues, redrives.QUEUE]))


def registry(settings: Settings) -> Registry:
    """The shipped job types and the user's own. Raises BadSetting when one of their modules cannot be imported."""
    if settings.job_modules:
        # At the end, so that a user's own `models` or `settings` cannot take the place of ours.
        sys.path.append(str(Path.cwd()))
    try:
        with importing():
            return job_registry.load(settings.job_modules)
    except (Exception, SystemExit) as error:  # a script that was made a module may end what imports it
        names = ",".join(settings.job_modules)
        raise BadSetting(f"JOBMILL_JOBS={names} cannot be loaded: {type(error).__name__}: {error}") from error


def outbound(settings: Settings) -> "Outbound":
    """The guarded way out for handlers."""
    from jobs.outbound import Outbound

    return Outbound(settings.webhook_allowed_networks, settings.webhook_allow_http)


def pepper(settings: Settings) -> Pepper:
    """Gives what secrets are sealed with, which may be kept in the database."""
    return lambda session: api_keys.pepper(session, settings)


def retention(settings: Settings) -> dict[State, timedelta]:
    """How long final jobs are kept; states that are kept for ever are left out."""
    days = {
        State.SUCCEEDED: settings.retain_succeeded_days,
        State.CANCELLED: settings.retain_cancelled_days,
        State.DEAD: settings.retain_dead_days,
        State.DISCARDED: settings.retain_discarded_days,
    }
    return {state: timedelta(days=kept) for state, kept in days.items() if kept > 0}


def archive(settings: Settings) -> "Archive | None":
    """Where letters are written down before they are pruned, if they are."""
    from workers.archive import Archive

    return None if settings.archive_dir is None else Archive(settings.archive_dir)


def doorbell(settings: Settings) -> Doorbell:
    """The full mode's way to wake the dispatcher."""
    if settings.database_url is None:
        raise BadSetting("There is no DATABASE_URL to ring through.")
    return NotifyDoorbell(postgresql_connector(settings.database_url.get_secret_value(), "jobmill doorbell"))


def hear_doorbell(settings: Settings) -> threading.Event:
    """An event that is set at each ring of any process."""
    event = threading.Event()
    if settings.database_url is not None:
        listen(postgresql_connector(settings.database_url.get_secret_value(), "jobmill dispatcher bell"), event)
    return event


def api_app(settings: Settings, database: Database, known: Registry, bell: Doorbell) -> WSGIApplication:
    """The Flask application."""
    with importing():
        from api.app import create_app
        from api.services import Services

        if settings.redis_url is not None:  # or the first requests would wait for it
            import api.shared_redis  # noqa: F401

    return create_app(Services(settings, database, known, bell, VERSION))


def let_go(app: Any) -> None:
    """Have the application answer those at once that wait for a job; it takes nobody to wait any more."""
    app.extensions["jobmill"].watcher.stop()


def full_worker(settings: Settings, database: Database, known: Registry, watched: "Watched") -> "WorkerProcess":
    """One process of a worker on RabbitMQ."""
    with importing():
        from workers import topology
        from workers.broker import JobmillBroker
        from workers.child import WorkerPlan, WorkerProcess

    broker = JobmillBroker(brokers(settings, "worker"), "jobmill worker")
    served = served_queues(settings)
    names = tuple(topology.queue_name(settings.queue_prefix, queue) for queue in served)
    plan = WorkerPlan(served, names, settings.threads, VERSION)
    return WorkerProcess(
        database, broker, known, outbound(settings), doorbell(settings), plan, watched=watched, pepper=pepper(settings)
    )


def start_working(settings: Settings, running: "WorkerProcess", stop: threading.Event, *, waits: bool) -> bool:
    """Start a worker's process, once its database is there if it `waits`; False when it was stopped before that.

    Raises SchemaMismatch, WrongSecretKey, and Unavailable unless it waits.
    """
    while not stop.is_set():
        try:
            migrate.require(running.database)
            require_secret_key(settings, running.database)
            running.start()
        except Unavailable:
            if not waits:
                raise
            stop.wait(1.0)
        else:
            return True
    return False


def parent(settings: Settings, database: Database, flags: Mapping[str, object]) -> "Parent":
    """The parent of a worker's processes, which are given the same flags."""
    with importing():
        from models import worker
        from workers.parent import Birth, Parent
        from workers.registrar import Living, Registrar

    host = socket.gethostname()

    def register(session: Session, child: Living) -> None:
        worker.register(
            session,
            child.worker_id,
            host=host,
            pid=child.pid,
            queues=served_queues(settings),
            threads=settings.threads,
            version=VERSION,
            parent_pid=os.getpid(),
            consuming=child.consuming,
        )

    def command(birth: Birth) -> list[str]:
        # -P: a user's own `cli` or `settings` in the working directory must not take the place of ours.
        return [sys.executable, "-P", "-m", "cli.main", "worker-child", *_words(asdict(birth)), *_words(flags)]

    registrar = Registrar(database, f"parent:{host}:{os.getpid()}", doorbell(settings), register)
    return Parent(command, settings.processes, settings.grace_seconds, registrar)


def _words(flags: Mapping[str, object]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in flags.items() if value is not None]
