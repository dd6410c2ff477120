"""A cluster of three RabbitMQ nodes under load: any may die and come back, nothing is lost or waits for long."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import pytest

from tests.acceptance.installation import Installation
from tests.acceptance.installer import Installer
from tests.acceptance.ledger import Ledger
from tests.faults import figures
from tests.faults.rabbitmq_cluster import Cluster

pytestmark = pytest.mark.timed

FAULT = "rabbitmq-node-of-three"
EVERY_SECONDS = 0.05
UNDISTURBED_SECONDS = 5
LONGEST_PAUSE = 15
ALL_DONE_SECONDS = 40


@pytest.fixture(scope="module")
def cluster(eventually: Callable[..., Any]) -> Iterator[Cluster]:
    with Cluster(eventually) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def full(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installer(request, stack)("full", RABBITMQ_URL=cluster.urls, JOBMILL_THREADS="4")


@pytest.fixture
def ledger(tmp_path: Any) -> Ledger:
    return Ledger(tmp_path)


@contextmanager
def submitted_steadily(full: Installation, ledger: Ledger) -> Iterator[list[str]]:
    """The ids of the jobs accepted so far, one every few hundredths of a second while the block lasts."""
    accepted: list[str] = []
    over = threading.Event()

    def submit() -> None:
        while not over.wait(EVERY_SECONDS):
            accepted.append(full.submit("ledger.work", ledger.args)["id"])

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield accepted
    finally:
        over.set()
        thread.join()


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.fault(
    "rabbitmq-node-of-three",
    "of three private nodes first one, then another is killed (-9) under load, and started again",
)
def test_any_node_may_be_killed_under_load_and_come_back_twice(full: Installation, cluster: Cluster, ledger: Ledger):
    pids = {name: process.pid for name, process in full.processes.items()}
    killed: list[float] = []
    with submitted_steadily(full, ledger) as accepted:
        time.sleep(UNDISTURBED_SECONDS)
        # The first is the publisher's own, and leads the queues; when it is gone, the second is the publisher's.
        for node in cluster.nodes[:2]:
            node.wait_until_dispensable()
            killed.append(time.monotonic())
            node.kill()
            time.sleep(LONGEST_PAUSE)
            node.start()
            time.sleep(UNDISTURBED_SECONDS)

    def ends() -> set[str]:
        return {entry.job_id for entry in ledger.ends()}

    full.eventually(lambda: ends() >= set(accepted), ALL_DONE_SECONDS, 0.5)
    full.eventually(lambda: states(full) == {"succeeded"}, ALL_DONE_SECONDS, 0.5)
    starts = sorted(entry.at for entry in ledger.starts())
    pause, began = max((later - earlier, earlier) for earlier, later in pairwise(starts))
    where = [f"{began - at:.1f} s after a kill" for at in killed]
    figures.keep(FAULT, "longest pause in starts", pause, "s")
    figures.keep(FAULT, "jobs accepted", len(accepted), "")
    figures.keep(FAULT, "handlers started more than once", len(starts) - len({e.job_id for e in ledger.starts()}), "")
    assert len(accepted) > 0.5 * (time.monotonic() - killed[0]) / EVERY_SECONDS * 0.5
    assert pause < LONGEST_PAUSE, (where, full.logs())
    assert {name: process.pid for name, process in full.processes.items()} == pids
    assert all(process.alive for process in full.processes.values())


def states(full: Installation) -> set[str]:
    return {state for (state,) in full.sql("SELECT DISTINCT state FROM jobs")}
