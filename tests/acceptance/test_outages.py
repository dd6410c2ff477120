"""The services away: what the API still does, what it says of itself, and that everything goes on by itself."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.acceptance.installation import Installation, Json
from tests.acceptance.installer import Installer
from tests.acceptance.ledger import Ledger
from tests.acceptance.private_services import PrivatePostgresql, PrivateRabbitmq

BACK_WITHIN = 30
QUICKLY = 1
LONGER_THAN_SILENCE = 25
"""Seconds; a worker that has not beaten for 20 is taken for dead."""
ALL_WELL = dict.fromkeys(["database", "rabbitmq", "redis", "dispatcher", "workers", "tables"], "ok")
UNKNOWN = dict.fromkeys(ALL_WELL, "unknown")


@pytest.fixture(scope="module")
def rabbitmq(eventually: Callable[..., Any]) -> Iterator[PrivateRabbitmq]:
    with ExitStack() as stack:
        server = PrivateRabbitmq(eventually)
        stack.callback(server.remove)
        server.start()
        yield server


@pytest.fixture(scope="module")
def postgresql(eventually: Callable[..., Any]) -> Iterator[PrivatePostgresql]:
    with ExitStack() as stack:
        server = PrivatePostgresql(eventually)
        stack.callback(server.remove)
        server.start()
        yield server


@pytest.fixture(scope="module")
def full(
    request: pytest.FixtureRequest, rabbitmq: PrivateRabbitmq, postgresql: PrivatePostgresql
) -> Iterator[Installation]:
    """A full installation on services of its own, whose worker does two jobs at a time."""
    with ExitStack() as stack:
        yield Installer(request, stack)(
            "full", DATABASE_URL=postgresql.url, RABBITMQ_URL=rabbitmq.url, JOBMILL_THREADS="2"
        )


@pytest.fixture
def undisturbed(full: Installation) -> Iterator[Installation]:
    """The installation; at the end its processes must be those that were there at the beginning."""
    before = {name: process.pid for name, process in full.processes.items()}
    yield full
    assert all(process.alive for process in full.processes.values())
    assert {name: process.pid for name, process in full.processes.items()} == before


def ready(full: Installation) -> tuple[int, Json]:
    answer = full.client.get("/readyz")
    return answer.status_code, answer.json()


def quickly(ask: Callable[[], httpx2.Response]) -> httpx2.Response:
    began = time.monotonic()
    answer = ask()
    assert time.monotonic() - began < QUICKLY
    return answer


def test_jobs_submitted_while_rabbitmq_is_down_are_accepted_and_done_once_it_is_back(
    undisturbed: Installation, rabbitmq: PrivateRabbitmq, ledger: Ledger
):
    full = undisturbed
    running = full.submit("ledger.work", ledger.gated_args)
    full.eventually(lambda: ledger.starts(running["id"]))
    rabbitmq.stop()
    # The worker lives and takes nothing, which it says of itself with its next heartbeat.
    lame = (200, {"status": "degraded", "checks": ALL_WELL | {"rabbitmq": "down", "workers": "down"}})
    full.eventually(lambda: ready(full) == lame)
    body = {"type": "ledger.work", "args": ledger.args}
    answers = [quickly(lambda: full.client.post("/v1/jobs", json=body)) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {202}
    jobs = [answer.json() for answer in answers]
    cancelled = jobs.pop()
    assert full.client.post(f"/v1/jobs/{cancelled['id']}/cancel").json()["state"] == "cancelled"
    ledger.open_gate()
    full.succeeded(running)  # what runs needs no broker to finish
    assert ledger.starts(jobs[0]["id"]) == []
    rabbitmq.start()
    deadline = time.monotonic() + BACK_WITHIN
    for job in [running, *jobs]:
        full.succeeded(job, deadline - time.monotonic())
        assert len(ledger.starts(job["id"])) == len(ledger.ends(job["id"])) == 1
    assert ledger.starts(cancelled["id"]) == []
    full.eventually(lambda: ready(full) == (200, {"status": "ok", "checks": ALL_WELL}))


def test_jobs_that_waited_in_a_rabbitmq_that_was_wiped_are_done_all_the_same(
    undisturbed: Installation, rabbitmq: PrivateRabbitmq, ledger: Ledger
):
    full = undisturbed
    running = [full.submit("ledger.work", ledger.gated_args) for _ in range(2)]
    full.eventually(lambda: len(ledger.starts()) == len(running))
    waiting = [full.submit("ledger.work", ledger.args) for _ in range(10)]
    full.in_state(waiting[0], "dispatched")  # one message at least is lost
    rabbitmq.wipe()
    deadline = time.monotonic() + BACK_WITHIN
    ledger.open_gate()
    for job in [*running, *waiting]:
        full.succeeded(job, deadline - time.monotonic())
        assert len(ledger.starts(job["id"])) == len(ledger.ends(job["id"])) == 1


def test_without_postgresql_clients_are_told_at_once_and_everything_goes_on_when_it_is_back(
    undisturbed: Installation, postgresql: PrivatePostgresql, ledger: Ledger
):
    full = undisturbed
    running = full.submit("ledger.work", ledger.gated_args)
    delayed = full.submit("ledger.work", ledger.args, delay_seconds=3)
    full.eventually(lambda: ledger.starts(running["id"]))
    postgresql.stop()
    body = {"type": "ledger.work", "args": ledger.args}
    for ask in (lambda: full.client.post("/v1/jobs", json=body), lambda: full.client.get("/v1/jobs")):
        answer = quickly(ask)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) >= 1
    full.eventually(lambda: ready(full)[0] == 503)
    assert ready(full)[1]["checks"] == UNKNOWN | {"database": "down", "rabbitmq": "ok", "redis": "ok"}
    assert full.client.get("/healthz").status_code == 200
    ledger.open_gate()
    full.eventually(lambda: ledger.ends(running["id"]))  # its result waits for the database, like everything else
    postgresql.start()
    deadline = time.monotonic() + BACK_WITHIN
    full.eventually(lambda: ready(full)[0] == 200, BACK_WITHIN)
    for job in (running, delayed, full.submit("ledger.work", ledger.args)):
        end = full.succeeded(job, deadline - time.monotonic())
        assert (end["attempt"], end["lost"]) == (1, 0)
        assert len(ledger.starts(job["id"])) == len(ledger.ends(job["id"])) == 1


@pytest.mark.long
def test_an_outage_that_outlasts_every_heartbeat_makes_nobody_look_dead(
    undisturbed: Installation, postgresql: PrivatePostgresql, ledger: Ledger
):
    full = undisturbed
    running = [full.submit("ledger.work", ledger.gated_args) for _ in range(2)]
    full.eventually(lambda: len(ledger.starts()) == len(running))
    postgresql.stop()
    time.sleep(LONGER_THAN_SILENCE)
    ledger.open_gate()
    full.eventually(lambda: len(ledger.ends()) == len(running))  # their results wait
    time.sleep(1)
    postgresql.start()
    deadline = time.monotonic() + BACK_WITHIN
    full.eventually(lambda: ready(full)[0] == 200)
    for job in [*running, full.submit("ledger.work", ledger.args)]:
        end = full.succeeded(job, deadline - time.monotonic())
        assert (end["attempt"], end["lost"]) == (1, 0)
        assert len(ledger.starts(job["id"])) == len(ledger.ends(job["id"])) == 1
