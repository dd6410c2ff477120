"""The duty that empties RabbitMQ's dead letters: what goes back to its job, what is kept, and nothing twice."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pika
import pytest
from pika.exceptions import StreamLostError

from models import undeliverable
from models.crashpoints import CrashPointReached, arm
from models.database import Database
from models.ids import new_id
from models.job import Ref
from models.states import State
from models.undeliverable import MOST_BODY_BYTES, Undeliverable, UndeliverableReason
from tests.factories import job_in, row_of
from tests.unit.test_messages import MALFORMED
from tests.workbench import Bench, counted, leading
from workers import topology
from workers.dead_queues import Arrival, DeadQueues, DeadQueuesDoor
from workers.duties.collect import AWAY_SECONDS, EVERY_SECONDS, Collect
from workers.duties.judging import collect, judged
from workers.messages import encode
from workers.publisher import Publisher

NOBODYS = Ref(UUID(int=7), 1)
LEADS = leading()
STANDS_BY = leading(held=False)


def kept(database: Database) -> list[Undeliverable]:
    """All that is kept, oldest first, with bodies."""
    with database.reading() as session:
        found = undeliverable.list_undeliverable(session, None, None, None, 10_000)
        whole = [undeliverable.find_undeliverable(session, message.id) for message in reversed(found)]
    return [message for message in whole if message is not None]


def arrived(body: bytes, queue: str = "default", digest: bytes = b"", **told: Any) -> Arrival:
    given = {"redelivered": False, "why": "rejected", "dead_lettered_at": None, "headers": {}, "properties": {}}
    return Arrival(tag=1, queue=queue, body=body, digest=digest or new_id().bytes, **(given | told))


def collected(database: Database, *arrivals: Arrival) -> Any:
    batch = [(judged(arrival), new_id()) for arrival in arrivals]
    return database.run(lambda session: collect(session, batch))


# The decision and its transaction, on both databases.


@pytest.mark.parametrize(
    ("body", "why", "reason"),
    [
        (b'{"run": [["', "rejected", UndeliverableReason.UNDECODABLE),
        (b"", "rejected", UndeliverableReason.UNDECODABLE),
        (b"x" * 70_000, "rejected", UndeliverableReason.TOO_LARGE),
        (MALFORMED["Dramatiq's own message"], "rejected", UndeliverableReason.UNKNOWN_ACTOR),
        (orjson.dumps({"task": "send_mail"}), "rejected", UndeliverableReason.FOREIGN),
        (encode([NOBODYS]), "rejected", UndeliverableReason.UNKNOWN_JOB),
        (encode([NOBODYS]), "delivery_limit", UndeliverableReason.DELIVERY_LIMIT),
        (b"{", "delivery_limit", UndeliverableReason.UNDECODABLE),
        (encode([NOBODYS]), None, UndeliverableReason.UNKNOWN_JOB),
    ],
)
def test_the_reason_is_what_is_wrong_with_the_message(body: bytes, why: str | None, reason: UndeliverableReason):
    assert judged(arrived(body, why=why)).reason is reason


def test_what_is_of_no_job_is_kept_as_it_came(database: Database):
    message = arrived(b"\xff\x00rest", headers={"tenant": "x"}, properties={"app_id": "other"})
    outcome = collected(database, message)
    assert (outcome.undeliverable, outcome.released, outcome.stale) == (1, 0, 0)
    (row,) = kept(database)
    assert (row.queue, row.reason, row.body, row.body_bytes) == (
        "default",
        UndeliverableReason.UNDECODABLE,
        b"\xff\x00rest",
        6,
    )
    assert (row.headers, row.properties) == ({"tenant": "x"}, {"app_id": "other"})
    assert "no JSON" in row.detail


def test_of_a_large_body_the_beginning_is_kept_and_the_length_told(database: Database):
    collected(database, arrived(b"x" * 1_000_000))
    (row,) = kept(database)
    assert (len(row.body), row.body_bytes, row.reason) == (MOST_BODY_BYTES, 1_000_000, UndeliverableReason.TOO_LARGE)


def test_a_message_of_a_living_job_gives_its_claim_back(database: Database):
    with database.transaction() as session:
        ref = job_in(session, State.DISPATCHED)
    outcome = collected(database, arrived(encode([ref]), why="delivery_limit"))
    assert (outcome.released, outcome.stale, outcome.undeliverable) == (1, 0, 0)
    with database.reading() as session:
        assert row_of(session, ref)["state"] == State.QUEUED
    assert kept(database) == []


@pytest.mark.parametrize("state", [state for state in State if state is not State.DISPATCHED])
def test_a_message_of_a_job_that_has_gone_on_is_dropped(database: Database, state: State):
    with database.transaction() as session:
        ref = job_in(session, state)
        before = row_of(session, ref)
    outcome = collected(database, arrived(encode([ref])))
    assert (outcome.released, outcome.stale, outcome.undeliverable) == (0, 1, 0)
    with database.reading() as session:
        assert row_of(session, ref) == before


def test_a_claim_under_a_later_lease_is_left_alone(database: Database):
    with database.transaction() as session:
        ref = job_in(session, State.DISPATCHED)
    outcome = collected(database, arrived(encode([Ref(ref.id, ref.lease - 1)])))
    assert (outcome.released, outcome.stale) == (0, 1)
    with database.reading() as session:
        assert row_of(session, ref)["state"] == State.DISPATCHED


def test_a_message_that_names_one_job_that_is_there_is_of_that_job(database: Database):
    with database.transaction() as session:
        ref = job_in(session, State.DISPATCHED)
    outcome = collected(database, arrived(encode([ref, Ref(new_id(), 1)])))
    assert (outcome.released, outcome.stale, outcome.undeliverable) == (1, 1, 0)


def test_a_message_that_comes_again_is_one_row_and_its_twin_another(database: Database):
    first = arrived(b"x", digest=b"same")
    assert collected(database, first, first).undeliverable == 2  # alike to the last bit, and two
    again = arrived(b"x", digest=b"same", redelivered=True)
    outcome = collected(database, again)
    assert (outcome.undeliverable, outcome.again) == (0, 1)
    assert len(kept(database)) == 2


def test_a_message_that_came_before_and_was_not_kept_then_is_kept_now(database: Database):
    assert collected(database, arrived(b"x", redelivered=True)).undeliverable == 1


def test_a_flood_of_one_kind_pushes_out_only_its_own(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(undeliverable.forget_oldest, "__defaults__", (3,))
    collected(database, arrived(b"{}"), arrived(b"x", queue="media"), arrived(b"x0"))
    outcome = collected(database, *[arrived(b"x%d" % number) for number in range(1, 6)])
    assert outcome.forgotten == 3
    assert [message.body for message in kept(database)] == [b"{}", b"x", b"x3", b"x4", b"x5"]


def test_a_batch_that_is_tried_again_after_a_lost_answer_is_kept_once(database: Database):
    batch = [(judged(arrived(b"x")), new_id())]
    for _ in range(2):
        database.run(lambda session: collect(session, batch))
    assert len(kept(database)) == 1


# On RabbitMQ.


@pytest.fixture
def channel(rabbitmq_url: str) -> Iterator[Any]:
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


@pytest.fixture
def publisher(rabbitmq_url: str, queue_prefix: str, eventually: Callable[..., Any]) -> Iterator[Publisher]:
    publisher = Publisher((rabbitmq_url,), queue_prefix, "jobmill-tests")
    publisher.start()
    eventually(lambda: publisher.connected)
    yield publisher
    publisher.stop()


@pytest.fixture
def duty(
    postgresql_database: Database, publisher: Publisher, rabbitmq_url: str, queue_prefix: str, channel: Any
) -> Collect:
    for queue in ("default", "media"):
        topology.declare(channel, topology.queue_name(queue_prefix, queue))
    door = DeadQueuesDoor((rabbitmq_url,), queue_prefix, "jobmill-tests")
    return Collect(postgresql_database, publisher, LEADS, door, ["default"])


@pytest.fixture
def reject(channel: Any, queue_prefix: str, eventually: Callable[..., Any]) -> Callable[..., None]:
    """Put bodies into a queue, and reject them as a worker does."""

    def put(*bodies: bytes, queue: str = "default", **properties: Any) -> None:
        name = topology.queue_name(queue_prefix, queue)
        before = depth(channel, name)
        for body in bodies:
            channel.basic_publish("", name, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)
        for _ in bodies:
            method, *_ = eventually(lambda: (got := channel.basic_get(name))[0] and got)
            channel.basic_nack(method.delivery_tag, requeue=False)
        eventually(lambda: depth(channel, name) == before + len(bodies))

    return put


def depth(channel: Any, name: str) -> int:
    return channel.queue_declare(topology.dead_letter_name(name), passive=True).method.message_count


def test_rejected_messages_become_rows_and_the_queue_is_empty(
    duty: Collect, reject: Callable[..., None], channel: Any, queue_prefix: str
):
    reject(*MALFORMED.values(), headers={"trace": "t-1", "blob": b"\xff\x00"}, app_id="other")
    before = counted("jobmill_collected_total", outcome="undeliverable")
    while duty.run_once() == 0.0:
        pass
    rows = kept(duty.database)
    assert sorted(row.body for row in rows) == sorted(body[:MOST_BODY_BYTES] for body in MALFORMED.values())
    assert depth(channel, topology.queue_name(queue_prefix, "default")) == 0
    assert counted("jobmill_collected_total", outcome="undeliverable") == before + len(MALFORMED)
    for row in rows:
        assert (row.headers["trace"], row.properties["app_id"]) == ("t-1", "other")
        assert row.headers["x-death"][0]["reason"] == "rejected"
        assert row.dead_lettered_at is not None
        assert abs((row.collected_at - row.dead_lettered_at).total_seconds()) < 60


ODD: dict[str, Any] = {
    "a name that is no UTF-8": {"headers": {b"\xff\xfe": 1, "nested": {"list": [{b"\xff": b"\x00\xff"}]}}},
    "a property that is no UTF-8": {"app_id": b"\xff\xfe", "message_id": b"\xff"},
    "NULs": {"headers": {"a\x00b": "c\x00d"}},
    "many": {"headers": {f"name-{number}": "x" * 100 for number in range(500)}},
    "a long one": {"headers": {"long": "x" * 60_000}},
    "numbers and times": {
        "headers": {"d": Decimal("1.5"), "t": datetime(2027, 1, 1, tzinfo=UTC), "n": None, "i": 2**62}
    },
    "a death of its own": {"headers": {"x-death": "I was never there"}},
    "deaths of its own": {"headers": {"x-death": [{"reason": b"\xff", "time": "yesterday", "count": "many"}]}},
}


@pytest.mark.parametrize("properties", ODD.values(), ids=ODD.keys())
def test_whatever_a_publisher_says_of_itself_is_kept_within_bounds(
    duty: Collect, reject: Callable[..., None], channel: Any, queue_prefix: str, properties: dict[str, Any]
):
    reject(b"x", **properties)
    duty.run_once()
    (row,) = kept(duty.database)
    assert depth(channel, topology.queue_name(queue_prefix, "default")) == 0
    assert len(orjson.dumps([row.headers, row.properties])) < 120_000
    assert len(row.headers) <= 51


def test_the_queue_of_a_worker_is_collected_though_nobody_configured_it(duty: Collect, reject: Callable[..., None]):
    reject(b"x", queue="media")
    assert duty.run_once() == EVERY_SECONDS
    assert kept(duty.database) == []
    Bench(duty.database).register("media")
    duty.run_once()
    assert [row.queue for row in kept(duty.database)] == ["media"]


def test_a_standby_takes_nothing(duty: Collect, reject: Callable[..., None]):
    reject(b"x")
    duty.leadership = STANDS_BY
    assert duty.run_once() == EVERY_SECONDS
    assert kept(duty.database) == []


def test_a_dispatcher_that_ends_between_its_commit_and_the_acknowledgement_keeps_nothing_twice(
    duty: Collect, reject: Callable[..., None], channel: Any, queue_prefix: str, eventually: Callable[..., Any]
):
    reject(b"x", b"y", headers={"n": 1})
    arm("collect.after_commit=raise")
    with pytest.raises(CrashPointReached):
        duty.run_once()
    arm("")
    first = [row.id for row in kept(duty.database)]
    assert len(first) == 2
    eventually(lambda: depth(channel, topology.queue_name(queue_prefix, "default")) == 2)
    before = counted("jobmill_collected_total", outcome="again")
    duty.run_once()
    assert [row.id for row in kept(duty.database)] == first
    assert counted("jobmill_collected_total", outcome="again") == before + 2
    assert depth(channel, topology.queue_name(queue_prefix, "default")) == 0


def test_messages_that_are_alike_are_kept_each(duty: Collect, channel: Any, queue_prefix: str):
    name = topology.queue_name(queue_prefix, "default")
    topology.declare_dead_letters(channel, name)
    for count in (1, 2):
        # Straight into the dead letters: RabbitMQ's own note of when it put one aside would tell them apart.
        channel.basic_publish("", topology.dead_letter_name(name), b"x", mandatory=True)
        duty.run_once()
        assert len(kept(duty.database)) == count


def test_a_job_whose_deliveries_are_used_up_is_queued_again(duty: Collect, reject: Callable[..., None]):
    with duty.database.transaction() as session:
        ref = job_in(session, State.DISPATCHED)
    reject(encode([ref]))
    duty.run_once()
    with duty.database.reading() as session:
        assert row_of(session, ref)["state"] == State.QUEUED


def test_a_queue_that_cannot_be_read_holds_up_no_other(
    duty: Collect, reject: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    duty.queues.add("media")
    reject(b"x")
    reject(b"y", queue="media")
    take = DeadQueues.take

    def broken(dead_queues: DeadQueues, queue: str, most: int) -> Any:
        if queue == "default":
            raise StreamLostError("timestamp out of range")
        return take(dead_queues, queue, most)

    monkeypatch.setattr(DeadQueues, "take", broken)
    duty.run_once()
    assert [row.body for row in kept(duty.database)] == [b"y"]
    assert duty.run_once() == AWAY_SECONDS


def test_without_a_broker_it_waits(duty: Collect, reject: Callable[..., None]):
    reject(b"x")
    duty.door = DeadQueuesDoor(("amqp://127.0.0.1:9/",), duty.door.prefix, "jobmill-tests")
    assert duty.run_once() > EVERY_SECONDS
    assert kept(duty.database) == []
