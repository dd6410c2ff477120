"""Waking the dispatcher through PostgreSQL."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from models import doorbell
from models.database import postgresql_connector
from models.doorbell import CHANNEL, LocalDoorbell, NotifyDoorbell, listen

PROMPTLY = 5.0
CLOSE_BACKENDS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'jobmill-tests bell%%' AND pid <> pg_backend_pid()
"""


RINGS_AND_ENDS = """
import sys
from models import doorbell
from models.database import postgresql_connector
from models.doorbell import NotifyDoorbell
doorbell.LAST_RING_SECONDS = float(sys.argv[2])
NotifyDoorbell(postgresql_connector(sys.argv[1], "jobmill-tests bell")).ring()
"""
NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


@pytest.fixture(autouse=True)
def _quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorbell, "RECONNECT_SECONDS", 0.05)


@pytest.fixture
def connect(database_url: str) -> Callable[[], psycopg.Connection[Any]]:
    return postgresql_connector(database_url, "jobmill-tests bell")


@pytest.fixture
def heard(connect: Callable[[], psycopg.Connection[Any]]) -> threading.Event:
    event = threading.Event()
    listen(connect, event)
    assert event.wait(PROMPTLY)  # as it does once it listens
    event.clear()
    return event


@pytest.fixture
def notifications(database_url: str) -> Iterator[list[Any]]:
    """Every NOTIFY that was sent."""
    got: list[Any] = []
    connection = psycopg.connect(database_url, autocommit=True)
    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
    over = threading.Event()

    def hear() -> None:
        while not over.is_set():
            got.extend(connection.notifies(timeout=0.05))

    thread = threading.Thread(target=hear)
    thread.start()
    yield got
    over.set()
    thread.join()
    connection.close()


def test_a_ring_is_heard_in_another_process(heard: threading.Event, connect: Callable[..., Any]):
    bell = NotifyDoorbell(connect)
    for _ in range(3):
        bell.ring()
        assert heard.wait(PROMPTLY)
        heard.clear()


def test_every_listener_hears_it(heard: threading.Event, connect: Callable[..., Any]):
    other = threading.Event()
    listen(connect, other)
    assert other.wait(PROMPTLY)
    other.clear()
    NotifyDoorbell(connect).ring()
    assert heard.wait(PROMPTLY)
    assert other.wait(PROMPTLY)


def test_many_rings_are_few_notifications_and_the_last_is_not_lost(
    notifications: list[Any], connect: Callable[..., Any], eventually: Callable[..., Any]
):
    bell = NotifyDoorbell(connect)
    bell.ring()
    eventually(lambda: notifications)
    began, rings = time.monotonic(), 0
    while time.monotonic() - began < 0.5:
        bell.ring()
        rings += 1
    before = len(notifications)
    last = time.monotonic()
    bell.ring()
    eventually(lambda: len(notifications) > before or time.monotonic() - last > 1)
    assert rings > 1_000
    assert 1 < len(notifications) <= 0.5 / doorbell.QUIET_SECONDS + 3


def rings_and_ends(database_url: str, last_ring_seconds: float) -> None:
    """Let a process live of which a ring is all."""
    command = [sys.executable, "-c", RINGS_AND_ENDS, database_url, str(last_ring_seconds)]
    subprocess.run(command, check=True, timeout=60)


def test_what_a_process_rings_last_is_heard(
    notifications: list[Any], database_url: str, eventually: Callable[..., Any]
):
    rings_and_ends(database_url, 30.0)
    eventually(lambda: notifications)
    assert len(notifications) <= 2  # it rings once more as it ends


def test_a_process_ends_without_a_database_all_the_same():
    rings_and_ends(NOWHERE, 0.5)


def test_ringing_returns_at_once_even_without_a_database():
    bell = NotifyDoorbell(postgresql_connector(NOWHERE, "jobmill-tests bell"))
    began = time.monotonic()
    for _ in range(1_000):
        bell.ring()
    assert time.monotonic() - began < 1


def test_no_connection_is_made_before_the_first_ring():
    made: list[int] = []

    def connect() -> Any:
        made.append(1)
        raise psycopg.OperationalError("away")

    bell = NotifyDoorbell(connect)
    assert made == []
    bell.ring()
    assert bell._thread is not None


def test_bell_and_listener_come_back_after_the_database_dropped_them(
    heard: threading.Event, connect: Callable[..., Any], database_url: str, eventually: Callable[..., Any]
):
    bell = NotifyDoorbell(connect)
    bell.ring()
    assert heard.wait(PROMPTLY)
    heard.clear()
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert len(connection.execute(CLOSE_BACKENDS).fetchall()) == 2
    assert heard.wait(PROMPTLY)  # it cannot know what it missed
    heard.clear()

    def rung() -> bool:
        bell.ring()
        return heard.wait(0.1)

    eventually(rung)


def test_within_one_process_an_event_is_enough():
    event = threading.Event()
    LocalDoorbell(event).ring()
    assert event.is_set()
