"""The HTTP server: processes of gunicorn for `jobmill api`, the same on one thread for the embedded mode."""

import os
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIApplication

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger

from cli import metrics_port, ports
from cli.http_worker import HttpWorker
from cli.server_process import ServerProcess
from settings import BadSetting, Settings

log = structlog.get_logger(__name__)

EMBEDDED_GRACE_SECONDS = 5


class PlainLogger(Logger):
    """Leaves gunicorn's lines to the process's own log handler."""

    def setup(self, cfg: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """Install nothing."""
        self.error_log.propagate = True
        self.access_log.propagate = False


class Gunicorn(BaseApplication):
    """Serves what `make` gives; it is called in each process, after the fork, so that no connection is shared."""

    def __init__(self, settings: Settings, make: Callable[[], WSGIApplication]) -> None:
        self.settings = settings
        self.make = make
        super().__init__()

    def load_config(self) -> None:
        """Set what we decide; nothing is read from gunicorn's own files or variables."""
        _decide(
            self.cfg,
            self.settings,
            bind=f"{self.settings.host}:{self.settings.port}",
            workers=self.settings.api_processes,
            worker_class=ServerProcess,
            graceful_timeout=int(self.settings.grace_seconds),
            timeout=60,
            control_socket_disable=True,
            proc_name="jobmill api",
            child_exit=_forget,
        )

    def load(self) -> WSGIApplication:
        """The application of one process."""
        return self.make()

    def run(self) -> None:
        """Serve until told to stop. Raises BadSetting if the port is taken."""
        # gunicorn would say that it cannot listen in a dozen lines, none with what to do.
        _listen(self.settings).close()
        super().run()


def _decide(config: Any, settings: Settings, **more: Any) -> None:
    decided = {
        "threads": settings.api_threads + settings.api_waiting,
        "keepalive": 15,
        "limit_request_line": 8190,  # the most there is: a list with all its filters can have 7 KB
        "logger_class": PlainLogger,
        # Whom to believe in headers the application decides: gunicorn would believe every process of this machine.
        "forwarded_allow_ips": "",
        "forwarder_headers": "",
        "secure_scheme_headers": {},
        **more,
    }
    for name, value in decided.items():
        config.set(name, value)


def _forget(_arbiter: Any, worker: Any) -> None:
    metrics_port.forget(worker.pid)


class _OnAThread(HttpWorker):
    """A process's worker without the process: no signals, no parent, and nobody who looks whether it lives."""

    def __init__(self, config: Config, listener: socket.socket, app: WSGIApplication) -> None:
        super().__init__(0, os.getpid(), [listener], None, 0, config, PlainLogger(config))
        self.tmp.close()  # what it would tell its parent by
        self.wsgi = app
        self.tpool = self.get_thread_pool()
        self.poller = selectors.DefaultSelector()
        self.method_queue.init()

    def notify(self) -> None:
        """Tell nobody."""

    def is_parent_alive(self) -> bool:
        """There is none."""
        return True

    def serve(self) -> None:
        """Answer until told to stop, and then what has begun; cut off whoever is not done in time."""
        try:
            self.run()
        except Exception as error:
            log.critical("http_server_failed", exc_info=error)
        self.cut_off()


class EmbeddedServer:
    """gunicorn's threads without its processes: listen(), serve(), stop()."""

    def __init__(self, settings: Settings, app: WSGIApplication) -> None:
        self.settings = settings
        self.app = app
        self.worker: _OnAThread | None = None
        self.thread: threading.Thread | None = None

    def listen(self) -> str:
        """Take the port; gives the address. Whoever connects waits until serve(). Raises BadSetting if it is taken."""
        listener = _listen(self.settings)
        config = Config()
        _decide(config, self.settings, graceful_timeout=EMBEDDED_GRACE_SECONDS)
        self.worker = _OnAThread(config, listener, self.app)
        host, port = listener.getsockname()[:2]
        return f"http://{host}:{port}"

    def serve(self) -> None:
        """Begin to answer."""
        if self.worker is not None:
            self.thread = threading.Thread(target=self.worker.serve, name="http", daemon=True)
            self.thread.start()

    def stop(self) -> None:
        """Answer what has begun, then close. Does nothing the second time."""
        worker, self.worker = self.worker, None
        if worker is None:
            return
        worker.handle_exit(0, None)
        if self.thread is None:
            worker.serve()  # which ends at once, with the port given back
        else:
            self.thread.join(2 * EMBEDDED_GRACE_SECONDS)


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        return ports.listen(host, port)
    except OSError as error:
        raise _cannot_listen(host, port, error) from None


def _cannot_listen(host: str, port: int, error: OSError) -> BadSetting:
    return BadSetting(f"Cannot listen on {host}:{port}: {error}. Choose another port, for example PORT=8001.")
