"""Queues with other arguments than this release needs are made anew, with nothing of it lost.

A message of ours only names jobs, which are rows, so it may go; a stranger's, or one whose jobs are not there, is
carried to the dead letters, and dead letters are carried over. Workers and dispatchers may run meanwhile: to them the
queue is gone for a moment, which they know how to bear.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pika
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from workers import carrying, drift, topology
from workers.carrying import OfAJob

ROUNDS = 5
"""So often a queue is made anew that others make otherwise in the same moment."""
TRIES = 50
"""So often a queue is emptied that is to be empty when it goes."""
ASIDE = ".moving"
"""Where dead letters wait while their queue is made anew."""
GATE = ".!migrate"
"""A queue of one connection only, so that no two mend at once; no queue of jobs can have its name."""
_LOCKED, _PRECONDITION_FAILED, _NOT_IMPLEMENTED = 405, 406, 540


class CannotMend(Exception):  # noqa: N818
    """A queue could not be made anew; the message says why, and what to do."""


class BrokerAway(Exception):  # noqa: N818
    """No broker answered, or not any more; what was begun is finished by doing it again."""


@dataclass(frozen=True)
class Drifted:
    """A queue that has to be made anew: what differs, and what waits on it and is handed out at the moment."""

    name: str
    differs: str
    messages: int
    consumers: int


@dataclass(frozen=True)
class Mended:
    """What became of what waited on a queue: ours dropped, a stranger's put aside, dead letters carried over."""

    name: str
    differed: str
    ours: int = 0
    put_aside: int = 0
    carried: int = 0

    @property
    def is_of_jobs(self) -> bool:
        """Whether it is a queue of jobs, and not one of dead letters."""
        return not self.name.endswith(topology.DEAD_LETTERS)


def plan(urls: Sequence[str], names: Sequence[str]) -> list[Drifted]:
    """Those of the queues that have to be made anew, dead letters before what leads to them. Raises BrokerAway."""
    with _connected(urls) as connection:
        return [found for name in names for one in topology.wanted(name) if (found := _look(connection, name, one))]


def mend(
    urls: Sequence[str], prefix: str, names: Sequence[str], of_a_job: OfAJob, tell: Callable[[str, Mended], None]
) -> None:
    """Make anew whichever of the queues need it, and tell of each, under its queue of jobs, once that is so.

    Raises CannotMend, BrokerAway.
    """
    with _connected(urls) as connection:
        _keep_others_out(connection, prefix)
        for name in names:
            for mended in _mended(connection, urls, name, of_a_job):
                tell(name, mended)


def _mended(connection: pika.BlockingConnection, urls: Sequence[str], name: str, of_a_job: OfAJob) -> Iterator[Mended]:
    dead_letters = topology.dead_letter_name(name)
    wrong = drift.difference(connection, dead_letters, topology.dead_letter_arguments())
    carried = _mend_dead_letters(connection, urls, dead_letters, wrong is not None)
    if wrong is not None or carried:
        yield Mended(dead_letters, wrong.differs if wrong else "left half done", carried=carried)
    if wrong := drift.difference(connection, name, topology.queue_arguments(name)):
        connection.channel().queue_declare(dead_letters, durable=True, arguments=topology.dead_letter_arguments())
        ours, strange = _replace(connection, urls, name, lambda: carrying.empty(connection, name, of_a_job))
        yield Mended(name, wrong.differs, ours=ours, put_aside=strange)


def _mend_dead_letters(connection: pika.BlockingConnection, urls: Sequence[str], name: str, wrong: bool) -> int:
    """Carry dead letters to a place aside, and back; also those that somebody left there who did not end."""
    aside, carried = name + ASIDE, 0
    if wrong:
        connection.channel().queue_declare(aside, durable=True, arguments=topology.dead_letter_arguments())
        _replace(connection, urls, name, lambda: (carrying.carry(connection, name, aside), 0))
    if drift.message_count(connection, aside) is not None:
        connection.channel().queue_declare(name, durable=True, arguments=topology.dead_letter_arguments())
        while moved := carrying.carry(connection, aside, name):
            carried += moved
        _gone_when_counted(connection, aside)
    return carried


def _replace(
    connection: pika.BlockingConnection, urls: Sequence[str], name: str, clear: Callable[[], tuple[int, int]]
) -> tuple[int, int]:
    """Delete a queue, emptied by `clear`, and declare it as it should be; gives what `clear` gave in all."""
    totals = (0, 0)
    arguments = topology.wanted(name.removesuffix(topology.DEAD_LETTERS))[name]
    for _ in range(ROUNDS):
        totals = _plus(totals, _delete(connection, urls, name, clear))
        with suppress(ChannelClosedByBroker):
            connection.channel().queue_declare(name, durable=True, arguments=arguments)
        if drift.difference(connection, name, arguments) is None:
            return totals
    raise CannotMend(
        f"{name} is made anew with other arguments whenever it goes: stop the dispatchers and workers of the other "
        "release first. Nothing is lost."
    )


def _delete(
    connection: pika.BlockingConnection, urls: Sequence[str], name: str, clear: Callable[[], tuple[int, int]]
) -> tuple[int, int]:
    totals = (0, 0)
    for _ in range(TRIES):
        totals = _plus(totals, clear())
        if _gone_if_empty(connection, urls, name):
            return totals
    raise CannotMend(f"{name} is never empty: stop who publishes to it, then try again. Nothing is lost.")


def _gone_if_empty(connection: pika.BlockingConnection, urls: Sequence[str], name: str) -> bool:
    """Delete a queue if nothing waits on it.

    RabbitMQ itself looks at that for classic queues only, and ends the connection that asks it of another; so another
    connection asks. Of a quorum queue we ask for the count, and delete it in the next moment.
    """
    try:
        with topology.connect(urls, "jobmill queues migrate") as asking:
            asking.channel().queue_delete(name, if_empty=True)
    except ChannelClosedByBroker as error:
        if error.reply_code == _PRECONDITION_FAILED:
            return False
        raise
    except ConnectionClosedByBroker as error:
        if error.reply_code == _NOT_IMPLEMENTED:
            return _gone_when_counted(connection, name)
        raise
    return True


def _gone_when_counted(connection: pika.BlockingConnection, name: str) -> bool:
    if drift.message_count(connection, name):
        return False
    connection.channel().queue_delete(name)
    return True


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def _look(connection: pika.BlockingConnection, name: str, one: str) -> Drifted | None:
    wrong = drift.difference(connection, one, topology.wanted(name)[one])
    if wrong is None:
        return None
    method: Any = connection.channel().queue_declare(one, passive=True).method
    return Drifted(one, wrong.differs, method.message_count, method.consumer_count)


def _keep_others_out(connection: pika.BlockingConnection, prefix: str) -> None:
    """For as long as the connection lives. Raises CannotMend."""
    try:
        connection.channel().queue_declare(prefix + GATE, exclusive=True)
    except ChannelClosedByBroker as error:
        if error.reply_code == _LOCKED:
            raise CannotMend("Another `jobmill queues migrate` is at work. Wait for its end.") from None
        raise


@contextmanager
def _connected(urls: Sequence[str]) -> Iterator[pika.BlockingConnection]:
    """A connection to the first broker that answers. Raises BrokerAway, and what the block raises."""
    try:
        with topology.connect(urls, "jobmill queues migrate") as connection:
            yield connection
    except topology.BROKER_ERRORS as error:
        raise BrokerAway(
            f"RabbitMQ did not do as asked ({type(error).__name__}). What was begun is finished by the next run."
        ) from error
