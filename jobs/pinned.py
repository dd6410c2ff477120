"""The network beneath `jobs.outbound`: connects to checked addresses only, and never beyond a deadline.

A name is resolved once, every answer is checked, and the connection goes to a checked number, so there
is no second look-up that could answer differently (DNS rebinding). Every wait is cut into slices: the
deadline holds against a peer that sends a byte a second, and an interrupt gets through between them.
"""

import errno
import ipaddress
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

import httpcore2

from jobs.addresses import Address, Network, checked, literal
from jobs.outbound_errors import ConnectFailed, ConnectionLost, DeadlineExceeded, NameNotResolved

SLICE_SECONDS = 0.5

Resolve = Callable[[str], Iterable[str]]
T = TypeVar("T")


class Deadline:
    """A point in time until which a call must be done."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then; raises DeadlineExceeded when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(self.seconds)
        return left

    def slice(self) -> float:
        """How long to wait before looking up again."""
        return min(self.left(), SLICE_SECONDS)


def system_resolve(host: str) -> list[str]:
    """Every address that the system's resolver gives for a host."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class PinnedBackend(httpcore2.NetworkBackend):
    """Opens the connections of one call."""

    def __init__(self, allowed: tuple[Network, ...], resolve: Resolve, deadline: Deadline) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Resolve, check, connect to the first address that answers."""
        del timeout, local_address, socket_options  # the interface has them; here the deadline rules
        return DeadlineStream(self._first_to_answer(host, self.addresses(host), port), host, self._deadline)

    def addresses(self, host: str) -> tuple[Address, ...]:
        """Where a host leads now, each of them checked."""
        return checked(host, self._answers(host), self._allowed)

    def _answers(self, host: str) -> list[Address]:
        if (address := literal(host)) is not None:
            return [address]
        try:
            answers = _in_thread(lambda: list(self._resolve(host)), self._deadline)
        except (OSError, UnicodeError) as error:
            raise NameNotResolved(f"{host} could not be resolved: {error}.") from None
        if not answers:
            raise NameNotResolved(f"{host} has no address.")
        return [ipaddress.ip_address(answer) for answer in answers]

    def _first_to_answer(self, host: str, addresses: tuple[Address, ...], port: int) -> socket.socket:
        refusals = []
        for tried, address in enumerate(addresses):
            # An address that swallows packets must leave time for the next one.
            share = Deadline(self._deadline.left() / (len(addresses) - tried))
            try:
                return _connect(address, port, share)
            except OSError as error:
                refusals.append(error.strerror or str(error))
            except DeadlineExceeded:
                refusals.append("no answer in time")
        self._deadline.left()
        raise ConnectFailed(f"No connection to {host}, port {port}: {', '.join(dict.fromkeys(refusals))}.")


class DeadlineStream(httpcore2.NetworkStream):
    """A socket whose every operation ends by the deadline."""

    def __init__(self, sock: socket.socket, host: str, deadline: Deadline) -> None:
        self._sock = sock
        self._host = host
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline rules
        """Some bytes, none at the end."""
        try:
            return self._in_slices(lambda: self._sock.recv(max_bytes))
        except OSError as error:
            raise ConnectionLost(f"{self._host} broke off: {error.strerror or error}.") from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline rules
        """Send it all."""
        view = memoryview(buffer)
        while view:
            try:
                view = view[self._in_slices(lambda rest=view: self._sock.send(rest)) :]  # type: ignore[misc]
            except OSError as error:
                # httpcore reads on after this one: a server may answer before it has read everything.
                raise httpcore2.WriteError(error.strerror or str(error)) from None

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
    ) -> httpcore2.NetworkStream:
        """The same connection in TLS, with the peer proven to be `server_hostname`."""
        try:
            self._sock = ssl_context.wrap_socket(
                self._sock, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            self._in_slices(self._sock.do_handshake)
        except OSError as error:
            self.close()
            raise ConnectFailed(f"No TLS session with {self._host}: {error.strerror or error}.") from None
        except BaseException:
            self.close()
            raise
        return self

    def _in_slices(self, operation: Callable[[], T]) -> T:
        while True:
            self._sock.settimeout(self._deadline.slice())
            try:
                return operation()
            except TimeoutError as error:
                if error.errno is not None:  # not our slice: the system gave the connection up
                    raise


def _connect(address: Address, port: int, deadline: Deadline) -> socket.socket:
    """A connection to that very address; raises OSError or DeadlineExceeded."""
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)  # noqa: PLR2004
    try:
        _finish_connecting(sock, address, port, deadline)
    except BaseException:
        sock.close()
        raise
    return sock


def _finish_connecting(sock: socket.socket, address: Address, port: int, deadline: Deadline) -> None:
    sock.setblocking(False)
    problem = sock.connect_ex((str(address), port))
    if problem == errno.EINPROGRESS:
        _wait_writable(sock, deadline)
        problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        raise OSError(problem, os.strerror(problem))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _wait_writable(sock: socket.socket, deadline: Deadline) -> None:
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    while not poller.poll(deadline.slice() * 1000):
        pass


def _in_thread(work: Callable[[], T], deadline: Deadline) -> T:
    """Do it in a thread of its own, since the system's resolver knows no deadline; raises what it raises."""
    done: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except Exception as error:  # noqa: BLE001 - carried over to the caller
            done.put((None, error))

    Thread(target=run, name="resolve", daemon=True).start()
    while True:
        try:
            answer, error = done.get(timeout=deadline.slice())
        except Empty:
            continue
        if error:
            raise error
        return answer  # type: ignore[return-value]
