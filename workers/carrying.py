"""Messages taken from one queue to another: each is confirmed there before it is acknowledged here.

A crash in between leaves one twice, never nowhere.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pika

from models.job import Ref
from workers import topology
from workers.messages import BadMessage, decode

MOST = 100_000
_UNWANTED = ("CC", "BCC")
_KEPT_AS = "x-jobmill-"

OfAJob = Callable[[Sequence[Ref]], bool]
"""Whether any of the jobs that a message names is there."""


def empty(connection: pika.BlockingConnection, name: str, of_a_job: OfAJob) -> tuple[int, int]:
    """Take what waits on a queue of jobs: ours is dropped, since a row says it; a stranger's goes to the dead letters.

    So does one that names no job that is there, as it would from a worker. Gives how many were dropped, and how many
    put aside. Raises one of BROKER_ERRORS.
    """
    channel, ours, strange = _confirming(connection), 0, 0
    for method, properties, body in _waiting(channel, name):
        if _says_what_a_row_says(body, of_a_job):
            ours += 1
        else:
            strange += 1
            _publish(channel, topology.dead_letter_name(name), _put_aside(properties, name), body)
        channel.basic_ack(method.delivery_tag)
    channel.close()
    return ours, strange


def carry(connection: pika.BlockingConnection, source: str, target: str) -> int:
    """Take everything from one queue to another, as it is; gives how many. Raises one of BROKER_ERRORS."""
    channel, count = _confirming(connection), 0
    for method, properties, body in _waiting(channel, source):
        _publish(channel, target, properties, body)
        channel.basic_ack(method.delivery_tag)
        count += 1
    channel.close()
    return count


def _confirming(connection: pika.BlockingConnection) -> Any:
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def _waiting(channel: Any, name: str) -> Any:
    """What waits, until nothing does; or enough, for whoever is sent messages faster than they are taken."""
    for _ in range(MOST):
        method, properties, body = channel.basic_get(name)
        if method is None:
            return
        yield method, properties, body


def _says_what_a_row_says(body: bytes, of_a_job: OfAJob) -> bool:
    try:
        return of_a_job(decode(body))
    except BadMessage:
        return False


def _publish(channel: Any, target: str, properties: pika.BasicProperties, body: bytes) -> None:
    """Raises when it is not confirmed, or there is no such queue."""
    channel.basic_publish("", target, body, _harmless(properties), mandatory=True)


def _harmless(properties: pika.BasicProperties) -> pika.BasicProperties:
    """What a stranger wrote, less what would let the message expire, go elsewhere too, or be refused as another's."""
    headers = dict(properties.headers or {})
    for name in _UNWANTED:
        if name in headers:
            headers[_KEPT_AS + name.lower()] = headers.pop(name)
    for name in ("expiration", "user_id"):
        if (value := getattr(properties, name)) is not None:
            headers[_KEPT_AS + name.replace("_", "-")] = value
            setattr(properties, name, None)
    properties.headers = headers
    properties.delivery_mode = 2
    return properties


def _put_aside(properties: pika.BasicProperties, name: str) -> pika.BasicProperties:
    """With a note of where it was and why it is there, in the form that RabbitMQ has for it."""
    headers = properties.headers or {}
    earlier = headers.get("x-death")
    death = {"queue": name, "reason": "rejected", "count": 1, "exchange": "", "routing-keys": [name]}
    properties.headers = {**headers, "x-death": [death, *(earlier if isinstance(earlier, list) else ())]}
    return properties
