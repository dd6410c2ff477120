"""RabbitMQ stopped, killed, wiped, blocked, frozen and behind a bad line, in the middle of a steady load."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pika
import psutil
import pytest

from tests.acceptance.installation import Installation
from tests.acceptance.ledger import Ledger
from tests.acceptance.private_services import PrivateRabbitmq
from tests.faults import figures
from tests.faults.conftest import Install
from tests.faults.crashing import await_freeze, frozen, kill_family, revive, start_armed
from tests.faults.evidence import Evidence, pages
from tests.faults.invariants import check
from tests.faults.load import submit_patiently
from tests.faults.under_load import under_load
from tests.proxy import Proxy
from workers import topology

pytestmark = [pytest.mark.timed, pytest.mark.long, pytest.mark.timeout(240)]

THREADS = 4


@pytest.fixture(scope="module")
def rabbitmq(eventually: Callable[..., Any]) -> Iterator[PrivateRabbitmq]:
    server = PrivateRabbitmq(eventually)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def full(rabbitmq: PrivateRabbitmq, install: Install) -> Installation:
    return install("full", RABBITMQ_URL=rabbitmq.url, JOBMILL_THREADS=str(THREADS))


@pytest.fixture(scope="module")
def proxy(rabbitmq: PrivateRabbitmq) -> Iterator[Proxy]:
    proxy = Proxy(rabbitmq.url)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def linked(proxy: Proxy, install: Install) -> Installation:
    """An installation whose way to RabbitMQ is a proxy."""
    return install("full", RABBITMQ_URL=proxy.url, JOBMILL_QUEUE_PREFIX="linked", JOBMILL_THREADS=str(THREADS))


def greets(url: str) -> bool:
    """Whether a broker begins to speak, as it does at once when it is well."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=1) as client:
        client.sendall(b"AMQP\x00\x00\x09\x01")
        try:
            return bool(client.recv(1))
        except TimeoutError:
            return False


def is_refused(server: PrivateRabbitmq) -> bool:
    try:
        greets(server.url)
    except ConnectionRefusedError:
        return True
    return False


def said(installation: Installation, process: str, event: str) -> int:
    """How often a process has written a log line of this name."""
    return installation.processes[process].words.count(f'"event": "{event}"')


@pytest.mark.fault("rabbitmq-restart", "a private node is stopped under load, and started again")
def test_a_restart_under_load_costs_its_own_time_and_nothing_else(
    full: Installation, rabbitmq: PrivateRabbitmq, ledger: Ledger
):
    with under_load(full, ledger, "rabbitmq-restart") as trial:
        rabbitmq.stop()
        with trial.away("rabbitmq"):
            assert is_refused(rabbitmq)
        rabbitmq.start()


@pytest.mark.fault("rabbitmq-killed", "a private node's processes are killed (-9) under load, and it is started again")
def test_a_broker_killed_under_load_costs_its_own_time_and_nothing_else(
    full: Installation, rabbitmq: PrivateRabbitmq, ledger: Ledger
):
    with under_load(full, ledger, "rabbitmq-killed") as trial:
        rabbitmq.kill()
        with trial.away("rabbitmq"):
            assert is_refused(rabbitmq)
        rabbitmq.start()


@pytest.mark.fault("rabbitmq-wiped", "a private node is reset while messages wait on it, under load")
def test_a_broker_wiped_while_jobs_are_dispatched_is_filled_again_from_the_rows(
    full: Installation, rabbitmq: PrivateRabbitmq, ledger: Ledger
):
    with under_load(full, ledger, "rabbitmq-wiped") as trial:
        held = [submit_patiently(full, "fault.gated", ledger.gated_args) for _ in range(THREADS)]
        full.eventually(lambda: all(ledger.starts(job["id"]) for job in held))
        full.eventually(lambda: waiting(rabbitmq) >= THREADS)
        trial.load.accepted += held
        rabbitmq.wipe()
        assert waiting(rabbitmq) < THREADS
        ledger.open_gate()


def waiting(server: PrivateRabbitmq) -> int:
    """The messages on all queues that no consumer has yet."""
    return sum(int(line) for line in server.control("list_queues", "messages_ready", "--no-table-headers").split())


@contextmanager
def short_of_memory(server: PrivateRabbitmq) -> Iterator[None]:
    """A node that reads nothing more from who publishes."""
    server.control("set_vm_memory_high_watermark", "0.0000001")
    assert "memory" in server.control("eval", "rabbit_alarm:get_alarms().")
    yield
    assert "memory" in server.control("eval", "rabbit_alarm:get_alarms().")
    server.control("set_vm_memory_high_watermark", "0.4")
    assert server.control("eval", "rabbit_alarm:get_alarms().").strip() == "[]"


@pytest.mark.fault("rabbitmq-blocked", "a private node's high watermark of memory set to nothing, under load")
def test_publishers_blocked_under_load_leave_accepting_and_finishing_alone(
    full: Installation, rabbitmq: PrivateRabbitmq, ledger: Ledger
):
    with under_load(full, ledger, "rabbitmq-blocked") as trial:
        begun = submit_patiently(full, "fault.gated", ledger.gated_args)
        full.eventually(lambda: ledger.starts(begun["id"]))
        trial.load.accepted.append(begun)
        told = said(full, "dispatcher", "publisher_blocked")
        with short_of_memory(rabbitmq):
            full.eventually(lambda: said(full, "dispatcher", "publisher_blocked") > told)
            trial.submit_until(100)
            ledger.open_gate()
            full.succeeded(begun)
            (last,) = trial.load.accepted[-1:]
            assert full.job(last["id"])["state"] == "queued"


@pytest.mark.fault("rabbitmq-frozen", "a private node's processes are stopped (SIGSTOP) under load")
def test_a_frozen_broker_costs_its_own_time_and_nothing_else(
    full: Installation, rabbitmq: PrivateRabbitmq, ledger: Ledger
):
    with under_load(full, ledger, "rabbitmq-frozen") as trial, frozen(rabbitmq.pids), trial.away("rabbitmq"):
        assert {psutil.Process(pid).status() for pid in rabbitmq.pids} == {psutil.STATUS_STOPPED}
        assert not greets(rabbitmq.url)


@pytest.mark.fault("rabbitmq-half-open", "a proxy swallows all that passes, and its connections stay dead, under load")
def test_half_open_connections_are_given_up_and_made_anew(linked: Installation, proxy: Proxy, ledger: Ledger):
    with under_load(linked, ledger, "rabbitmq-half-open") as trial:
        with proxy.black_hole(), trial.away("rabbitmq"):
            assert not greets(proxy.url)
        assert greets(proxy.url)


@pytest.mark.fault("rabbitmq-slow-link", "a proxy delays, throttles, and breaks all connections again and again")
def test_a_slow_link_that_breaks_again_and_again_loses_nothing(linked: Installation, proxy: Proxy, ledger: Ledger):
    with under_load(linked, ledger, "rabbitmq-slow-link") as trial, proxy.slow(latency=0.05, bytes_per_second=50_000):
        for _ in range(3):
            ended = len(ledger.ends())
            lost = said(linked, "dispatcher", "publisher_disconnected")
            proxy.reset_after(20_000)
            linked.eventually(lambda before=lost: said(linked, "dispatcher", "publisher_disconnected") > before, 20)
            linked.eventually(lambda before=ended: len(ledger.ends()) > before, 20)
        trial.submit_until(1)


LIMIT = 2


@pytest.fixture
def impatient(rabbitmq: PrivateRabbitmq) -> Iterator[str]:
    """A queue whose messages a private node delivers no more than three times."""
    queue = topology.queue_name("jobmill", "default")
    limit = f'{{"delivery-limit": {LIMIT}}}'
    rabbitmq.control("set_policy", "impatient", f"^{queue}$", limit, "--apply-to", "queues")
    yield queue
    rabbitmq.control("clear_policy", "impatient")


@pytest.mark.fault(
    "rabbitmq-delivery-limit", "a worker killed before each start, more often than a node's limit allows"
)
def test_a_job_outlives_its_message_whose_deliveries_were_used_up(
    full: Installation, rabbitmq: PrivateRabbitmq, impatient: str, ledger: Ledger
):
    worker = full.worker
    kill_family(worker)
    job = submit_patiently(full, "fault.quick", ledger.args)
    for _ in range(LIMIT + 1):
        # Frozen there, it is killed with its parent, whose next process would be unharmed and do the job.
        await_freeze(full, start_armed(worker, "worker.before_start=stop"), "worker.before_start")
        kill_family(worker)
    # Of a living job, and so its claim is released, and another message sent for it; unless *reconcile*, which misses
    # the message meanwhile, has done that a moment before.
    full.eventually(lambda: collected(full, "released") + collected(full, "stale") == 1, 20, 0.2)
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq.url))) as connection:
        dead_letters = connection.channel().queue_declare(topology.dead_letter_name(impatient), passive=True)
    assert dead_letters.method.message_count == 0
    assert full.sql("SELECT count(*) FROM undeliverable") == [(0,)]
    assert ledger.starts() == []
    lifted_at = time.monotonic()
    revive(full)
    check(full, ledger, [job], lifted_at=lifted_at, faults=0)
    figures.keep(
        "rabbitmq-delivery-limit", "from the worker's start to the job's", ledger.starts()[0].at - lifted_at, "s"
    )
    assert full.job(job["id"])["state"] == "succeeded"


def collected(full: Installation, outcome: str) -> float:
    """How many messages the dispatcher has taken from RabbitMQ's dead letters that came to this."""
    return Evidence([], pages=pages(full)).counted("jobmill_collected_total", outcome=outcome)
