"""A cluster of three RabbitMQ nodes under load: any may die and come back, nothing is lost or waits for long."""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.acceptance.installation import Installation
from tests.acceptance.ledger import Ledger
from tests.faults import figures
from tests.faults.conftest import Install
from tests.faults.health import HealthWatch
from tests.faults.invariants import check
from tests.faults.load import Load
from tests.faults.mixture import mixed
from tests.faults.rabbitmq_cluster import Cluster, Node
from tests.faults.under_load import keeps_up
from workers import topology

pytestmark = pytest.mark.timed

FAULT = "rabbitmq-node-of-three"
QUEUE = topology.queue_name("jobmill", "default")
JOBS_A_SECOND = 20.0
UNDISTURBED_SECONDS = 5
LONGEST_PAUSE = 15
STATES = "SELECT state, count(*), max(dispatched_at), now() FROM jobs GROUP BY state"
LATE_SECONDS = 1
"""How far the load may be behind when it ends: the API does without RabbitMQ, and need not refuse anything."""


@pytest.fixture(scope="module")
def cluster(eventually: Callable[..., Any]) -> Iterator[Cluster]:
    with Cluster(eventually) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def full(cluster: Cluster, install: Install) -> Installation:
    return install("full", RABBITMQ_URL=cluster.urls, JOBMILL_THREADS="4")


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.fault(
    "rabbitmq-node-of-three",
    "of three private nodes the queue's leader, both others, and its leader then are killed (-9) under load, one after "
    "the other, and started again",
)
def test_any_node_may_be_killed_under_load_and_come_back_twice(full: Installation, cluster: Cluster, ledger: Ledger):
    pids = {name: process.pid for name, process in full.processes.items()}
    killed: list[tuple[float, str]] = []

    def kill(node: Node) -> None:
        node.wait_until_dispensable()
        role = "leader" if node is cluster.leader_of(QUEUE) else "follower"
        killed.append((time.monotonic(), role))
        node.kill()
        time.sleep(UNDISTURBED_SECONDS)
        # It stays away until the others do its work: what waits for its return would be no pause of theirs.
        try:
            full.eventually(lambda: goes_on_since(killed[-1][0], ledger, load), LONGEST_PAUSE)
        except BaseException as error:
            error.add_note(f"{full.sql(STATES)}\n{cluster.queues_without(node)}")
            raise
        node.start()
        time.sleep(UNDISTURBED_SECONDS)

    with HealthWatch(full.address) as watch, mixed(full, ledger, rate=JOBS_A_SECOND, threads=8) as load:
        began = time.monotonic()
        time.sleep(UNDISTURBED_SECONDS)
        first = cluster.leader_of(QUEUE)
        kill(first)
        # Of the other two one may lead now, and comes after the one that follows.
        leader = cluster.leader_of(QUEUE)
        for node in sorted((node for node in cluster.nodes if node is not first), key=lambda node: node is leader):
            kill(node)
        kill(cluster.leader_of(QUEUE))
        load.stop()
        lasted = time.monotonic() - began

    # A broker's death takes no job from the worker that has it: no handler begins twice for it.
    known = check(full, ledger, load.accepted, faults=0, watch=watch)
    assert {row.state for row in known.rows_of_test()} == {"succeeded"}
    assert len(load.accepted) >= JOBS_A_SECOND * (lasted - LATE_SECONDS)
    assert keeps_up(ledger, load, began + lasted - UNDISTURBED_SECONDS / 2)
    assert {role for _, role in killed} == {"leader", "follower"}
    # No job waits longer for its handler, and no longer is there a stretch in which no handler begins.
    wait, waited_since = longest_wait(ledger, load)
    pause, paused_since = longest_pause(ledger)
    figures.keep(FAULT, "longest wait of a job for its start", wait, "s")
    figures.keep(FAULT, "longest pause in starts", pause, "s")
    figures.keep(FAULT, "jobs accepted", len(load.accepted), "")
    figures.keep(FAULT, "nodes killed", len(killed), "")
    where = [f"{waited_since - at:.1f} s and {paused_since - at:.1f} s after a {role}'s end" for at, role in killed]
    assert max(wait, pause) < LONGEST_PAUSE, (where, full.logs())
    assert {name: process.pid for name, process in full.processes.items()} == pids
    assert all(process.alive for process in full.processes.values())


def goes_on_since(moment: float, ledger: Ledger, load: Load) -> bool:
    """Whether every job that was submitted up to a second after that moment has begun."""
    begun = {entry.job_id for entry in ledger.starts()}
    return begun >= {sent.job_id for sent in list(load.answered) if sent.sent_at < moment + 1}


def longest_wait(ledger: Ledger, load: Load) -> tuple[float, float]:
    """The most seconds from a job's submission until its handler began for the first time, and since when."""
    first = {entry.job_id: entry.at for entry in reversed(ledger.starts())}
    return max((first[sent.job_id] - sent.sent_at, sent.sent_at) for sent in load.answered)


def longest_pause(ledger: Ledger) -> tuple[float, float]:
    """The most seconds between two starts of handlers, and since when."""
    starts = sorted(entry.at for entry in ledger.starts())
    return max((later - earlier, earlier) for earlier, later in pairwise(starts))
