"""The two HTTP servers: gunicorn for `jobmill api`, cheroot for the embedded mode, which needs one in a thread."""

import threading
from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIApplication

from cheroot.wsgi import Server
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from cli import metrics_port, ports
from cli.compose import let_go
from cli.server_process import ServerProcess
from settings import BadSetting, Settings

EMBEDDED_WAITING = 50
"""cheroot starts all its threads at once, so those for clients that wait are fewer; gunicorn's come when needed."""


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
        decided = {
            "bind": f"{self.settings.host}:{self.settings.port}",
            "workers": self.settings.api_processes,
            "threads": self.settings.api_threads + self.settings.api_waiting,
            "worker_class": ServerProcess,
            "graceful_timeout": int(self.settings.grace_seconds),
            "timeout": 60,
            "keepalive": 15,
            "limit_request_line": 8190,  # the most there is: a list with all its filters can have 7 KB
            "logger_class": PlainLogger,
            "control_socket_disable": True,
            "proc_name": "jobmill api",
            "child_exit": _forget,
        }
        for name, value in decided.items():
            self.cfg.set(name, value)  # type: ignore[union-attr]

    def load(self) -> WSGIApplication:
        """The application of one process."""
        return self.make()

    def run(self) -> None:
        """Serve until told to stop. Raises BadSetting if the port is taken."""
        # gunicorn would say that it cannot listen in a dozen lines, none with what to do.
        host, port = self.settings.host, self.settings.port
        try:
            ports.listen(host, port).close()
        except OSError as error:
            raise _cannot_listen(host, port, error) from None
        super().run()


def _forget(_arbiter: Any, worker: Any) -> None:
    metrics_port.forget(worker.pid)


class EmbeddedServer:
    """cheroot on a thread: listen(), serve(), stop()."""

    def __init__(self, settings: Settings, app: WSGIApplication) -> None:
        self.app = app
        self.server = Server(
            (settings.host, settings.port),
            app,
            numthreads=settings.api_threads + min(settings.api_waiting, EMBEDDED_WAITING),
            max=settings.api_threads + min(settings.api_waiting, EMBEDDED_WAITING),
            request_queue_size=128,
            timeout=15,
            shutdown_timeout=5,
            server_name="jobmill",
        )
        self.thread = threading.Thread(target=self.server.serve, name="http", daemon=True)

    def listen(self) -> str:
        """Take the port; gives the address. Whoever connects waits until serve(). Raises BadSetting if it is taken."""
        host, port = self.server.bind_addr
        try:
            self.server.prepare()
        except OSError as error:
            raise _cannot_listen(host, port, error) from None
        host, port = self.server.bind_addr
        return f"http://{host}:{port}"

    def serve(self) -> None:
        """Begin to answer."""
        self.thread.start()

    def stop(self) -> None:
        """Answer what has begun, then close. Does nothing the second time."""
        let_go(self.app)
        self.server.stop()
        if self.thread.is_alive():
            self.thread.join(10)


def _cannot_listen(host: str, port: int, error: OSError) -> BadSetting:
    return BadSetting(f"Cannot listen on {host}:{port}: {error}. Choose another port, for example PORT=8001.")
