"""The primary is lost under load and its standby promoted: the installation follows by itself, and no 202 is broken."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import count, pairwise
from typing import Any

import httpx2
import pytest

from tests.acceptance.installation import Installation
from tests.acceptance.installer import Installer
from tests.acceptance.ledger import Ledger
from tests.faults.figures import keep
from tests.faults.postgresql_pair import PostgresqlPair

pytestmark = pytest.mark.timed

FAULT = "postgresql-failover"
JOBS_A_SECOND = 40
STEADY_SECONDS = 4
UNTIL_PROMOTED = 1.0
"""What noticing the loss and deciding on it takes whoever promotes: with a tool for it, or by hand, it takes longer."""
LONGEST_PAUSE = 10.0
DONE_SECONDS = 30


class Load:
    """A client that submits at a steady rate, and each job again under its key until it is accepted."""

    def __init__(self, full: Installation, ledger: Ledger) -> None:
        self.full = full
        self.body = {"type": "ledger.work", "args": ledger.args}
        self.accepted: dict[str, str] = {}
        self.answered_at: list[float] = []
        self.refused = 0
        self._over = threading.Event()
        self._numbers = count(1)
        self._threads = [threading.Thread(target=self._submit_all) for _ in range(8)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, once everything begun is accepted."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def longest_pause(self) -> float:
        return longest_gap(self.answered_at)

    def _submit_all(self) -> None:
        while not self._over.wait(len(self._threads) / JOBS_A_SECOND):
            self._submit(f"failover-{next(self._numbers)}")

    def _submit(self, key: str) -> None:
        while (job_id := self._try(key)) is None:
            self.refused += 1
            time.sleep(0.1)
        self.accepted[key] = job_id
        self.answered_at.append(time.monotonic())

    def _try(self, key: str) -> str | None:
        try:
            answer = self.full.client.post("/v1/jobs", json=self.body, headers={"Idempotency-Key": key})
        except httpx2.TransportError:
            return None
        assert answer.status_code in {202, 503}, answer.text
        return answer.json()["id"] if answer.status_code == httpx2.codes.ACCEPTED else None


@pytest.fixture
def pair(eventually: Callable[..., Any]) -> Iterator[PostgresqlPair]:
    made = PostgresqlPair(eventually)
    with ExitStack() as stack:
        stack.callback(made.remove)
        made.start()
        yield made


@pytest.fixture
def full(request: pytest.FixtureRequest, pair: PostgresqlPair) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installer(request, stack)("full", DATABASE_URL=pair.url)


@pytest.fixture
def ledger(tmp_path: Any) -> Ledger:
    return Ledger(tmp_path)


@pytest.mark.fault("postgresql-failover", "every process of the primary killed (-9) under load, `pg_ctl promote`")
def test_the_installation_follows_a_promoted_standby_and_every_acknowledged_job_is_there(
    full: Installation, pair: PostgresqlPair, ledger: Ledger
):
    pids = {name: process.pid for name, process in full.processes.items()}
    load = Load(full, ledger)
    load.start()
    time.sleep(STEADY_SECONDS)  # not a hope: the load before
    before = len(load.accepted)
    pair.kill_primary()
    time.sleep(UNTIL_PROMOTED)
    pair.standby.promote()
    promoted = time.monotonic()
    full.eventually(lambda: load.answered_at[-1] > promoted, LONGEST_PAUSE)
    back = load.answered_at[-1] - promoted
    time.sleep(STEADY_SECONDS)
    load.stop()
    after = len(load.accepted) - before
    full.eventually(lambda: unfinished(full) == 0, DONE_SECONDS)

    assert load.refused
    assert min(before, after) > JOBS_A_SECOND
    rows = dict(full.sql("SELECT id::text, state FROM jobs WHERE type = 'ledger.work'"))
    assert {rows.get(job_id) for job_id in load.accepted.values()} == {"succeeded"}
    assert set(rows) == set(load.accepted.values())  # each key made one job
    ended = [entry.job_id for entry in ledger.ends()]
    assert set(ended) == set(rows)
    keep(FAULT, "accepted and done", len(rows), "jobs")
    keep(FAULT, "refused meanwhile with 503", load.refused, "requests")
    keep(FAULT, "longest pause between two 202s", load.longest_pause(), "s")
    keep(FAULT, "longest pause between two jobs done", longest_gap(entry.at for entry in ledger.ends()), "s")
    keep(FAULT, "first 202 after the promotion", back, "s")
    assert load.longest_pause() < LONGEST_PAUSE
    assert {name: process.pid for name, process in full.processes.items()} == pids
    assert all(process.alive for process in full.processes.values())


def longest_gap(moments: Iterable[float]) -> float:
    return max(after - before for before, after in pairwise(sorted(moments)))


def unfinished(full: Installation) -> int:
    return full.sql("SELECT count(*) FROM jobs WHERE state NOT IN ('succeeded', 'dead', 'cancelled', 'discarded')")[0][
        0
    ]
