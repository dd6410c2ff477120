import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import psutil
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

import jobs.builtin  # noqa: F401 - declares the types
from jobs.outbound import Outbound
from jobs.outbound_errors import (
    AddressRefused,
    BodyTooLarge,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    NameNotResolved,
    OutboundError,
)
from jobs.outcomes import TimedOut
from jobs.testing import run_job

LOOPBACK = (ip_network("127.0.0.0/8"),)
PEER_EXAMPLE = Path(__file__).with_name("peer_example.pem")
OK = b"HTTP/1.1 200 OK\r\n"

Serve = Callable[[socket.socket], None]


@pytest.fixture
def outbound() -> Outbound:
    return Outbound(LOOPBACK, allow_http=True)


@contextmanager
def peer(serve: Serve, host: str = "127.0.0.1") -> Iterator[tuple[int, list[str]]]:
    """A server that treats each connection with `serve`; gives its port and the peers that connected."""
    connected: list[str] = []
    listener = socket.create_server((host, 0))

    def treat(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the client has had enough
            serve(connection)

    def listen() -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            connected.append(address[0])
            threading.Thread(target=treat, args=[connection], daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield listener.getsockname()[1], connected
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request and (piece := connection.recv(65_536)):
        request += piece
    return request


def answering(*pieces: bytes, every_seconds: float = 0.0) -> Serve:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(every_seconds)

    return serve


def dripping(
    beginning: bytes, drop: bytes, read: Callable[[socket.socket], object] = read_request, every_seconds: float = 0.05
) -> Serve:
    """Sends its beginning and then a drop every so often, for as long as it lives."""

    def serve(connection: socket.socket) -> None:
        read(connection)
        connection.sendall(beginning)
        while True:
            connection.sendall(drop)
            time.sleep(every_seconds)

    return serve


def test_a_request_arrives_as_it_was_meant(outbound, httpserver: HTTPServer):
    httpserver.expect_request("/hook", method="POST").respond_with_data(b"fine", headers={"X-Id": "7"})
    answer = outbound.request("POST", httpserver.url_for("/hook?a=b"), headers={"X-Key": "k"}, content=b"body")
    assert (answer.status, answer.body, answer.truncated) == (200, b"fine", False)
    assert answer.headers["x-id"] == "7"
    request, _ = httpserver.log[0]
    assert (request.query_string, request.headers["X-Key"], request.data) == (b"a=b", "k", b"body")
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.headers["Host"] == f"localhost:{httpserver.port}"


def test_a_redirect_is_not_followed(outbound, httpserver: HTTPServer):
    httpserver.expect_request("/from").respond_with_data("", 302, {"Location": httpserver.url_for("/to")})
    assert outbound.request("GET", httpserver.url_for("/from")).status == 302
    assert len(httpserver.log) == 1


def test_no_proxy_is_read_from_the_environment(outbound, httpserver: HTTPServer, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    httpserver.expect_request("/").respond_with_data("direct")
    assert outbound.request("GET", httpserver.url_for("/")).body == b"direct"


def test_a_long_body_is_cut_where_asked(outbound, httpserver: HTTPServer):
    httpserver.expect_request("/").respond_with_data(b"x" * 1_000_000)
    answer = outbound.request("GET", httpserver.url_for("/"), most_bytes=1000)
    assert (len(answer.body), answer.truncated) == (1000, True)


def test_a_body_of_just_the_size_asked_for_is_whole(outbound, httpserver: HTTPServer):
    httpserver.expect_request("/").respond_with_data(b"x" * 1000)
    answer = outbound.request("GET", httpserver.url_for("/"), most_bytes=1000)
    assert (len(answer.body), answer.truncated) == (1000, False)


def test_a_stream_gives_the_body_in_pieces(outbound, httpserver: HTTPServer):
    httpserver.expect_request("/").respond_with_data(b"x" * 1_000_000)
    with outbound.stream("GET", httpserver.url_for("/"), most_bytes=1_000_000) as answer:
        sizes = [len(chunk) for chunk in answer.chunks]
    assert sum(sizes) == 1_000_000
    assert max(sizes) <= 65_536


@pytest.mark.fault("receiver-huge", "a body without end, read as a stream")
def test_a_stream_that_is_too_long_ends(outbound):
    with (
        peer(dripping(OK + b"\r\n", b"x" * 1000)) as (port, _),
        pytest.raises(BodyTooLarge),
        outbound.stream("GET", f"http://127.0.0.1:{port}/", most_bytes=3000) as answer,
    ):
        list(answer.chunks)


@pytest.mark.fault("receiver-dripping", "a byte of each part of an answer every 50 ms")
@pytest.mark.parametrize(
    "serve",
    [
        dripping(b"", b"H"),
        dripping(OK, b"X: y\r\n"),
        dripping(OK + b"X-Long: ", b"y"),
        dripping(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"),
        dripping(OK + b"Content-Length: 1000\r\n\r\n", b"x"),
        dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        dripping(OK + b"\r\n", b"x"),
        lambda connection: connection.recv(1) and time.sleep(5),
    ],
    ids=["status", "headers", "one header", "interim answers", "body", "chunks", "endless body", "silence"],
)
@pytest.mark.parametrize("how", ["request", "stream"])
def test_the_deadline_holds_against_a_peer_that_drips(outbound, serve, how):
    began = time.monotonic()
    with peer(serve) as (port, _), pytest.raises(DeadlineExceeded):
        call(outbound, how, f"http://127.0.0.1:{port}/")
    assert 0.3 <= time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("beginning", "drop"), [(OK + b"X-Long: ", b"y"), (OK + b"\r\n", b"x")], ids=["headers", "body"]
)
def test_a_byte_a_second_does_not_hold_a_thread_past_the_deadline(outbound, beginning: bytes, drop: bytes):
    began = time.monotonic()
    with peer(dripping(beginning, drop, every_seconds=1)) as (port, _), pytest.raises(DeadlineExceeded):
        outbound.request("POST", f"http://127.0.0.1:{port}/", deadline_seconds=2.3)
    assert 2.2 <= time.monotonic() - began < 4


def call(outbound: Outbound, how: str, url: str) -> None:
    if how == "request":
        outbound.request("GET", url, deadline_seconds=0.4)
        return
    with outbound.stream("GET", url, deadline_seconds=0.4, most_bytes=10**9) as answer:
        for _ in answer.chunks:
            pass


@pytest.mark.fault("receiver-slow", "a server that does not read what it is sent")
def test_the_deadline_holds_while_sending_to_a_peer_that_does_not_read(outbound):
    began = time.monotonic()
    with peer(lambda connection: time.sleep(5)) as (port, connected), pytest.raises(DeadlineExceeded):
        outbound.request("POST", f"http://127.0.0.1:{port}/", content=b"x" * 50_000_000, deadline_seconds=0.4)
    assert 0.3 <= time.monotonic() - began < 2
    assert len(connected) == 1


def test_the_deadline_holds_while_a_name_is_looked_up():
    released = threading.Event()

    def slow(host: str) -> list[str]:
        released.wait(10)
        return ["127.0.0.1"]

    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        Outbound(LOOPBACK, True, resolve=slow).request("GET", "http://slow.example/", deadline_seconds=0.4)
    assert time.monotonic() - began < 2
    released.set()


def test_an_interrupt_reaches_a_thread_that_waits_for_a_peer(outbound):
    ended: list[BaseException] = []

    def wait(port: int) -> None:
        try:
            outbound.request("GET", f"http://127.0.0.1:{port}/", deadline_seconds=60)
        except BaseException as error:  # noqa: BLE001 - the interrupt is what the test waits for
            ended.append(error)

    arrived = threading.Event()

    def silent(connection: socket.socket) -> None:
        read_request(connection)
        arrived.set()
        connection.recv(1)

    with peer(silent) as (port, _):
        thread = threading.Thread(target=wait, args=[port])
        thread.start()
        assert arrived.wait(5)
        interrupt(thread)
        thread.join(3)
    assert [type(error) for error in ended] == [TimedOut]


def interrupt(thread: threading.Thread) -> None:
    import ctypes

    assert (
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimedOut)) == 1
    )


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (lambda connection: None, ConnectionLost),
        (answering(b"SSH-2.0-OpenSSH_9\r\n"), ConnectionLost),
        (answering(OK + b"Content-Length: 10\r\n\r\nabc"), ConnectionLost),
        (answering(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"), ConnectionLost),
        (answering(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), ConnectionLost),
        (answering(OK + b"X: " + b"y" * 200_000), ConnectionLost),
    ],
    ids=["hangs up", "no HTTP", "cut short", "chunk cut short", "two lengths", "endless header"],
)
def test_a_peer_that_breaks_off_or_speaks_no_http_is_told_as_such(outbound, serve, error):
    with peer(serve) as (port, _), pytest.raises(error):
        outbound.request("GET", f"http://127.0.0.1:{port}/", deadline_seconds=5)


def test_a_closed_port_is_a_failed_connection(outbound):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectFailed, match="refused"):
        outbound.request("GET", f"http://127.0.0.1:{port}/")


def test_an_unknown_name_is_not_resolved(outbound):
    with pytest.raises(NameNotResolved):
        outbound.request("GET", "http://nowhere.invalid/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost.", "127.1", "0x7f.1", "2130706433",
                                  "[::ffff:127.0.0.1]"])  # fmt: skip
def test_a_denied_address_is_not_connected_to_in_any_spelling(host):
    with peer(answering(OK + b"\r\nsecret")) as (port, connected):
        with pytest.raises(AddressRefused):
            Outbound(allow_http=True).request("GET", f"http://{host}:{port}/")
        # The same spelling does connect where the network is allowed, so the refusal above was the guard's.
        assert Outbound((*LOOPBACK, ip_network("::1/128")), True).request("GET", f"http://{host}:{port}/").status == 200
        assert len(connected) == 1


@pytest.mark.fault("receiver-rebinding", "a name that leads elsewhere at the second look-up")
def test_a_name_that_changes_its_address_after_the_check_gains_nothing():
    asked: list[str] = []

    def rebinding(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    only_first = (ip_network("127.0.0.1/32"),)
    with peer(answering(OK + b"\r\n"), "0.0.0.0") as (port, connected):  # noqa: S104 - so that 127.0.0.2 would answer
        outbound = Outbound(only_first, True, resolve=rebinding)
        assert outbound.request("GET", f"http://rebind.example:{port}/").status == 200
        assert (asked, len(connected)) == (["rebind.example"], 1)
        with pytest.raises(AddressRefused):
            outbound.request("GET", f"http://rebind.example:{port}/")
        assert len(connected) == 1


@contextmanager
def silent_beside(there: AbstractContextManager[tuple[int, list[str]]]) -> Iterator[int]:
    """The port of a peer, taken at 127.0.0.1, lest another test's server have it: there nobody answers."""
    with there as (port, _), socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        yield port


def test_the_next_address_is_tried_when_one_does_not_answer():
    with silent_beside(peer(answering(OK + b"\r\n"), "127.0.0.2")) as port:
        outbound = Outbound(LOOPBACK, True, resolve=lambda _: ["127.0.0.1", "127.0.0.2"])
        assert outbound.request("GET", f"http://two.example:{port}/").status == 200


def test_no_socket_is_left_open(outbound):
    with peer(dripping(OK + b"Content-Length: 1000000\r\n\r\n", b"x" * 100)) as (port, connected):
        for most_bytes in (10, 10_000_000):
            with suppress(OutboundError):
                outbound.request("GET", f"http://127.0.0.1:{port}/", most_bytes=most_bytes, deadline_seconds=0.3)
        ours = [one for one in psutil.Process().net_connections("tcp") if one.raddr and one.raddr.port == port]
    assert (len(connected), ours) == (2, [])


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=PEER_EXAMPLE)


def over_tls(serve: Serve, names: list[str | None]) -> Serve:
    """Serve as peer.example in TLS, and note which name the client asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEER_EXAMPLE)
    context.sni_callback = lambda _, name, __: names.append(name)

    def serve_securely(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            serve(secure)

    return serve_securely


@pytest.mark.parametrize("host", ["peer.example", "PEER.example", "peer.example."])
def test_tls_asks_for_the_original_name_and_proves_it(host):
    names: list[str | None] = []
    outbound = Outbound(LOOPBACK, resolve=lambda _: ["127.0.0.1"], ssl_context=trusting())
    with peer(over_tls(answering(OK + b"Content-Length: 2\r\n\r\nhi"), names)) as (port, _):
        assert outbound.request("GET", f"https://{host}:{port}/").body == b"hi"
    assert names == ["peer.example"]


@pytest.mark.fault("receiver-tls", "another name, another address, an unknown certificate")
@pytest.mark.parametrize(
    ("host", "trusted", "words"),
    [("other.example", True, "Hostname mismatch"), ("127.0.0.1", True, "IP address mismatch"),
     ("peer.example", False, "self-signed")],
)  # fmt: skip
def test_a_peer_that_cannot_prove_its_name_is_not_talked_to(host, trusted, words):
    context = trusting() if trusted else None
    outbound = Outbound(LOOPBACK, resolve=lambda _: ["127.0.0.1"], ssl_context=context)
    with peer(over_tls(answering(OK + b"\r\n"), [])) as (port, _), pytest.raises(ConnectFailed, match=words):
        outbound.request("GET", f"https://{host}:{port}/")


@pytest.mark.parametrize("encrypted", [False, True], ids=["handshake", "body"])
def test_the_deadline_holds_within_tls(encrypted):
    outbound = Outbound(LOOPBACK, resolve=lambda _: ["127.0.0.1"], ssl_context=trusting())
    in_handshake = dripping(b"\x16\x03\x03\x40\x00", b"\x00", lambda connection: connection.recv(65_536))
    drip = over_tls(dripping(OK + b"\r\n", b"x"), []) if encrypted else in_handshake
    began = time.monotonic()
    with peer(drip) as (port, _), pytest.raises(DeadlineExceeded):
        outbound.request("GET", f"https://peer.example:{port}/", deadline_seconds=0.7)
    assert time.monotonic() - began < 2


def test_http_request_and_csv_profile_work_through_it(outbound, httpserver: HTTPServer):
    httpserver.expect_request("/data.csv").respond_with_data("a,b\n1,x\n2,y\n")
    url = httpserver.url_for("/data.csv")
    assert run_job("http.request", {"url": url}, http=outbound).result["body"] == "a,b\n1,x\n2,y\n"
    profile = run_job("csv.profile", {"url": url}, http=outbound).result
    assert [column["type"] for column in profile["columns"]] == ["integer", "string"]
    refused = run_job("http.request", {"url": url}, http=Outbound(allow_http=True))
    assert refused.error
    assert (refused.permanent, refused.error.code) == (True, "address-refused")


def test_http_request_sends_what_it_was_given(outbound, httpserver: HTTPServer):
    def echo(request: Request) -> Response:
        return Response(request.method + request.headers["X-Key"] + request.get_data(as_text=True), 202)

    httpserver.expect_request("/").respond_with_handler(echo)
    args = {"url": httpserver.url_for("/"), "method": "PATCH", "headers": {"X-Key": "k"}, "body": "é"}
    result = run_job("http.request", args, http=outbound).result
    assert (result["status"], result["body"]) == (202, "PATCHké")
