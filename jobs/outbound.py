"""The guarded HTTP client: the only way that Jobmill calls an address which a client named.

It goes to checked addresses only, follows no redirect, reads no proxy from the environment, is done by
its deadline and takes no more bytes than asked for.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from ssl import SSLContext

import httpcore2
import httpx2

from jobs.addresses import DEFAULT_PORTS, Network, Target, target
from jobs.outbound_errors import BodyTooLarge, ConnectionLost, RequestInvalid
from jobs.pinned import Deadline, PinnedBackend, Resolve, system_resolve

DEADLINE_SECONDS = 30.0
MOST_BYTES = 256 * 1024

# RFC 9110, 5.6.2 and 5.5; of the latter only ASCII, which is all that arrives the same everywhere.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
# They frame the message or choose the peer: a caller that set them could smuggle a second request.
OUR_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Servers may refuse these without a Content-Length (RFC 9110, 8.6).
EXPECT_CONTENT = frozenset({"POST", "PUT", "PATCH"})
OWN_FIELDS = ((b"Accept-Encoding", b"identity"), (b"Connection", b"close"))


@dataclass(frozen=True)
class Answer:
    """A server's answer. Header names are lower case, repeated ones are joined with a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool


@dataclass(frozen=True)
class StreamedAnswer:
    """A server's answer whose body is still to come, as `chunks`."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class Outbound:
    """Calls out, to where `allowed_networks` and the guard's own list let it; http only if `allow_http`."""

    def __init__(
        self,
        allowed_networks: tuple[Network, ...] = (),
        allow_http: bool = False,
        *,
        resolve: Resolve = system_resolve,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self.allowed_networks = tuple(allowed_networks)
        self.allow_http = allow_http
        self._resolve = resolve
        self._given_ssl_context = ssl_context

    def check(self, url: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Return if the URL could be called as things are now; nothing is connected to. For URLs that are kept.

        Raises OutboundError: AddressRefused is for good, and a name that is not resolved may be tomorrow. A call checks
        again, whatever was found here.
        """
        to = target(url, allow_http=self.allow_http)
        PinnedBackend(self.allowed_networks, self._resolve, Deadline(deadline_seconds)).addresses(to.host)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        most_bytes: int = MOST_BYTES,
    ) -> Answer:
        """Send a request; of a longer body only the first `most_bytes` are read. Raises OutboundError."""
        with self._open(method, url, headers or {}, content, deadline_seconds) as response:
            body, truncated = _head(response.iter_stream(), most_bytes)
            return Answer(response.status, _headers(response), body, truncated)

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        most_bytes: int,
    ) -> Iterator[StreamedAnswer]:
        """Send a request and read its answer piece by piece, all of it by the deadline.

        Raises OutboundError, reading the chunks too; BodyTooLarge once they come to over `most_bytes`.
        """
        with self._open(method, url, headers or {}, content, deadline_seconds) as response:
            yield StreamedAnswer(response.status, _headers(response), _at_most(response.iter_stream(), most_bytes))

    @contextmanager
    def _open(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, deadline_seconds: float
    ) -> Iterator[httpcore2.Response]:
        to = target(url, allow_http=self.allow_http)
        if content is None and method in EXPECT_CONTENT:
            content = b""
        fields = [*_fields(method, headers), (b"Host", _host_field(to)), *OWN_FIELDS]
        backend = PinnedBackend(self.allowed_networks, self._resolve, Deadline(deadline_seconds))
        with _told_as_ours(to.host), self._pool(backend) as pool:
            address = httpcore2.URL(scheme=to.scheme, host=to.host, port=to.port, target=to.path)
            with pool.stream(method, address, headers=fields, content=content) as response:
                yield response

    def _pool(self, backend: PinnedBackend) -> httpcore2.ConnectionPool:
        """A connection of its own for each call: the next call must be checked anew."""
        return httpcore2.ConnectionPool(
            ssl_context=self._ssl_context, max_connections=1, max_keepalive_connections=0, network_backend=backend
        )

    @cached_property
    def _ssl_context(self) -> SSLContext:
        return self._given_ssl_context or httpx2.create_ssl_context(trust_env=False)


def _fields(method: str, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    if not TOKEN.fullmatch(method) or method.upper() in {"CONNECT", "TRACE"}:
        raise RequestInvalid("The method must be one of HTTP's, such as GET or POST.")
    for name, value in headers.items():
        _check_field(name, value)
    named = {name.lower() for name in headers}
    ours = {"user-agent": "jobmill", "accept": "*/*"}
    fields = {**{name: value for name, value in ours.items() if name not in named}, **headers}
    return [(name.encode(), value.strip().encode()) for name, value in fields.items()]


def _check_field(name: str, value: str) -> None:
    if not TOKEN.fullmatch(name):
        raise RequestInvalid(f"{name[:100]!r} is no name of a header.")
    if name.lower() in OUR_HEADERS or name.lower().startswith("proxy-"):
        raise RequestInvalid(f"The header {name} is set by Jobmill itself; leave it out.")
    if not FIELD_VALUE.fullmatch(value):
        raise RequestInvalid(f"The value of header {name} must be printable ASCII.")


def _host_field(to: Target) -> bytes:
    host = f"[{to.host}]" if ":" in to.host else to.host
    return (host if to.port == DEFAULT_PORTS[to.scheme] else f"{host}:{to.port}").encode()


@contextmanager
def _told_as_ours(host: str) -> Iterator[None]:
    """Turns the library's exceptions into ours, without texts that quote what was sent."""
    try:
        yield
    except httpcore2.LocalProtocolError:
        raise RequestInvalid("The request cannot be sent as it is.") from None
    except httpcore2.ProtocolError as error:
        raise ConnectionLost(f"{host} does not answer in HTTP: {_sentence(error)}") from None
    except (httpcore2.NetworkError, httpcore2.TimeoutException) as error:
        raise ConnectionLost(f"{host} broke off: {_sentence(error)}") from None


def _sentence(error: Exception) -> str:
    return f"{str(error).rstrip('.')}."


def _headers(response: httpcore2.Response) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _head(chunks: Iterator[bytes], most_bytes: int) -> tuple[bytes, bool]:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > most_bytes:
            return bytes(body[:most_bytes]), True
    return bytes(body), False


def _at_most(chunks: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > most_bytes:
            raise BodyTooLarge(most_bytes)
        yield chunk
