"""Answers to what could not be read as a request: the server says why, the application says it as it says all else."""

from dataclasses import dataclass
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

from flask import request

from api.problems import Problem

_REFUSAL = "jobmill.refusal"


@dataclass(frozen=True)
class Refusal:
    """Why; `code` is one of KINDS."""

    code: str
    detail: str
    status: int | None = None


def check() -> None:
    """Raises Problem if the server could not read the present request."""
    refusal: Refusal | None = request.environ.get(_REFUSAL)
    if refusal is not None:
        raise Problem(refusal.code, refusal.detail, status=refusal.status)


def answer_to(app: WSGIApplication, peer: str, refusal: Refusal) -> bytes:
    """The last answer on the connection of that peer, as it is sent."""
    head: list[str] = []

    def begin(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Any:
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "Connection: close", "", ""]
        head.append("\r\n".join(lines))

    pieces = app(_environment(peer, refusal), begin)
    try:
        content = b"".join(pieces)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
    return head[-1].encode("latin-1") + content


def _environment(peer: str, refusal: Refusal) -> WSGIEnvironment:
    """Of the request nothing is known but whence it came."""
    return {
        "REQUEST_METHOD": "UNREADABLE",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "jobmill",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": "http",
        _REFUSAL: refusal,
    }
