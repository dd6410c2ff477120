"""Limits of queues and shares of tenants, while workers are killed and a backlog waits."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest

from tests.acceptance.installation import Full, Installation
from tests.acceptance.ledger import Ledger
from tests.faults.backlog import forget_backlog, queue_backlog, queue_copies
from tests.faults.beside import complete
from tests.faults.conftest import Install

pytestmark = pytest.mark.timed

LIMIT = 3
BACK_WITHIN = 20.0
BACKLOG, LATE = 100_000, 10
START_WITHIN = 2.0


class Sampled:
    """The most jobs that were seen to run at once, and when so many did last; asked of the database all the time."""

    def __init__(self, url: str) -> None:
        self.most = 0
        self.samples = 0
        self.full_at = 0.0
        self.over = threading.Event()
        self._url = url

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self.over.is_set():
                began = time.monotonic()
                found = connection.execute("SELECT count(*) FROM jobs WHERE state = 'running'").fetchone()
                running = found[0] if found else 0
                self.most, self.samples = max(self.most, running), self.samples + 1
                self.full_at = began if running == LIMIT else self.full_at
                self.over.wait(0.005)


@contextmanager
def sampling(installation: Installation) -> Iterator[Sampled]:
    sampled = Sampled(installation.settings["DATABASE_URL"])
    thread = threading.Thread(target=sampled.run)
    thread.start()
    yield sampled
    sampled.over.set()
    thread.join()


@pytest.mark.parametrize(
    ("processes", "jobs", "kills"), [(4, 40, 2), pytest.param(20, 200, 8, marks=pytest.mark.long)], ids=["small", "all"]
)
def test_a_limit_is_never_passed_and_reached_again_after_a_kill(
    install: Install, ledger: Ledger, processes: int, jobs: int, kills: int
):
    full = complete(install(Full.mode, JOBMILL_PROCESSES=str(processes), JOBMILL_THREADS="1"), processes)
    full.sql(f"INSERT INTO queues (name, max_running) VALUES ('default', {LIMIT})")  # noqa: S608 - our own words
    with sampling(full) as sampled:
        accepted = [full.submit("fault.sleep", ledger.args | {"seconds": 0.5}) for _ in range(jobs)]
        chance = random.Random(7)  # noqa: S311 - a die, not a secret
        for _ in range(kills):
            full.eventually(lambda: time.monotonic() - sampled.full_at < 0.1, BACK_WITHIN)
            # One that runs something, most of the time: by its job's worker.
            busy = full.sql("SELECT pid FROM workers JOIN jobs ON worker_id = workers.id WHERE state = 'running'")
            killed = time.monotonic()
            if busy:
                os.kill(chance.choice(busy)[0], signal.SIGKILL)
            full.eventually(lambda killed=killed: sampled.full_at > killed + 0.2, BACK_WITHIN)
            time.sleep(chance.uniform(0, 1))  # the next at a moment of its own; nothing waits for this
        for job in accepted:
            assert full.ended(job, within_seconds=120)["state"] == "succeeded"
    assert sampled.samples > 100
    assert sampled.most == LIMIT


@pytest.mark.long
@pytest.mark.fault("dispatcher-unfair-tenants", "100,000 jobs of one tenant wait, ten of another come")
def test_ten_jobs_of_a_tenant_begin_while_a_hundred_thousand_of_another_wait(install: Install, ledger: Ledger):
    full = install(Full.mode)
    tenant = uuid4()
    full.sql(f"INSERT INTO tenants (id, name, created_at) VALUES ('{tenant}', 'small', now())")  # noqa: S608 - our own words
    source = full.submit("fault.quick", ledger.args, delay_seconds=3600)
    queue_backlog(full, source, BACKLOG)
    done = "SELECT count(*) FROM jobs WHERE state = 'succeeded' AND type = 'fault.quick'"
    full.eventually(lambda: full.sql(done)[0][0] > 100)

    full.sql(f"UPDATE jobs SET tenant_id = '{tenant}' WHERE id = '{source['id']}'")  # noqa: S608 - our own words
    queue_copies(full, source, LATE)
    waited = "SELECT extract(epoch FROM max(started_at - created_at)), count(started_at) FROM jobs WHERE tenant_id = "
    full.eventually(lambda: full.sql(f"{waited}'{tenant}' AND id <> '{source['id']}'")[0][1] == LATE)
    seconds = float(full.sql(f"{waited}'{tenant}' AND id <> '{source['id']}'")[0][0])
    left = full.sql("SELECT count(*) FROM jobs WHERE state = 'queued'")[0][0]
    forget_backlog(full, source)
    assert left > BACKLOG / 2
    assert seconds < START_WITHIN, f"with {left} of the other tenant waiting"
