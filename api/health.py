"""Whether this process answers, and whether it can serve: no key needed, nothing told but up or down.

Only the database decides about 200 or 503: without the rest jobs are recorded all the same, and none is lost.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Literal
from urllib.parse import urlsplit

from flask import Blueprint, Response, current_app, jsonify
from pydantic import with_config
from typing_extensions import TypedDict

from api.documents import shown
from api.endpoint import public
from api.services import Services
from models import lease, migrate, worker
from models.database import Database
from models.errors import SchemaMismatch, Unavailable

blueprint = Blueprint("health", __name__)

PROBE_SECONDS = 1.0
DEADLINE_SECONDS = 1.5
KEPT_SECONDS = 1.0
"""An answer about dependencies is kept this long, so that probing us is no way to load them."""

Checks = Mapping[str, str]
Probe = Callable[[], Checks]
_MOTION = ("dispatcher", "workers", "tables")


@with_config(shown({"status": "ok"}))
class HealthDocument(TypedDict):
    """The process answers."""

    status: Literal["ok"]


@with_config(shown({"status": "degraded", "checks": {"database": "ok", "rabbitmq": "down"}}))
class ReadinessDocument(TypedDict):
    """Whether requests can be served, and each dependency by its name."""

    status: Literal["ok", "degraded", "unavailable"]
    checks: dict[str, Literal["ok", "down", "unknown", "old"]]


@public(blueprint, "GET", "/healthz", reply=HealthDocument)
def healthz() -> Response:
    """The process answers."""
    return jsonify(status="ok")


@public(blueprint, "GET", "/readyz", reply=ReadinessDocument, also=(503,))
def readyz() -> tuple[Response, int]:
    """Whether requests can be served, and what is not as it should be."""
    services: Services = current_app.extensions["jobmill"]
    found = checks(services)
    if found["database"] != "ok":
        return jsonify(status="unavailable", checks=found), 503
    degraded = any(state != "ok" for state in found.values())
    return jsonify(status="degraded" if degraded else "ok", checks=found), 200


def checks(services: Services) -> Checks:
    """What is known of the dependencies. Whoever asks while another finds out shares that answer."""
    with services.checking:
        at, found = services.last_checks
        if time.monotonic() - at > KEPT_SECONDS:
            found = _look(_probes(services), services.asked)
            services.last_checks = (time.monotonic(), found)
        return found


def _look(probes: Mapping[str, Probe], asked: "dict[str, Future[Checks]]") -> Checks:
    """Ask all at once, so that however many are frozen the answer comes within one deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    for name, probe in probes.items():
        _ask(name, probe, asked)
    found: dict[str, str] = {}
    for name in probes:
        found |= _answer(name, asked[name], deadline - time.monotonic())
    return found


def _ask(name: str, probe: Probe, asked: "dict[str, Future[Checks]]") -> None:
    """Ask on a thread: a frozen server keeps whoever asks it. One that has not answered yet is not asked again."""
    if name in asked and not asked[name].done():
        return
    question: Future[Checks] = Future()
    asked[name] = question
    threading.Thread(target=_find_out, args=[probe, question], name=f"probe-{name}", daemon=True).start()


def _find_out(probe: Probe, question: "Future[Checks]") -> None:
    try:
        question.set_result(probe())
    except (Unavailable, OSError) as error:
        question.set_exception(error)


def _answer(name: str, question: "Future[Checks]", within_seconds: float) -> Checks:
    try:
        return question.result(max(0.0, within_seconds))
    except (Unavailable, OSError):  # a TimeoutError is an OSError
        return dict.fromkeys(_MOTION, "unknown") if name == "motion" else {name: "down"}


def _probes(services: Services) -> dict[str, Probe]:
    settings, database = services.settings, services.database
    probes: dict[str, Probe] = {"database": lambda: _ok("database", database.ping)}
    if settings.rabbitmq_urls:
        probes["rabbitmq"] = lambda: _ok("rabbitmq", lambda: _any_broker(settings.rabbitmq_urls))
    if settings.redis_url is not None:
        url = settings.redis_url.get_secret_value()
        probes["redis"] = lambda: _ok("redis", lambda: _redis(url))
    return probes | {"motion": lambda: _motion(database)}


def _ok(name: str, ping: Callable[[], None]) -> Checks:
    ping()
    return {name: "ok"}


def _motion(database: Database) -> Checks:
    """What the rows tell: whether anybody dispatches and works, and whether the tables are those of this release."""
    with database.reading() as session:
        dispatched, worked = lease.is_held(session), worker.any_is_live(session)
    states = ["ok" if dispatched else "down", "ok" if worked else "down", _tables(database)]
    return dict(zip(_MOTION, states, strict=True))


def _tables(database: Database) -> str:
    try:
        migrate.require(database)
    except SchemaMismatch:
        return "old"
    return "ok"


def _any_broker(urls: tuple[str, ...]) -> None:
    """Raises OSError unless one of the brokers greets us."""
    failure: OSError = ConnectionError("no broker is configured")
    for url in urls:
        try:
            return _broker(url)
        except OSError as error:
            failure = error
    raise failure


def _broker(url: str) -> None:
    """Open an AMQP 0-9-1 connection as far as the server's first frame, which a frozen broker does not send."""
    parts = urlsplit(url)
    secure = parts.scheme == "amqps"
    address = (parts.hostname or "localhost", parts.port or (5671 if secure else 5672))
    with socket.create_connection(address, PROBE_SECONDS) as plain:
        connection = ssl.create_default_context().wrap_socket(plain, server_hostname=address[0]) if secure else plain
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        if connection.recv(1) != b"\x01":
            raise ConnectionError("not an AMQP 0-9-1 broker")


def _redis(url: str) -> None:
    from api.shared_redis import ping

    ping(url, PROBE_SECONDS)
