"""The long-running processes: up, api, dispatcher, worker; and the database's tables."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

import settings as settings_module
from cli import compose, logs, metrics_port
from cli.starting import importing, keep_one_heap
from models import crashpoints
from settings import Settings

if TYPE_CHECKING:
    from socket import socket

    from models.database import Database

_SPARE_CONNECTIONS = 4
_PARENT_CONNECTIONS = 1  # for its registrar's one thread


def _load(**flags: Any) -> Settings:
    loaded = settings_module.load(**flags)
    logs.set_up(loaded)
    crashpoints.arm(loaded.faults or "")
    return loaded


@click.command()
@click.option("--host", help="Address to listen on (JOBMILL_HOST).")
@click.option("--port", type=int, help="Port to listen on (PORT).")
@click.option("--threads", type=int, help="Jobs to run at once (JOBMILL_THREADS).")
@click.option("--demo", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Run csv.profile on FILE.")
def up(demo: Path | None, **flags: Any) -> None:
    """Run everything in one process, on SQLite, with nothing else to install."""
    with importing():
        from cli.demo import show, tell_where
        from cli.embedded import embedded
        from cli.stopping import StopSignal

    loaded = _load(**flags, **({"log_level": "WARNING", "log_format": "console"} if demo else {}))
    stop = StopSignal()
    with embedded(loaded) as running:
        if demo and not stop.event.is_set():
            show(running, demo)
        tell_where(running)
        stop.wait()
        click.echo("Stopping: running jobs may finish; the rest waits for the next start.", err=True)


@click.command()
@click.option("--host", help="Address to listen on (JOBMILL_HOST).")
@click.option("--port", type=int, help="Port to listen on (PORT).")
@click.option("--processes", "api_processes", type=int, help="Server processes (JOBMILL_API_PROCESSES).")
@click.option("--threads", "api_threads", type=int, help="Requests at once per process (JOBMILL_API_THREADS).")
@click.option("--grace-seconds", type=float, help="How long to finish requests (JOBMILL_GRACE_SECONDS).")
def api(**flags: Any) -> None:
    """Run the HTTP API."""
    loaded = _load(**flags)
    with metrics_port.shared(loaded) as listener:
        _serve_api(loaded, listener)


def _serve_api(loaded: Settings, listener: "socket | None") -> None:
    with importing():
        from cli.serving import Gunicorn
        from jobs import api_keys

    keep_one_heap()
    compose.registry(loaded)
    database = compose.full_database(loaded, "api", 2)
    if loaded.bootstrap_api_key is not None:
        token = loaded.bootstrap_api_key.get_secret_value()
        with database.transaction() as session:
            api_keys.ensure_bootstrap_key(session, api_keys.pepper(session, loaded), token)
    database.close()

    def make() -> Any:
        metrics_port.serve(listener)
        # Half as many for transactions: requests that wait for a lock in one leave threads to the others.
        own = compose.api_database(loaded, loaded.api_threads + _SPARE_CONNECTIONS, max(2, loaded.api_threads // 2))
        return compose.api_app(loaded, own, compose.registry(loaded), compose.doorbell(loaded))

    Gunicorn(loaded, make).run()


@click.command()
@click.option("--grace-seconds", type=float, help="How long to finish steps (JOBMILL_GRACE_SECONDS).")
def dispatcher(**flags: Any) -> None:
    """Run the dispatcher. Any number may run: one leads, the others stand by."""
    with importing():
        from cli.stopping import StopSignal
        from workers.dead_queues import DeadQueuesDoor
        from workers.dispatcher import Dispatcher, served_queues
        from workers.publisher import Publisher

    loaded = _load(**flags)
    stop = StopSignal()
    compose.database_url(loaded, "dispatcher")
    urls, name = compose.brokers(loaded, "dispatcher"), "jobmill dispatcher"
    publisher = Publisher(urls, loaded.queue_prefix, name)
    database = compose.full_database(loaded, "dispatcher", _SPARE_CONNECTIONS + 2)
    compose.check_queues(loaded, "dispatcher", served_queues(database, compose.served_queues(loaded)))
    metrics_port.serve(metrics_port.take(loaded))
    publisher.start()
    running = Dispatcher(
        database,
        publisher,
        compose.retention(loaded),
        compose.hear_doorbell(loaded),
        archive=compose.archive(loaded),
        dead_queues=DeadQueuesDoor(urls, loaded.queue_prefix, f"{name} dead letters"),
        configured=compose.served_queues(loaded),
        gate_width=loaded.webhook_concurrency,
    )
    running.start()
    stop.wait()
    running.stop(min(loaded.grace_seconds, 10))
    publisher.stop()
    database.close()


_queues = click.option("--queues", help="Queues to take jobs from, comma-separated (JOBMILL_QUEUES).")
_threads = click.option("--threads", type=int, help="Jobs a process runs at once (JOBMILL_THREADS).")
_grace = click.option("--grace-seconds", type=float, help="How long running jobs may finish (JOBMILL_GRACE_SECONDS).")


@click.command()
@_queues
@_threads
@click.option("--processes", type=int, help="Processes to run them in (JOBMILL_PROCESSES).")
@_grace
def worker(processes: int | None, **flags: Any) -> None:
    """Run a worker: processes that do jobs, and a parent that watches over them."""
    from cli.stopping import StopSignals
    from models.database import connect_postgresql

    loaded = _load(processes=processes, **flags)
    stop = StopSignals()
    url = compose.database_url(loaded, "worker")
    compose.brokers(loaded, "worker")
    with metrics_port.shared(loaded) as listener:
        metrics_port.serve(listener)
        database = connect_postgresql(url, "jobmill worker parent", _PARENT_CONNECTIONS)
        refusal = compose.parent(loaded, database, flags).run(stop)
        database.close()
    sys.exit(refusal or stop.exit_code)


@click.command()
@click.option("--slot", type=int, required=True)
@click.option("--worker-id", type=UUID, required=True)
@click.option("--report-to", type=int, required=True)
@click.option("--slate", type=int)
@click.option("--first", type=bool, required=True)
@click.option("--replaces", type=bool, required=True)
@_queues
@_threads
@_grace
def worker_child(
    slot: int, worker_id: UUID, report_to: int, slate: int | None, *, first: bool, replaces: bool, **flags: Any
) -> None:
    """Run one process of a worker; `jobmill worker` starts these."""
    from cli.stopping import StopSignal
    from models.database import connect_postgresql

    parent_pid = os.getppid()
    stop = StopSignal(patient=True)
    loaded = _load(**flags)
    if replaces:
        crashpoints.arm("")
    metrics_port.count_as(f"child{slot}")
    from workers.child import Watched
    from workers.report import Reporter
    from workers.slate import Slate, received

    # A parent of an earlier release hands over none.
    own = Slate() if slate is None else received(slate)
    reporter = Reporter(report_to, stop.event.set)
    reporter.start()
    known = compose.registry(loaded)
    # A handler that uses context.session holds a connection while its progress needs another.
    connections = loaded.threads + _SPARE_CONNECTIONS
    database = connect_postgresql(compose.database_url(loaded, "worker"), "jobmill worker", connections)
    compose.check_queues(loaded, "worker", compose.served_queues(loaded))
    watched = Watched(worker_id, parent_pid, reporter.orphaned, own)
    running = compose.full_worker(loaded, database, known, watched)
    if compose.start_working(loaded, running, stop.event, waits=not first):
        reporter.source = running.report
        stop.wait()
        running.stop(loaded.grace_seconds)
    database.close()
    reporter.tell_of_the_end()


@click.group()
def db() -> None:
    """Make and check the database's tables."""


@db.command()
def upgrade() -> None:
    """Bring the tables to this release; safe to run twice, and while older processes run."""
    from models import migrate

    database = _database()
    click.echo(f"The tables are at revision {migrate.upgrade(database)}.")


@db.command()
def current() -> None:
    """Say which revision the tables are at."""
    from models import migrate

    click.echo(migrate.current(_database()) or "none")


@db.command()
def check() -> None:
    """Compare the tables with this release; exit code 2 if they differ."""
    from models import migrate

    migrate.check(_database())
    click.echo("The tables are those of this release.")


def _database() -> "Database":
    from models.database import connect_postgresql

    loaded = _load()
    if loaded.database_url is None:
        loaded.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return compose.embedded_database(loaded, 2)
    return connect_postgresql(loaded.database_url.get_secret_value(), "jobmill db", 2)
