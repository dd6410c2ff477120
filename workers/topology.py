"""The queues in RabbitMQ: their names and arguments, the same for whoever declares them, and connections to it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

# A crash counts against every message a worker had prefetched; losing a message is no harm, its job's row
# waits. So the limit only stops what would circle for ever.
DELIVERY_LIMIT = 100

HEARTBEAT_SECONDS = 5
"""After 10 to 20 s of silence either side gives the other up: pika looks twice, five seconds later than promised each
time. At 30 s a connection that was dead at one end kept its jobs waiting for up to 70."""

SOCKET_TIMEOUT_SECONDS = 5
STACK_TIMEOUT_SECONDS = 8
"""For the whole of a connection's beginning: a broker that accepts and says nothing is given up after it."""

DEAD_LETTERS = ".XQ"

BROKER_ERRORS = (AMQPError, AMQPConnectorException, OSError)
"""What pika raises when a broker is gone. The second when it is frozen, which is no AMQPError."""


def queue_name(prefix: str, queue: str) -> str:
    """The name in RabbitMQ of a queue of jobs."""
    return f"{prefix}.{queue}"


def dead_letter_name(name: str) -> str:
    """Where RabbitMQ puts messages of a queue that cannot be delivered; the suffix is Dramatiq's."""
    return name + DEAD_LETTERS


def queue_arguments(name: str) -> dict[str, Any]:
    """Quorum queues, which survive the loss of a node; what they drop goes, at least once, to the dead letters."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-overflow": "reject-publish",
        "x-dead-letter-strategy": "at-least-once",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_letter_name(name),
    }


def dead_letter_arguments() -> dict[str, Any]:
    """Dead letters wait until someone reads them: no TTL."""
    return {"x-queue-type": "quorum"}


def wanted(name: str) -> dict[str, dict[str, Any]]:
    """What is declared for a queue of jobs, by name: its dead letters first, where it leads to."""
    return {dead_letter_name(name): dead_letter_arguments(), name: queue_arguments(name)}


def declare(channel: Any, name: str, callback: Callable[[Any], None] | None = None) -> None:
    """Make a queue and its dead letters where they are missing; the channel is closed if one exists otherwise.

    A `callback` is for channels that do not wait; it gets RabbitMQ's answer.
    """
    declare_dead_letters(channel, name)
    more = {"callback": callback} if callback else {}
    channel.queue_declare(name, durable=True, arguments=queue_arguments(name), **more)


def declare_dead_letters(channel: Any, name: str, callback: Callable[[Any], None] | None = None) -> None:
    """Make the dead letters of a queue alone, as `declare` does."""
    more = {"callback": callback} if callback else {}
    channel.queue_declare(dead_letter_name(name), durable=True, arguments=dead_letter_arguments(), **more)


def connection_parameters(url: str, name: str) -> pika.URLParameters:
    """How to reach a broker, with every wait bounded; `name` is shown by RabbitMQ's own tools."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat = HEARTBEAT_SECONDS
    parameters.blocked_connection_timeout = 10
    parameters.socket_timeout = SOCKET_TIMEOUT_SECONDS
    parameters.stack_timeout = STACK_TIMEOUT_SECONDS
    parameters.connection_attempts = 1
    parameters.client_properties = {"connection_name": name}
    return parameters


def connect(urls: Sequence[str], name: str) -> pika.BlockingConnection:
    """A connection to the first broker that answers. Raises one of BROKER_ERRORS, the last one's."""
    for url in urls[:-1]:
        with suppress(*BROKER_ERRORS):
            return pika.BlockingConnection(connection_parameters(url, name))
    return pika.BlockingConnection(connection_parameters(urls[-1], name))
