"""The metrics port: one page for all processes of a command, however many there are.

Processes that share a page count in files of one directory, which the first of them makes and removes.
"""

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from cli import ports
from settings import BadSetting, Settings

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own variable, which processes that we start inherit."""


@contextmanager
def shared(settings: Settings) -> Iterator[socket.socket | None]:
    """The port, taken, for this process and those it starts, which all count in one place; None: there is no port."""
    listener = take(settings)
    if listener is None:
        yield None
        return
    os.environ[DIRECTORY] = directory = tempfile.mkdtemp(prefix="jobmill-metrics-")
    owner = os.getpid()
    _count_in_files()
    try:
        yield listener
    finally:
        if os.getpid() == owner:  # a forked server process leaves by this way too
            shutil.rmtree(directory, ignore_errors=True)


def _count_in_files() -> None:
    """Have those metrics begin anew that this process has imported already: where they count was decided by that."""
    from prometheus_client import REGISTRY, values
    from prometheus_client.metrics import MetricWrapperBase

    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
    for metric in REGISTRY._collector_to_names:  # noqa: SLF001 - there is no public way
        if isinstance(metric, MetricWrapperBase) and metric._is_observable():  # type: ignore[no-untyped-call]  # noqa: SLF001
            metric._metric_init()  # type: ignore[no-untyped-call]  # noqa: SLF001


def count_as(name: str) -> None:
    """Go on counting where the last process of that name left off, so that restarts leave no files behind."""
    if DIRECTORY in os.environ:
        from prometheus_client import values

        _keep_directory()
        values.ValueClass = values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]


def forget(pid: int) -> None:
    """A process that counted under its id is gone."""
    if DIRECTORY in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def take(settings: Settings) -> socket.socket | None:
    """Listen on the metrics port, if there is one. Raises BadSetting if it is taken."""
    if settings.metrics_port is None:
        return None
    try:
        return ports.listen(settings.host, settings.metrics_port)
    except OSError as error:
        why = f"Cannot serve metrics on port {settings.metrics_port}: {error}."
        raise BadSetting(f"{why} Choose another port in JOBMILL_METRICS_PORT.") from None


def serve(listener: socket.socket | None) -> None:
    """Answer on that port from a thread of this process. Several processes may share a port: any tells of all."""
    if listener is None:
        return
    from prometheus_client import make_wsgi_app

    _keep_directory()
    server = _Server(listener.getsockname()[:2], _Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    listener.setblocking(False)  # of the processes that wake for a caller, one gets it
    server.server_name, server.server_port = listener.getsockname()[:2]
    server.setup_environ()
    server.set_app(make_wsgi_app(_registry()))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def _keep_directory() -> None:
    """Make it again for a process that starts after someone tidied up the temporary files."""
    if directory := os.environ.get(DIRECTORY):
        Path(directory).mkdir(mode=0o700, exist_ok=True)


def _registry() -> Any:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    if DIRECTORY not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
        """Say nothing of scrapes."""
