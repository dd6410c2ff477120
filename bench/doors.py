"""What authentication and limits cost: the application called as a function, with them and without, in turns."""

import io
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import orjson
import structlog
from flask import Flask

from api import endpoint
from api.app import create_app
from api.services import Services
from bench.installation import Installation
from jobs import api_keys
from jobs.registry import Registry, load
from models.database import connect_postgresql
from models.doorbell import LocalDoorbell
from settings import Settings

TURNS, REQUESTS = 30, 40
NO_LIMITS = ("submit=none", "read=none", "operate=none", "token=none", "guess=none")


@dataclass
class Door:
    """One application over the installation's database, and what its requests took, in seconds."""

    app: Flask
    token: str
    took: list[float] = field(default_factory=list)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request, without a socket; gives the answer's document."""
        content = b"" if body is None else orjson.dumps(body)
        status: list[str] = []
        environ = self._environ(method, path, content)
        began = time.perf_counter()
        answer = self.app.wsgi_app(environ, lambda line, _headers, _error=None: status.append(line))
        document = b"".join(answer)
        answer.close()  # type: ignore[attr-defined]
        self.took.append(time.perf_counter() - began)
        if status[0][0] != "2":
            raise RuntimeError(f"{method} {path} was answered with {status[0]}: {document[:300]!r}")
        return orjson.loads(document)

    def _environ(self, method: str, path: str, content: bytes) -> dict[str, Any]:
        address = urlsplit(path)
        return {
            "REQUEST_METHOD": method,
            "PATH_INFO": address.path,
            "QUERY_STRING": address.query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_AUTHORIZATION": f"Bearer {self.token}",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(content)),
            "wsgi.input": io.BytesIO(content),
            "wsgi.url_scheme": "http",
        }


@contextmanager
def door(running: Installation, registry: Registry, **given: Any) -> Iterator[Door]:
    """The application with those settings."""
    # The installation's own pepper: the one in its database, as for its API.
    settings = Settings(_env_file=None, **given)
    database = connect_postgresql(running.database_url, "jobmill bench", 2, prompt=True)
    services = Services(settings, database, registry, LocalDoorbell(threading.Event()), "bench")
    try:
        yield Door(create_app(services), running.token)
    finally:
        database.close()


@contextmanager
def nobody_asked(running: Installation, plain: Door) -> Iterator[None]:
    """Requests of anybody pass for those of the key, and are not counted."""
    services: Services = plain.app.extensions["jobmill"]
    principal = api_keys.authenticate(services.find_key, services.known_pepper(), running.token)
    with patch.object(endpoint, "authorised", lambda *_args, **_more: principal):
        yield


def cost_of_doors(running: Installation, redis_url: str) -> dict[str, float]:
    """GET of one job, of a list, and a submission: bare, with the key looked up, with limits, with limits in Redis."""
    registry = load(("bench.jobs",))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with (
        door(running, registry, rate_limits=NO_LIMITS) as unlimited,
        door(running, registry) as local,
        door(running, registry, redis_url=redis_url) as shared,
    ):
        job = unlimited.call("POST", "/v1/jobs", _submission())
        figures: dict[str, float] = {}
        for name, request in {
            "GET by id": ("GET", f"/v1/jobs/{job['id']}"),
            "list of 50": ("GET", "/v1/jobs?queue=idle"),
            "submission": ("POST", "/v1/jobs", _submission()),
        }.items():
            figures |= _compared(running, name, request, {"key": unlimited, "limits": local, "limits in Redis": shared})
    return figures


def _compared(
    running: Installation, name: str, request: tuple[Any, ...], doors: Mapping[str, Door]
) -> dict[str, float]:
    """In turns, so that what else the machine does falls on all alike; the median of the turns' ratios."""
    plain = doors["key"]
    ratios: dict[str, list[float]] = {kind: [] for kind in doors}
    bare: list[float] = []
    for turn in range(TURNS + 1):
        with nobody_asked(running, plain):
            without = _mean(plain, request)
        for kind, each in doors.items():
            ratio = _mean(each, request) / without
            if turn:  # the first warms up
                ratios[kind].append(ratio)
        bare += [without] if turn else []
    figures = {f"{name} called bare, ms": sorted(bare)[TURNS // 2] * 1000}
    return figures | {f"{name} with {kind}, ratio": sorted(found)[TURNS // 2] for kind, found in ratios.items()}


def _mean(each: Door, request: tuple[Any, ...]) -> float:
    each.took.clear()
    for _ in range(REQUESTS):
        each.call(*request)
    return sum(each.took) / REQUESTS


def _submission() -> dict[str, Any]:
    return {"type": "bench.noop", "args": {}, "queue": "idle"}
