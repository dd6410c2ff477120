"""Limits of queues and shares of tenants, while workers are killed and a backlog waits."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import psutil
import psycopg
import pytest

from tests.acceptance.installation import Full, Installation, Json
from tests.acceptance.ledger import Ledger
from tests.acceptance.process import jobmill
from tests.faults.at_rest import complete
from tests.faults.backlog import forget_backlog, queue_backlog
from tests.faults.conftest import Install
from tests.faults.crashing import kill_family, let_time_pass, revive
from tests.faults.figures import keep
from tests.faults.invariants import check

pytestmark = pytest.mark.timed

LIMIT = 3
BUSY = "SELECT pid FROM workers JOIN jobs ON worker_id = workers.id WHERE state = 'running' AND lost = 0"
"""Processes that run what no other one was killed with: a job that is hit three times is buried, as it should be."""
BACK_WITHIN = 20.0
LATE = 10
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
    try:
        yield sampled
    finally:
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
            busy = full.eventually(lambda: [pid for (pid,) in full.sql(BUSY) if psutil.pid_exists(pid)], BACK_WITHIN)
            killed = time.monotonic()
            os.kill(chance.choice(busy), signal.SIGKILL)
            full.eventually(lambda killed=killed: sampled.full_at > killed + 0.2, BACK_WITHIN)
            time.sleep(chance.uniform(0, 1))  # the next at a moment of its own; nothing waits for this
        for job in accepted:
            assert full.ended(job, within_seconds=120)["state"] == "succeeded"
    check(full, ledger, accepted, faults=kills)
    assert sampled.samples > 100
    assert sampled.most == LIMIT


@pytest.mark.fault(
    "dispatcher-unfair-tenants",
    "2,000 jobs of one tenant wait (a million in the long test), and another submits ten",
)
@pytest.mark.parametrize(
    ("backlog", "seconds"),
    [(2000, 0.05), pytest.param(1_000_000, 0, marks=[pytest.mark.long, pytest.mark.timeout(600)])],
    ids=["small", "all"],
)
def test_ten_jobs_that_a_tenant_submits_begin_while_a_backlog_of_another_waits(
    install: Install, ledger: Ledger, backlog: int, seconds: float
):
    full = install(Full.mode, JOBMILL_THREADS="8")  # one without the limit of the test above
    job_type, args = ("fault.sleep", ledger.args | {"seconds": seconds}) if seconds else ("fault.quick", ledger.args)
    small = made(full, "tenants", "create", "small")["id"]
    token = made(full, "keys", "create", "--tenant", "small", "--name", "small", "--role", "admin")["token"]
    source = full.submit(job_type, args, delay_seconds=3600)
    known = len(full.accepted)
    # Nobody does any of them meanwhile, or few might be left.
    let_time_pass(full, kill_family(full.processes["dispatcher"]))
    queue_backlog(full, source, backlog)
    revive(full)
    full.eventually(lambda: len(ledger.ends()) > 100)

    late = [submitted_by(token, full, job_type, args) for _ in range(LATE)]
    theirs = {job["id"] for job in late}
    full.eventually(lambda: theirs <= {entry.job_id for entry in ledger.starts()})
    waited = f"SELECT extract(epoch FROM max(started_at - created_at)) FROM jobs WHERE tenant_id = '{small}'"  # noqa: S608
    seconds_waited = float(full.sql(waited)[0][0])
    left = full.sql("SELECT count(*) FROM jobs WHERE state = 'queued'")[0][0]
    forget_backlog(full, source)
    assert left > backlog / 2
    assert seconds_waited < START_WITHIN, f"with {left} of the other tenant waiting"
    keep("dispatcher-unfair-tenants", "the last of ten jobs beside them began after", seconds_waited, "s")
    check(full, ledger, [job for job in full.accepted[known:] if job["id"] not in theirs], faults=0)
    check(full, ledger, late, faults=0, tenant=small)


def made(installation: Installation, *words: str) -> Json:
    """What an operator makes by the command."""
    done = jobmill(*words, "--json", settings=installation.settings, folder=installation.folder)
    assert done.returncode == 0, done.stderr
    document: Json = json.loads(done.stdout)
    return document


def submitted_by(token: str, installation: Installation, job_type: str, args: Json) -> Json:
    """A job that whoever has that key submits."""
    body, bearer = {"type": job_type, "args": args}, {"Authorization": f"Bearer {token}"}
    answer = installation.client.post("/v1/jobs", json=body, headers=bearer)
    assert answer.status_code == httpx2.codes.ACCEPTED, answer.text
    installation.accepted.append(answer.json())
    return installation.accepted[-1]
