"""RabbitMQ's own dead letters: what was rejected or handed out too often, taken first and answered afterwards."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import pika

from workers import topology

MOST_BYTES = 4 * 1024 * 1024
"""After so many no further message is taken into a batch, which is in memory as a whole."""
_COUNTS_OF_DELIVERIES = {"x-delivery-count", "x-acquired-count"}
_MOST_HEADERS = 50
_MOST_NAME = 255
_MOST_VALUE = 2000
"""Characters of a header, as JSON."""


@dataclass(frozen=True)
class Arrival:
    """A message from the dead letters of a queue of jobs, not answered yet.

    `redelivered` is false only of one that nobody was ever handed, which is RabbitMQ's promise.
    """

    tag: int
    queue: str
    body: bytes
    headers: dict[str, Any]
    properties: dict[str, Any]
    redelivered: bool
    why: str | None
    dead_lettered_at: datetime | None
    digest: bytes


class DeadQueues:
    """One connection to the dead letters, on one thread."""

    def __init__(self, channel: Any, prefix: str) -> None:
        self.channel = channel
        self.prefix = prefix

    def take(self, queue: str, most: int) -> list[Arrival]:
        """Up to `most` messages put aside from a queue of jobs, or fewer if they are large."""
        name = topology.dead_letter_name(topology.queue_name(self.prefix, queue))
        taken: list[Arrival] = []
        size = 0
        while len(taken) < most and size < MOST_BYTES:
            method, properties, body = self.channel.basic_get(name)
            if method is None:
                break
            taken.append(arrival(queue, method, properties, body))
            size += len(body)
        return taken

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        """Have RabbitMQ forget messages; those of one `take`, and all of them."""
        self.channel.basic_ack(arrivals[-1].tag, multiple=True)


class DeadQueuesDoor:
    """How to reach the dead letters: the first of the brokers that answers."""

    def __init__(self, urls: Sequence[str], prefix: str, connection_name: str) -> None:
        self.urls = urls
        self.prefix = prefix
        self.connection_name = connection_name

    @contextmanager
    def open(self) -> Iterator[DeadQueues]:
        """A connection for as long as the block lasts; what was taken and not acknowledged goes back at its end.

        Raises one of `topology.BROKER_ERRORS`.
        """
        connection = self._connect()
        try:
            yield DeadQueues(connection.channel(), self.prefix)
        finally:
            with suppress(*topology.BROKER_ERRORS):
                connection.close()

    def _connect(self) -> pika.BlockingConnection:
        for url in self.urls[:-1]:
            with suppress(*topology.BROKER_ERRORS):
                return pika.BlockingConnection(topology.connection_parameters(url, self.connection_name))
        return pika.BlockingConnection(topology.connection_parameters(self.urls[-1], self.connection_name))


def arrival(queue: str, method: Any, properties: pika.BasicProperties, body: bytes) -> Arrival:
    """A message as pika gives it."""
    headers = properties.headers or {}
    death = _last_death(headers)
    told = {name: value for name, value in vars(properties).items() if name != "headers" and value is not None}
    return Arrival(
        tag=method.delivery_tag,
        queue=queue,
        body=body,
        headers=_bounded(headers),
        properties=_bounded(told),
        redelivered=method.redelivered,
        why=death.get("reason"),
        dead_lettered_at=_moment(death.get("time")),
        digest=_digest(queue, body, headers, told),
    )


def _digest(queue: str, body: bytes, headers: dict[str, Any], properties: dict[str, Any]) -> bytes:
    """What a message is known by when it comes again: all of it, and of its death what RabbitMQ wrote there."""
    steady = {name: value for name, value in headers.items() if name not in _COUNTS_OF_DELIVERIES}
    told = orjson.dumps([queue, _text(steady), _text(properties)])
    return hashlib.sha256(told + b"\0" + body).digest()


def _last_death(headers: dict[str, Any]) -> dict[str, Any]:
    deaths = headers.get("x-death")
    return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}


def _moment(time: object) -> datetime | None:
    if not isinstance(time, datetime):
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _bounded(told: dict[str, Any]) -> dict[str, Any]:
    """Headers as JSON that any database holds, long ones cut short; of very many the first."""
    kept = {_name(name)[:_MOST_NAME]: _value(value) for name, value in list(told.items())[:_MOST_HEADERS]}
    if len(told) > _MOST_HEADERS:
        kept["…"] = f"{len(told) - _MOST_HEADERS} more"
    return kept


def _value(value: Any) -> Any:
    text = _text(value)
    return orjson.loads(text) if len(text) <= _MOST_VALUE else f"{_clean(text[:_MOST_VALUE])}…"


def _text(value: Any) -> str:
    return orjson.dumps(_plain(value), option=orjson.OPT_SORT_KEYS).decode()


def _plain(value: Any) -> Any:
    """A value of AMQP in the types of JSON."""
    if isinstance(value, dict):
        return {_name(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, bytes):
        return _clean(value.decode("utf-8", "replace"))
    return _clean(value.isoformat() if isinstance(value, datetime) else str(value))


def _name(name: str | bytes) -> str:
    """A header's name, which pika gives as bytes where it is no UTF-8."""
    return _clean(name.decode("utf-8", "replace") if isinstance(name, bytes) else name)


def _clean(text: str) -> str:
    """Without NULs and lone surrogates, which PostgreSQL refuses."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
