"""Single connections to PostgreSQL: how they are opened, and how long they wait for an answer."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready

from models.pulse import Pulse

Answer = TypeVar("Answer")

# Seconds: a request must fail fast, and nothing of ours legitimately holds a lock for long.
CONNECT_TIMEOUT = 3
SESSION_SETTINGS = {
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    # As on any SSD. At the default of 4 the planner would rather walk the newest jobs of everyone than ask the
    # index of one tenant's jobs in a state, and walks on through every finished one when there are none.
    "random_page_cost": "1.1",
    # No statement of ours is long enough to be worth compiling. The planner, who guesses a hundred rows where one name
    # is asked for, compiled the count of waiting jobs for 140 ms, to save some of its 35.
    "jit": "off",
    # What comes first is asked for in the order of an index, and a few rows by their ids. Where statistics know nothing
    # of a sudden backlog, and believe its index to be nearly empty, it looked as cheap to collect all of it and sort.
    "enable_bitmapscan": "off",
}
LIMIT_SECONDS = 17.0
"""The server ends a statement after 15 s. One without an answer by now has no server any more: its machine is gone,
or its process is stopped, which neither keepalives nor the server's own time limits would ever tell us."""
_LOOK_EVERY = 0.1


class Patient(psycopg.Connection[Any]):
    """A connection that waits for answers as long as `limit_seconds`, and no longer than there is a pulse."""

    limit_seconds = LIMIT_SECONDS
    pulse: Pulse | None = None
    heard_at = 0.0
    """When the server last answered on it, of `time.monotonic`."""

    def limited(self, seconds: float, pulse: Pulse | None = None) -> Self:
        """Itself, with another limit."""
        self.limit_seconds, self.pulse = seconds, pulse
        self.heard_at = time.monotonic()
        return self

    def wait(self, gen: PQGen[Answer], interval: float = _LOOK_EVERY, timeout: float | None = None) -> Answer:
        """Drive psycopg's own generator. A wait with a timeout is meant to be long: for notifications."""
        try:
            return super().wait(gen if timeout is not None else self._looking(gen), interval, timeout)
        except BaseException:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # given up with the answer still to come: good for nothing else
            raise

    def _looking(self, gen: PQGen[Answer]) -> PQGen[Answer]:
        """The generator, with a look at the time whenever nothing came for a while."""
        began, ready = time.monotonic(), None
        try:
            while True:
                wanted = next(gen) if ready is None else gen.send(ready)
                ready = yield wanted
                if ready == Ready.NONE:
                    self._look(began)
        except StopIteration as end:
            if self.pulse is not None:
                self.pulse.heard()
            self.heard_at = time.monotonic()
            answer: Answer = end.value
            return answer

    def _look(self, began: float) -> None:
        if self.pulse is not None and self.pulse.misses(began):
            raise psycopg.OperationalError("the server has fallen silent")
        if time.monotonic() - began > self.limit_seconds:
            raise psycopg.OperationalError(f"no answer from the server within {self.limit_seconds:g} s")


class Connector:
    """Opens connections to whichever of the hosts serves: the one that did last time is asked first.

    Else, after a failover, each new connection would wait for the dead machine before it asks the living one.
    """

    def __init__(self, url: str, application_name: str) -> None:
        self._url = "postgresql://" + url.split("://", 1)[1]
        self._hosts = _hosts(self._url)
        self._options: dict[str, Any] = {
            "application_name": application_name,
            "connect_timeout": CONNECT_TIMEOUT,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15000,
        }

    def __call__(self, *, autocommit: bool = False, lock_timeout: str = SESSION_SETTINGS["lock_timeout"]) -> Patient:
        """A new connection. Raises psycopg.OperationalError when no host gives one."""
        failures: list[str] = []
        settings = SESSION_SETTINGS | {"lock_timeout": lock_timeout}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        for host in list(self._hosts):
            told = make_conninfo(self._url, **self._options, options=options, **host)
            try:
                connection = Patient.connect(told, autocommit=autocommit)
            except psycopg.OperationalError as error:
                failures.append(str(error))
            else:
                self._hosts.sort(key=lambda other: other != host)
                return connection
        raise psycopg.OperationalError("\n".join(failures))


def _hosts(url: str) -> list[dict[str, str]]:
    """What to put in the place of a list of hosts, for each of them; nothing for a single one."""
    lists = {
        name: str(value).split(",")
        for name, value in conninfo_to_dict(url).items()
        if name in {"host", "hostaddr", "port"} and value is not None
    }
    count = max((len(values) for values in lists.values()), default=1)
    return [{name: values[place % len(values)] for name, values in lists.items()} for place in range(count)]


def impatient(connect: Callable[[], Patient], seconds: float, pulse: Pulse) -> Callable[[], Patient]:
    """`connect`, given up after so many seconds, which a network that swallows everything does not do by itself."""

    def connected() -> Patient:
        coming: Future[Patient] = Future()
        threading.Thread(target=_deliver, args=[connect, coming], name="connecting", daemon=True).start()
        began = time.monotonic()
        while True:
            try:
                return coming.result(_LOOK_EVERY)
            except TimeoutError:
                if pulse.misses(began) or time.monotonic() - began > seconds:
                    coming.add_done_callback(_close_late)
                    raise psycopg.OperationalError(f"no connection within {seconds:g} s") from None

    return connected


def _deliver(connect: Callable[[], Patient], coming: "Future[Patient]") -> None:
    try:
        coming.set_result(connect())
    except psycopg.Error as error:
        coming.set_exception(error)


def _close_late(came: "Future[Patient]") -> None:
    if came.exception() is None:
        came.result().close()
