"""Whether this process answers, and whether it can serve: no key needed, nothing told but up or down."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import redis
from flask import Blueprint, Response, current_app, jsonify
from redis.backoff import NoBackoff
from redis.retry import Retry

from api.services import Services
from models.errors import Unavailable

blueprint = Blueprint("health", __name__)

PROBE_SECONDS = 1.0
DEADLINE_SECONDS = 1.5
KEPT_SECONDS = 1.0
"""An answer about dependencies is kept this long, so that probing us is no way to load them."""


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Whether requests can be served. Without RabbitMQ or Redis they can: jobs are recorded all the same."""
    services: Services = current_app.extensions["jobmill"]
    checks = _kept(services)
    if checks["database"] != "ok":
        return jsonify(status="unavailable", checks=checks), 503
    degraded = any(state != "ok" for state in checks.values())
    return jsonify(status="degraded" if degraded else "ok", checks=checks), 200


def _kept(services: Services) -> Mapping[str, str]:
    at, checks = services.last_checks
    if time.monotonic() - at > KEPT_SECONDS:
        checks = {name: _state(name, probe, services.probing) for name, probe in _probes(services).items()}
        services.last_checks = (time.monotonic(), checks)
    return checks


def _probes(services: Services) -> dict[str, Callable[[], None]]:
    settings = services.settings
    probes: dict[str, Callable[[], None]] = {"database": services.database.ping}
    if settings.rabbitmq_urls:
        probes["rabbitmq"] = lambda: _any_broker(settings.rabbitmq_urls)
    if settings.redis_url is not None:
        url = settings.redis_url.get_secret_value()
        probes["redis"] = lambda: _redis(url)
    return probes


def _state(name: str, probe: Callable[[], None], probing: dict[str, threading.Thread]) -> str:
    """Ask on a thread: a frozen server keeps whoever asks it, for longer than whoever asks us will wait."""
    last = probing.get(name)
    if last is not None and last.is_alive():
        return "down"
    answers: list[str] = []
    thread = threading.Thread(target=_ask, args=[probe, answers], name=f"probe-{name}", daemon=True)
    probing[name] = thread
    thread.start()
    thread.join(DEADLINE_SECONDS)
    return answers[0] if answers else "down"


def _ask(probe: Callable[[], None], answers: list[str]) -> None:
    try:
        probe()
    except (Unavailable, OSError, redis.RedisError):
        answers.append("down")
    else:
        answers.append("ok")


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
    client = redis.Redis.from_url(
        url, socket_timeout=PROBE_SECONDS, socket_connect_timeout=PROBE_SECONDS, retry=Retry(NoBackoff(), 0)
    )
    with client:
        client.ping()
