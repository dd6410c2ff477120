"""`jobmill up`: the API, the dispatcher and a worker in one process on SQLite."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cli import compose, metrics_port
from cli.serving import EmbeddedServer
from jobs import api_keys
from models import migrate
from models.database import Database, lock_directory
from models.doorbell import LocalDoorbell
from settings import BadSetting, Settings
from workers.child import WorkerPlan, WorkerProcess
from workers.dispatcher import Dispatcher
from workers.duties.rescue import take_over
from workers.local_broker import LocalBroker

KEY_FILE = "api_key"
DATABASE_CONNECTIONS = 16


@dataclass(frozen=True)
class Running:
    """An embedded system that serves: where, the key to it, where that is kept (None: it was given), if it is new."""

    address: str
    token: str = field(repr=False)
    key_file: Path | None
    new: bool


@contextmanager
def embedded(settings: Settings) -> Iterator[Running]:
    """Run everything until the block ends, then drain. Raises BadSetting, AlreadyOpen, WrongSecretKey."""
    if not settings.embedded:
        raise BadSetting(
            "DATABASE_URL is set, and `jobmill up` runs on SQLite only. "
            "Unset it, or run `jobmill api`, `jobmill dispatcher` and `jobmill worker`."
        )
    registry = compose.registry(settings)
    with ExitStack() as stack:
        stack.enter_context(_locked(settings))
        database = compose.embedded_database(settings, DATABASE_CONNECTIONS + settings.threads + settings.api_threads)
        stack.callback(database.close)
        migrate.upgrade(database)
        compose.require_secret_key(settings, database)
        wake = threading.Event()
        bell = LocalDoorbell(wake)
        server = EmbeddedServer(settings, compose.api_app(settings, database, registry, bell))
        # Ports first: when one is taken, no job shall have been begun, and no key made that nobody was shown.
        address = server.listen()
        stack.callback(server.stop)
        metrics_port.serve(metrics_port.take(settings))
        token, key_file, new = _ensure_key(settings, database)
        take_over(database, "up")

        broker = LocalBroker()
        queues = tuple(dict.fromkeys([*settings.queues, *(known.queue for known in registry.all())]))
        plan = WorkerPlan(queues, queues, settings.threads, compose.VERSION)
        worker = WorkerProcess(
            database, broker, registry, compose.outbound(settings), bell, plan, pepper=compose.pepper(settings)
        )
        worker.start()
        stack.callback(worker.stop, settings.grace_seconds)
        kept, archive = compose.retention(settings), compose.archive(settings)
        width = settings.webhook_concurrency
        dispatcher = Dispatcher(database, broker, kept, wake, alone=True, archive=archive, gate_width=width)
        dispatcher.start()
        stack.callback(dispatcher.stop, 5)
        server.serve()
        # The last callback is the first. The server once more: no request while the rest stops.
        stack.callback(server.stop)
        stack.callback(worker.announce_stop)
        yield Running(address, token, key_file, new)


def _locked(settings: Settings) -> IO[str]:
    try:
        return lock_directory(settings.data_dir)
    except OSError as error:
        raise BadSetting(f"JOBMILL_DATA_DIR={settings.data_dir} cannot be used: {error.strerror}.") from None


def _ensure_key(settings: Settings, database: Database) -> tuple[str, Path | None, bool]:
    """Make sure that a key opens the doors: the given one, the kept one, or a new one, and where it is kept."""
    path = settings.data_dir / KEY_FILE
    if settings.bootstrap_api_key is not None:
        token, kept, new = settings.bootstrap_api_key.get_secret_value(), None, False
    elif path.exists():
        token, kept, new = path.read_text().strip(), path, False
    else:
        token, kept, new = api_keys.new_token(), path, True
    try:
        with database.transaction() as session:
            api_keys.ensure_bootstrap_key(session, api_keys.pepper(session, settings), token)
    except api_keys.BootstrapKeyRefused:
        if kept is None:
            raise
        raise BadSetting(
            f"The key in {path} was revoked. Delete the file, and the next start makes a new one."
        ) from None
    if new:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token + "\n")
    return token, kept, new
