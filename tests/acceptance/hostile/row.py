"""One row of the catalogue: what is sent, byte for byte, and what must come of it."""

from dataclasses import dataclass

JOB = '{"type":"demo.echo","args":{"value":"hostile"},"delay_seconds":86400}'
"""A job that is in order, and waits until the test is over."""
JSON = "Content-Type: application/json"


@dataclass(frozen=True)
class Row:
    """`@WORDS@` in what is sent are filled in by facts.py, such as the @KEY@ of the installation.

    The answer has exactly this status and problem code (of /oauth/token: error). Then the connection is closed, or it
    goes on and the next request is read from where it begins. Without a status it is closed without an answer, and
    `why` names what allows that. The row `writes` so many jobs, and nothing else is written.
    """

    name: str
    sent: bytes
    status: int | None
    code: str | None = None
    closes: bool = False
    ends: bool = False  # whether the client says after it that nothing more will come
    writes: int = 0
    why: str = ""


def raw(name: str, sent: bytes, status: int | None, code: str | None = None, **more: object) -> Row:
    """Bytes as they are, after which the connection is closed."""
    return Row(name, sent, status, code, **{"closes": True, **more})  # type: ignore[arg-type]


def request(line: str, *headers: str | bytes, body: str | bytes = b"", key: str | None = "@KEY@") -> bytes:
    """A request with a Host and the key, and the length of its body if it has one."""
    told: list[str | bytes] = [line, "Host: jobmill"]
    if key is not None:
        told.append(f"Authorization: Bearer {key}")
    content = _bytes(body)
    length = ["Content-Length: @LENGTH@"] if content else []
    return b"\r\n".join(_bytes(one) for one in [*told, *headers, *length, "", ""]) + content


def get(name: str, target: str, status: int, code: str | None = None, *headers: str | bytes, **more: object) -> Row:
    """A GET of that target with the key, or with `key`, over a connection that goes on."""
    key = more.pop("key", "@KEY@")
    sent = request(f"GET {target} HTTP/1.1", *headers, key=key)  # type: ignore[arg-type]
    return Row(name, sent, status, code, **more)  # type: ignore[arg-type]


def post(
    name: str,
    body: str | bytes,
    status: int,
    code: str | None = None,
    *headers: str | bytes,
    to: str = "/v1/jobs",
    kind: str = JSON,
    key: str | None = "@KEY@",
    **more: object,
) -> Row:
    """A POST of that body, as JSON unless another `kind` is told, over a connection that goes on."""
    kinds = [kind] if kind else []
    sent = request(f"POST {to} HTTP/1.1", *kinds, *headers, body=body, key=key)
    return Row(name, sent, status, code, **more)  # type: ignore[arg-type]


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
