"""`jobmill webhooks listen`: a small receiver for development, on this machine's loopback only."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click

from cli import output
from cli.failures import EXIT_CODES, Refused
from cli.received import Received, Receiver, refused
from cli.stopping import StopSignal
from jobs import signing

HOST = "127.0.0.1"
PORT = 9000
MOST_BYTES = 1024 * 1024
MOST_DROPPED_BYTES = 16 * MOST_BYTES
SILENT_SECONDS = 10.0
READING_SECONDS = 15.0
MOST_DIGITS = 15
CHUNK_BYTES = 64 * 1024


@click.command(epilog=EXIT_CODES)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Of 127.0.0.1; 0: any free one."
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="whsec_...",
    envvar="JOBMILL_WEBHOOK_SECRET",
    show_envvar=True,
    help="By which it verifies; several while they overlap. Others on this machine see the command line.",
)
@click.option("--body", "shows_body", is_flag=True, help="Print bodies too.")
@click.option(
    "--fail", "failures", type=click.IntRange(min=0), default=0, metavar="N", help="Answer 500 to the first N events."
)
def listen(*, port: int, secrets: Sequence[str], shows_body: bool, failures: int) -> None:
    """Receive webhooks on this machine, verify them and print a line for each, until Ctrl-C."""
    _check(secrets)
    stop = StopSignal()
    receiver = Receiver(secrets, failures, shows_body)
    try:
        server = Listener(port, receiver)
    except OSError as error:
        raise Refused(f"Nothing can listen on {HOST}:{port}: {error.strerror}. Choose another --port.") from None
    with server:
        threading.Thread(target=server.serve_forever, name="listener", daemon=True).start()
        output.note(f"Listening on http://{HOST}:{server.server_port}/ until Ctrl-C.")
        stop.wait()
        server.shutdown()
    output.note("Stopped.")


def _check(secrets: Sequence[str]) -> None:
    if not secrets:
        raise click.UsageError("Set JOBMILL_WEBHOOK_SECRET to the endpoint's secret, or give --secret.")
    for secret in secrets:
        try:
            signing.key_of(secret)
        except ValueError as error:
            raise click.UsageError(str(error)) from None


class Listener(ThreadingHTTPServer):
    """Serves each request on a thread; those under way do not keep the process from ending."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, receiver: Receiver) -> None:
        self.receiver = receiver
        self._printing = threading.Lock()
        super().__init__((HOST, port), partial(_Request, self))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say that a connection broke; anything else is a bug, and keeps its traceback."""
        error = sys.exception()
        if isinstance(error, OSError):
            output.note(f"A connection broke: {error.strerror or type(error).__name__}.")
        else:
            super().handle_error(request, client_address)

    def tell(self, received: Received) -> None:
        """Print it, uncut by what another thread prints."""
        with self._printing:
            click.echo("\n".join(received.lines))


class _Unread(Exception):  # noqa: N818 - named for what happened
    """A body that was not read to its end; `status` is the answer."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Request(BaseHTTPRequestHandler):
    """One request on a connection of its own."""

    protocol_version = "HTTP/1.1"
    server_version = "jobmill-webhooks-listen"
    sys_version = ""
    timeout = SILENT_SECONDS

    def __init__(self, listener: Listener, *given: Any) -> None:
        self._listener = listener
        super().__init__(*given)  # which serves it

    def do_POST(self) -> None:
        """Take an event."""
        self.close_connection = True
        now = datetime.now(UTC)
        try:
            received = self._listener.receiver.receive(dict(self.headers), self._body(), now)
        except _Unread as error:
            received = refused(error.status, str(error), now)
        self._listener.tell(received)
        said = received.reason.encode()
        self.send_response(received.status)
        self.send_header("Connection", "close")
        if received.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def _body(self) -> bytes:
        """The body. Raises _Unread."""
        length = self._length()
        if length <= MOST_BYTES:
            return b"".join(self._chunks(length))
        # Who still sends would not see the answer before all is sent.
        with suppress(_Unread):
            for _ in self._chunks(min(length, MOST_DROPPED_BYTES)):
                pass
        raise _Unread(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is longer than {MOST_BYTES} bytes.")

    def _length(self) -> int:
        given = self.headers.get_all("Content-Length", [])
        whole = len(given) == 1 and given[0].isascii() and given[0].isdigit() and len(given[0]) <= MOST_DIGITS
        if not whole or "Transfer-Encoding" in self.headers:
            raise _Unread(HTTPStatus.LENGTH_REQUIRED, "The header Content-Length does not say how long the body is.")
        return int(given[0])

    def _chunks(self, length: int) -> Iterator[bytes]:
        deadline = time.monotonic() + READING_SECONDS
        while length > 0:
            chunk = self.rfile.read1(min(length, CHUNK_BYTES))
            if not chunk:
                raise _Unread(HTTPStatus.BAD_REQUEST, "The body ends before its time.")
            if time.monotonic() > deadline:
                raise _Unread(HTTPStatus.REQUEST_TIMEOUT, f"The body took longer than {READING_SECONDS:g} seconds.")
            length -= len(chunk)
            yield chunk

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Say nothing: events are told."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say what the library could not make sense of."""
        output.note(format % args)
