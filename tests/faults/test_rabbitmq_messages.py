"""What may lie in a queue or become of it: messages that come again and again, messages that are none, and the queue
itself deleted, or made anew with other arguments.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from models.ids import new_id
from models.job import Ref
from models.undeliverable import MOST_BODY_BYTES
from tests.acceptance.installation import Installation, Json, metrics_port
from tests.acceptance.ledger import Ledger
from tests.acceptance.process import Process, jobmill
from tests.faults.conftest import Install
from tests.faults.crashing import family, frozen
from tests.faults.evidence import Evidence, pages
from tests.faults.invariants import check
from tests.faults.load import Load, submit_patiently
from tests.faults.under_load import under_load
from tests.unit.test_messages import MALFORMED
from workers import topology
from workers.messages import encode

pytestmark = pytest.mark.timed

THREADS = 4
TIMES = 100


@pytest.fixture(scope="module")
def full(install: Install) -> Installation:
    """Two workers, who compete for every message."""
    full = install("full", JOBMILL_THREADS=str(THREADS))
    folder = full.folder / "second"
    folder.mkdir()
    second = full.processes["second"] = Process("worker", settings=full.settings | metrics_port(), folder=folder)
    second.start()
    full.eventually(lambda: len(full.client.get("/v1/workers").json()["data"]) == 2, 20)
    return full


@dataclass
class Queue:
    """The queue `default` of an installation, as one sees it who can reach its broker."""

    channel: Any
    name: str

    def publish(self, body: bytes) -> None:
        self.channel.basic_publish("", self.name, body, mandatory=True)

    def depth(self, name: str) -> int:
        return self.channel.queue_declare(name, passive=True).method.message_count


@pytest.fixture
def queue(full: Installation) -> Iterator[Queue]:
    with closing(pika.BlockingConnection(pika.URLParameters(full.settings["RABBITMQ_URL"]))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield Queue(channel, topology.queue_name(full.settings["JOBMILL_QUEUE_PREFIX"], "default"))


@pytest.fixture
def counted(full: Installation) -> Callable[..., float]:
    """How much a metric has risen since the test began, over all processes."""
    before = Evidence([], pages=pages(full))
    return lambda name, **labels: (
        Evidence([], pages=pages(full)).counted(name, **labels) - before.counted(name, **labels)
    )


@pytest.fixture(autouse=True)
def _the_same_processes(full: Installation) -> Iterator[None]:
    before = {name: family(process) for name, process in full.processes.items()}
    yield
    assert {name: family(process) for name, process in full.processes.items()} == before


@pytest.mark.fault("rabbitmq-duplicates", "a job's message published 100 times, before it starts, meanwhile and after")
def test_a_message_that_comes_100_times_does_its_job_once(
    full: Installation, queue: Queue, ledger: Ledger, counted: Callable[..., float]
):
    def in_vain() -> float:
        return counted("jobmill_stale_total", move="start") + counted("jobmill_duplicate_deliveries_total")

    with frozen(family(full.worker) + family(full.processes["second"])):  # so that all of them come at once
        job = submit_patiently(full, "fault.gated", ledger.gated_args)
        full.in_state(job, "dispatched")
        body = body_of(full, job)
        for _ in range(TIMES):
            queue.publish(body)
    full.eventually(lambda: in_vain() == TIMES)
    for _ in range(TIMES):
        queue.publish(body)
    full.eventually(lambda: in_vain() == 2 * TIMES)
    ledger.open_gate()
    full.succeeded(job)
    for _ in range(TIMES):
        queue.publish(body)
    full.eventually(lambda: in_vain() == 3 * TIMES)
    check(full, ledger, [job], faults=0)
    assert full.job(job["id"])["attempt"] == len(ledger.starts(job["id"])) == 1


def body_of(full: Installation, job: Json) -> bytes:
    """The message that the dispatcher sent for a job."""
    ((lease,),) = full.sql(f"SELECT lease FROM jobs WHERE id = '{job['id']}'")  # noqa: S608 - our own words
    return b'{"run":[["%s",%d]]}' % (job["id"].encode(), lease)


@pytest.mark.fault("rabbitmq-malformed", "every body that is no message of ours, raw into a live queue, under load")
def test_every_malformed_message_is_kept_and_counted_while_jobs_go_on(
    full: Installation, queue: Queue, ledger: Ledger, counted: Callable[..., float]
):
    of_no_job = encode([Ref(new_id(), 1)])  # of the right form, for a job that nobody submitted
    with Load(full, "fault.quick", ledger.args, rate=20) as load:
        for body in MALFORMED.values():
            queue.publish(body)
        queue.publish(of_no_job)
        full.eventually(lambda: len(undeliverable(full)) == len(MALFORMED) + 1, 30)
        done, accepted = len(ledger.ends()), len(load.accepted)
        full.eventually(lambda: len(load.accepted) >= accepted + 20)
        full.eventually(lambda: len(ledger.ends()) >= done + 20)
    check(full, ledger, load.accepted, faults=0)
    assert Counter(body for _, body in undeliverable(full)) == Counter(
        [body[:MOST_BODY_BYTES] for body in [*MALFORMED.values(), of_no_job]]
    )
    assert [reason for reason, body in undeliverable(full) if body == of_no_job] == ["unknown_job"]
    assert (queue.depth(queue.name), queue.depth(topology.dead_letter_name(queue.name))) == (0, 0)
    assert counted("jobmill_bad_messages_total") == len(MALFORMED)
    assert counted("jobmill_stale_total", move="start") == 1


def undeliverable(full: Installation) -> list[tuple[str, bytes]]:
    """The reason and body of each message that is kept."""
    return [(reason, bytes(body)) for reason, body in full.sql("SELECT reason, body FROM undeliverable ORDER BY id")]


@pytest.mark.fault("rabbitmq-queue-deleted", "a queue deleted with what lies in it, under load")
def test_a_queue_deleted_under_load_is_made_anew_and_filled_from_the_rows(
    full: Installation, queue: Queue, ledger: Ledger
):
    with under_load(full, ledger, "rabbitmq-queue-deleted") as trial:
        held = [submit_patiently(full, "fault.gated", ledger.gated_args) for _ in range(2 * THREADS)]
        trial.load.accepted += held
        full.eventually(
            lambda: len({entry.job_id for entry in ledger.starts()} & {job["id"] for job in held}) == len(held)
        )
        full.eventually(lambda: queue.depth(queue.name) >= THREADS)
        assert queue.channel.queue_delete(queue.name).method.message_count >= THREADS
        ledger.open_gate()


@pytest.mark.fault("rabbitmq-arguments", "a queue made anew as a classic one by hand, under load")
def test_a_queue_with_other_arguments_stops_that_queue_only_and_until_it_is_deleted(
    full: Installation, queue: Queue, ledger: Ledger, counted: Callable[..., float]
):
    with under_load(full, ledger, "rabbitmq-arguments") as trial:
        full.eventually(lambda: made_anew(queue))
        full.eventually(lambda: counted("jobmill_wrong_queues_total") >= len(full.processes) - 1, 20)
        trial.submit_until(50)
        elsewhere = submit_patiently(full, "fault.quick", ledger.args, queue="webhooks")
        full.succeeded(elsewhere, 20)
        last = trial.load.accepted[-1]
        trial.load.accepted.append(elsewhere)
        assert full.job(last["id"])["state"] in {"queued", "dispatched"}
        queue.channel.queue_delete(queue.name)


@pytest.mark.fault("rabbitmq-arguments", "a queue made anew otherwise by hand, and mended by two at once, under load")
@pytest.mark.parametrize("otherwise", [{"x-queue-type": "classic"}, {"x-delivery-limit": 20}], ids=str)
def test_a_queue_with_other_arguments_is_mended_under_load_whoever_consumes_it_and_no_job_is_lost(
    full: Installation,
    queue: Queue,
    ledger: Ledger,
    counted: Callable[..., float],
    tmp_path_factory: pytest.TempPathFactory,
    otherwise: dict[str, Any],
):
    arguments = topology.queue_arguments(queue.name) | otherwise if "x-delivery-limit" in otherwise else otherwise
    migrate = partial(
        jobmill, "queues", "migrate", "--yes", settings=full.settings, folder=tmp_path_factory.mktemp("x")
    )
    with under_load(full, ledger, "rabbitmq-arguments") as trial, hoarding(full, queue.name) as hoard:
        full.eventually(lambda: made_anew(queue, arguments))
        queue.publish(encode([Ref(new_id(), 1)]))
        full.eventually(hoard)
        full.eventually(lambda: counted("jobmill_wrong_queues_total") >= 1, 20)
        trial.submit_until(20)
        with ThreadPoolExecutor(2) as operators:
            ended = [one.result() for one in [operators.submit(migrate), operators.submit(migrate)]]
        assert {0} <= {one.returncode for one in ended} <= {0, 1}, ended
        assert all("is at work" in one.stderr for one in ended if one.returncode)


@contextmanager
def hoarding(full: Installation, name: str) -> Iterator[Callable[[], bool]]:
    """Have somebody, once called, consume as a worker of another release might: he takes, and answers nothing."""
    with closing(pika.BlockingConnection(pika.URLParameters(full.settings["RABBITMQ_URL"]))) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)

        def consume() -> bool:
            method, _, _ = next(channel.consume(name, inactivity_timeout=0.2))
            return method is not None

        yield consume


def made_anew(queue: Queue, arguments: dict[str, Any] | None = None) -> bool:
    """Replace the queue by a classic one, or another; False if a process was quicker to declare it."""
    queue.channel.queue_delete(queue.name)
    try:
        queue.channel.queue_declare(queue.name, durable=True, arguments=arguments)
    except ChannelClosedByBroker:
        queue.channel = queue.channel.connection.channel()
        return False
    return True
