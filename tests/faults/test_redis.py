"""Redis away, frozen, or empty again: jobs do not notice, and /readyz says so within its deadline."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psutil
import pytest
import redis

from tests.acceptance.installation import Full, Installation
from tests.acceptance.ledger import Ledger
from tests.acceptance.private_services import PrivateRedis
from tests.faults import figures
from tests.faults.conftest import Install
from tests.faults.crashing import frozen
from tests.faults.health import HealthWatch, Outage
from tests.faults.invariants import HEALTH_LAG_SECONDS, check
from tests.faults.load import Load

pytestmark = pytest.mark.timed

READY_SECONDS = 2.0
ACCEPTED_SECONDS = 2.0
LOOKED_SECONDS = 4.0
"""How long /readyz is looked at after it should know: a look takes over a second while the server is frozen."""


@pytest.fixture(scope="module")
def cache(eventually: Callable[..., Any]) -> Iterator[PrivateRedis]:
    server = PrivateRedis(eventually)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def full(cache: PrivateRedis, install: Install) -> Installation:
    return install(Full.mode, REDIS_URL=cache.url)


@contextmanager
def stopped(cache: PrivateRedis) -> Iterator[None]:
    assert cache.process is not None
    cache.process.send_signal(signal.SIGKILL)
    cache.process.wait()
    yield
    cache.start()


@contextmanager
def still(cache: PrivateRedis, eventually: Callable[..., Any]) -> Iterator[None]:
    """The kernel takes connections for it, and nobody answers."""
    assert cache.process is not None
    pid = cache.process.pid
    with frozen([pid]):
        eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        yield


@pytest.mark.fault("redis-down", "a private server killed (-9) under load")
def test_while_it_is_down_jobs_go_on_and_readyz_says_degraded(full: Installation, cache: PrivateRedis, ledger: Ledger):
    goes_on(full, ledger, stopped(cache), "redis-down")


@pytest.mark.fault("redis-frozen", "a private server stopped (SIGSTOP) under load")
def test_while_it_is_frozen_jobs_go_on_and_readyz_says_degraded(
    full: Installation, cache: PrivateRedis, ledger: Ledger
):
    goes_on(full, ledger, still(cache, full.eventually), "redis-frozen")


def goes_on(full: Installation, ledger: Ledger, away: Any, fault: str) -> None:
    with HealthWatch(full.address) as watch, Load(full, "fault.quick", ledger.args, rate=20) as load:
        full.eventually(ledger.ends)
        with away:
            since = time.monotonic()
            slowest = 0.0
            while time.monotonic() < since + HEALTH_LAG_SECONDS + LOOKED_SECONDS:
                answer, took = timed(full, "/readyz")
                slowest = max(slowest, took)
            assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
            assert answer.json()["checks"]["redis"] == "down"
            last = load.accepted[-1]
            full.succeeded(last, 5)
            until = watch.samples[-1].at
        full.eventually(lambda: full.client.get("/readyz").json()["status"] == "ok")
        load.stop()
    slowest_202 = max(answer.after for answer in load.answered)
    assert slowest < READY_SECONDS
    assert slowest_202 < ACCEPTED_SECONDS
    check(full, ledger, load.accepted, faults=0, watch=watch, outages=[Outage("redis", since, until)])
    figures.keep(fault, "slowest /readyz meanwhile", slowest, "s")
    figures.keep(fault, "slowest 202 meanwhile", slowest_202, "s")


def timed(full: Installation, path: str) -> tuple[httpx2.Response, float]:
    began = time.monotonic()
    answer = full.client.get(path)
    return answer, time.monotonic() - began


@pytest.mark.fault("redis-emptied", "a private server killed (-9) and started again without what it kept")
def test_one_that_comes_back_empty_changes_nothing(full: Installation, cache: PrivateRedis, ledger: Ledger):
    with redis.Redis.from_url(cache.url) as client, Load(full, "fault.quick", ledger.args, rate=20) as load:
        client.set("kept", "by somebody")
        full.eventually(lambda: len(ledger.ends()) > 10)
        with stopped(cache):
            pass
        assert client.get("kept") is None
        ended = len(ledger.ends())
        full.eventually(lambda: len(ledger.ends()) > ended + 10)
        load.stop()
    check(full, ledger, load.accepted, faults=0)
