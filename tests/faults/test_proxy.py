"""The proxy does to a connection what each of its faults is named for; a fault that does nothing proves nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.proxy import Proxy, _Link

PATIENCE = 5


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


@pytest.fixture
def proxy(echo: str) -> Iterator[Proxy]:
    made = Proxy(echo)
    yield made
    made.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connected(proxy) as connection:
        yield connection


def connected(proxy: Proxy) -> socket.socket:
    host, port = proxy.url.removeprefix("tcp://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def said(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return client.recv(65536)


def is_silent(client: socket.socket) -> bool:
    client.settimeout(0.2)
    try:
        return client.recv(1) is None
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE)


def test_it_passes_what_it_is_given(client: socket.socket):
    assert said(client, b"hello") == b"hello"


def test_a_reset_breaks_every_connection_and_new_ones_work(proxy: Proxy, client: socket.socket):
    said(client, b"hello")
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with connected(proxy) as another:
        assert said(another, b"hello") == b"hello"


def test_what_is_sent_to_a_frozen_one_arrives_afterwards(proxy: Proxy, client: socket.socket):
    said(client, b"hello")
    with proxy.frozen():
        client.sendall(b"later")
        assert is_silent(client)
    assert client.recv(5) == b"later"


def test_a_connection_of_a_black_hole_stays_half_open_for_ever(proxy: Proxy, client: socket.socket):
    said(client, b"hello")
    with proxy.black_hole():
        client.sendall(b"lost")
        with connected(proxy) as meanwhile:
            meanwhile.sendall(b"lost")
            assert is_silent(meanwhile)
    client.sendall(b"lost too")
    assert is_silent(client)
    with connected(proxy) as another:
        assert said(another, b"hello") == b"hello"


def test_latency_is_paid_both_ways(proxy: Proxy, client: socket.socket):
    said(client, b"hello")
    began = time.monotonic()
    with proxy.slow(latency=0.3):
        said(client, b"hello")
        assert time.monotonic() - began >= 0.6
    began = time.monotonic()
    said(client, b"hello")
    assert time.monotonic() - began < 0.6


def test_a_throttled_one_passes_no_faster(proxy: Proxy, client: socket.socket):
    began = time.monotonic()
    with proxy.slow(bytes_per_second=10_000):
        client.sendall(b"x" * 3000)
        received = 0
        while received < 3000:
            received += len(client.recv(65536))
    assert time.monotonic() - began >= 0.6  # there and back


def test_the_answer_to_a_pattern_never_arrives_and_only_that_connection_breaks(proxy: Proxy, client: socket.socket):
    with connected(proxy) as other:
        said(client, b"hello")
        said(other, b"hello")
        proxy.cut_answer(b"COMMIT")
        assert said(other, b"BEGIN") == b"BEGIN"
        assert not proxy.cut
        client.sendall(b"COMMIT")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert proxy.cut
        assert said(other, b"COMMIT") == b"COMMIT"


def test_a_pattern_that_comes_in_two_pieces_is_seen():
    nobody: Any = None
    link = _Link(nobody, nobody)
    assert [link.asks(piece, b"COMMIT") for piece in (b"x", b"COM", b"MITx", b"x")] == [False, False, True, False]


def test_a_server_that_is_away_is_away_through_the_proxy_and_comes_back(echo: str):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    proxy = Proxy(f"tcp://127.0.0.1:{port}")
    with connected(proxy) as client:
        assert client.recv(1) == b""
    with socket.create_server(("127.0.0.1", port)) as listener, connected(proxy) as client:
        client.sendall(b"x")
        server, _ = listener.accept()
        with server:
            assert server.recv(1) == b"x"
    proxy.close()
