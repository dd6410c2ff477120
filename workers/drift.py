"""Queues that exist with other arguments than ours: told in one line that says how to mend it, and left in peace."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pika
import structlog
from pika.exceptions import ChannelClosedByBroker

from workers import metrics, topology

log = structlog.get_logger(__name__)

FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=30)
_NOT_FOUND = 404
_PRECONDITION_FAILED = 406
_TOLD = re.compile(r"inequivalent arg '(.+?)' for queue '(.+?)' in vhost '(.+?)': received (.+) but current is (.+)")
_VALUE = re.compile(r"the value ('.*?') of type '\w+'")


class WrongQueue(Exception):  # noqa: N818 - reads as the sentence it is
    """A queue exists with other arguments; the message names it, what differs (`differs`) and how to mend it."""

    def __init__(self, queue: str, message: str, differs: str = "") -> None:
        super().__init__(message)
        self.queue = queue
        self.differs = differs


def wrong_queue(error: BaseException) -> WrongQueue | None:
    """The error as it concerns an operator, if it is RabbitMQ's answer to a queue with other arguments."""
    told = _TOLD.search(str(getattr(error, "reply_text", "")))
    if getattr(error, "reply_code", None) != _PRECONDITION_FAILED or told is None:
        return None
    argument, queue, vhost = told.groups()[:3]
    ours, theirs = (_VALUE.sub(r"\1", value) for value in told.groups()[3:])
    differs = f"{argument} is {theirs}, and Jobmill needs {ours}"
    return WrongQueue(
        queue.removesuffix(topology.DEAD_LETTERS),
        f"RabbitMQ has a queue {queue!r} that was made with other arguments: {differs}. "
        f"Run: jobmill queues migrate. Or delete it: rabbitmqctl -p {vhost} delete_queue {queue}; no job is "
        "lost by that, since everything of ours in it is a row, and it is made anew.",
        differs,
    )


def drifted(urls: Sequence[str], names: Iterable[str]) -> list[WrongQueue]:
    """Those of the queues and their dead letters that exist with other arguments, on the first broker that answers.

    None is made, nor is it wrong that one is missing. Raises one of BROKER_ERRORS.
    """
    with topology.connect(urls, "jobmill check") as connection:
        wanted = [pair for name in names for pair in topology.wanted(name).items()]
        return [wrong for name, arguments in wanted if (wrong := difference(connection, name, arguments))]


def difference(connection: pika.BlockingConnection, name: str, arguments: dict[str, Any]) -> WrongQueue | None:
    """What is wrong with one queue, if it exists and something is. Raises one of BROKER_ERRORS."""
    if message_count(connection, name) is None:
        return None
    try:
        connection.channel().queue_declare(name, durable=True, arguments=arguments)
    except ChannelClosedByBroker as error:
        if wrong := wrong_queue(error):
            return wrong
        raise
    return None


def message_count(connection: pika.BlockingConnection, name: str) -> int | None:
    """How many messages wait on a queue; None if there is no such queue. Raises one of BROKER_ERRORS."""
    try:
        found: int = connection.channel().queue_declare(name, passive=True).method.message_count
    except ChannelClosedByBroker as error:
        if error.reply_code == _NOT_FOUND:
            return None
        raise
    return found


def check(urls: Sequence[str], names: Iterable[str]) -> None:
    """Declare queues on the first broker that answers. Raises WrongQueue; without a broker nothing is known yet."""
    for url in urls:
        try:
            with pika.BlockingConnection(topology.connection_parameters(url, "jobmill check")) as connection:
                for name in names:
                    topology.declare(connection.channel(), name)
        except ChannelClosedByBroker as error:
            raise (wrong_queue(error) or error) from None
        except topology.BROKER_ERRORS as error:
            log.warning("broker_not_checked", reason=type(error).__name__)
        else:
            return


@dataclass
class _Shunned:
    pause: timedelta
    until: float


class Shunned:
    """Queues that proved wrong, each not to be tried again before a pause that grows with every trial."""

    def __init__(self) -> None:
        self._queues: dict[str, _Shunned] = {}

    def failed(self, error: WrongQueue, now: float) -> None:
        """Say that a queue is wrong, and count it. `now` is a moment of `time.monotonic`."""
        earlier = self._queues.get(error.queue)
        pause = min(earlier.pause * 2, LONGEST_PAUSE) if earlier else FIRST_PAUSE
        self._queues[error.queue] = _Shunned(pause, now + pause.total_seconds())
        metrics.wrong_queues.inc()
        log.error("queue_is_wrong", queue=error.queue, reason=str(error), again_in_seconds=pause.total_seconds())

    def worked(self, queue: str) -> None:
        """Forget that it ever failed."""
        self._queues.pop(queue, None)

    def seconds_left(self, queue: str, now: float) -> float:
        """How long to leave the queue alone."""
        shunned = self._queues.get(queue)
        return max(0.0, shunned.until - now) if shunned else 0.0
