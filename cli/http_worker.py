"""HTTP on threads, the same in both modes: gunicorn's, made stricter, and with our words where it has its own.

What of a request cannot be read is answered by the application all the same: as a problem document, with the headers
and the line in the log that every answer has.
"""

import errno
import socket
import threading
import time
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import structlog
from gunicorn.http import get_parser
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.workers.gthread import TConn, ThreadWorker

from api.refusals import answer_to
from cli import heads
from cli.arrival import Arrival, comes_within
from cli.compose import let_go

log = structlog.get_logger(__name__)

AT_ONCE_SECONDS = 0.02
"""So long a thread waits for its client's next request before it hands the connection back to the one that accepts,
from where it would come to a thread again. Only while half of the threads are free: else a busy client would keep
others from theirs."""
LINGER_SECONDS = 1.0
MOST_LINGERED_BYTES = 1024 * 1024
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NOBODY = {errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK}


class Connection(TConn):
    """One client's connection."""

    sock: socket.socket
    parser: Any

    def init(self) -> None:
        """Read from it with patience that ends."""
        if self.parser is None:
            self.parser = get_parser(self.cfg, self.sock, self.client)
            self.parser.unreader = Arrival(self.sock)
        super().init()

    def close(self, *_: bool, **__: bool) -> None:
        """Close it at once: gunicorn would let the thread that accepts linger here, and everybody wait."""
        super().close()

    def is_asked_at_once(self) -> bool:
        """Whether its client's next request is there, or comes within a moment."""
        return bool(self.parser.unreader.buf.getvalue()) or comes_within(self.sock, AT_ONCE_SECONDS)

    def linger(self) -> None:
        """Send no more and read what still comes, or the client might not get its answer (RFC 9112, 9.6)."""
        until, left = time.monotonic() + LINGER_SECONDS, MOST_LINGERED_BYTES
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while left > 0 and (seconds := until - time.monotonic()) > 0:
                self.sock.settimeout(seconds)
                came = len(self.sock.recv(64 * 1024))
                if came == 0:
                    return
                left -= came
        except OSError:
            return


class HttpWorker(ThreadWorker):
    """Serves connections, each request on a thread."""

    wsgi: Any = None  # until it is loaded; a signal may come before that
    sockets: Any
    alive: bool

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._connections: WeakSet[Connection] = WeakSet()
        self._at_work = 0
        self._counting = threading.Lock()

    def accept(self, listener: socket.socket) -> None:
        """Take a client's connection; without room for it, it waits a little in the listener's queue."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                log.warning("no_room_for_connections", cause=str(error))
                time.sleep(0.1)
            elif error.errno not in _NOBODY:
                raise
            return
        # An answer goes out in two pieces, and the second would wait for the client to confirm the first.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.nr_conns += 1
        conn = Connection(self.cfg, client, address, listener.getsockname())
        self._connections.add(conn)
        self.enqueue_req(conn)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take connections, or none for now; once it stops, take what the kernel has taken, and listen no more.

        gunicorn closes a listener when its last request is answered. Whoever connected meanwhile would be reset.
        """
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            listeners, self.sockets = self.sockets, []
            for listener in listeners:
                self._take_all(listener)
                listener.close()

    def _take_all(self, listener: socket.socket) -> None:
        before = -1
        while before < self.nr_conns < self.worker_connections:
            before = self.nr_conns
            self.accept(listener)

    def handle(self, conn: Connection) -> Any:
        """Serve a request, and others for as long as they come at once; whether the connection stays open."""
        self._count(1)
        try:
            while True:
                kept = self._serve(conn)
                if kept is not True or not self._may_stay() or not conn.is_asked_at_once():
                    return kept
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._counting:
            self._at_work += more

    def _may_stay(self) -> bool:
        """Whether there are threads for everybody else: those of clients that wait for a job count as taken."""
        return self.alive and 2 * self._at_work <= self.cfg.threads

    def _serve(self, conn: Connection) -> Any:
        if conn.initialized:
            conn.parser.unreader.expect(lambda: None)
        kept = super().handle(conn)
        if not kept:
            conn.linger()
        return kept

    def handle_request(self, req: Request, conn: Connection) -> bool:
        """Have the application answer."""
        heads.check(req)
        if heads.is_last(req):
            req.force_close()
        conn.parser.unreader.expect(req.force_close)
        kept: bool = super().handle_request(req, conn)
        return kept

    def handle_error(self, req: Request | None, client: socket.socket, addr: Any, exc: Exception) -> None:  # noqa: ARG002 - gunicorn's
        """Answer a request that cannot be read."""
        if not isinstance(exc, ParseException):
            log.error("request_failed", exc_info=exc)
        peer = addr[0] if isinstance(addr, tuple) else ""
        try:
            client.settimeout(LINGER_SECONDS)
            client.sendall(answer_to(self.wsgi, peer, heads.refusal(exc)))
        except OSError:
            return

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Take no more requests, and let clients go that wait for a job."""
        self.let_go()
        super().handle_exit(sig, frame)

    def let_go(self) -> None:
        """Let clients go that wait for a job: they would outlast the grace period."""
        if self.wsgi is not None:
            let_go(self.wsgi)

    def cut_off(self) -> None:
        """Close what connections there are still: their threads would keep the process."""
        for conn in list(self._connections):
            with suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RDWR)
