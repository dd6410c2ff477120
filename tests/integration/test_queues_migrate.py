"""`jobmill queues migrate`: queues with other arguments become right ones, and nothing that was in them is lost."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pika
import pytest
from sqlalchemy import select

from models import audit, moves
from models.database import Database
from models.ids import new_id
from models.job import Ref, jobs
from models.states import State
from tests.acceptance.process import jobmill
from tests.factories import jobs_in
from workers import carrying, drift, mending, topology
from workers.mending import CannotMend, Mended
from workers.messages import encode

Declare = Callable[[str, dict[str, Any]], None]


def classic(_name: str) -> dict[str, Any]:
    return {}


def another_limit(name: str) -> dict[str, Any]:
    return topology.queue_arguments(name) | {"x-delivery-limit": 20}


@pytest.fixture
def connection(rabbitmq_url: str) -> Iterator[pika.BlockingConnection]:
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as opened:
        yield opened


@pytest.fixture
def name(connection: pika.BlockingConnection, queue_prefix: str) -> Iterator[str]:
    """A queue of jobs in RabbitMQ, which is not there yet."""
    yield f"{queue_prefix}.default"
    connection.channel().queue_delete(f"{queue_prefix}.default.XQ.moving")


@pytest.fixture
def settings(rabbitmq_url: str, database_url: str, queue_prefix: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url, "JOBMILL_QUEUE_PREFIX": queue_prefix}


def put(connection: pika.BlockingConnection, name: str, body: bytes, **properties: Any) -> None:
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("", name, body, pika.BasicProperties(**properties), mandatory=True)


def taken(connection: pika.BlockingConnection, name: str) -> list[tuple[pika.BasicProperties, bytes]]:
    channel, found = connection.channel(), []
    while True:
        method, properties, body = channel.basic_get(name, auto_ack=True)
        if method is None:
            return found
        found.append((properties, body))


def right(connection: pika.BlockingConnection, name: str) -> bool:
    """Whether a queue and its dead letters are there as they should be."""
    wanted = topology.wanted(name).items()
    there = [drift.message_count(connection, one) is not None for one in topology.wanted(name)]
    return all(there) and not any(drift.difference(connection, *pair) for pair in wanted)


def none_is_there(_refs: Sequence[Ref]) -> bool:
    return False


def dispatched(database: Database, how_many: int) -> list[Ref]:
    def step(session: Any) -> list[Ref]:
        jobs_in(session, State.QUEUED, how_many)
        return [job.ref for job in moves.claim(session, "default", 0, how_many, timedelta(minutes=1))]

    return database.run(step)


@pytest.mark.parametrize("arguments", [classic, another_limit])
def test_ours_is_dispatched_again_and_what_is_a_strangers_is_put_aside(
    settings: dict[str, str],
    connection: pika.BlockingConnection,
    name: str,
    postgresql_database: Database,
    tmp_path: Path,
    arguments: Any,
):
    connection.channel().queue_declare(name, durable=True, arguments=arguments(name))
    refs = dispatched(postgresql_database, 3)
    put(connection, name, encode(refs[:2]))
    put(connection, name, b"\x00 a stranger's", headers={"colour": "blue", "CC": [name]}, expiration="60000")
    put(connection, name, encode(refs[2:]))
    of_no_job = encode([Ref(new_id(), 1)])
    put(connection, name, of_no_job)
    put(connection, name, encode([Ref(new_id(), 1), refs[0]]))
    strangers = 2

    ended = jobmill("queues", "migrate", "--yes", settings=settings, folder=tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert name in ended.stdout
    assert f"{name} is made anew: 3 messages dropped, 3 jobs to be dispatched again" in ended.stderr
    assert right(connection, name)
    assert taken(connection, name) == []
    aside = taken(connection, f"{name}.XQ")
    assert [body for _, body in aside] == [b"\x00 a stranger's", of_no_job]
    properties = aside[0][0]
    assert {one.headers["x-death"][0]["reason"] for one, _ in aside} == {"rejected"}
    assert properties.expiration is None, "it would expire unseen"
    assert properties.headers["colour"] == "blue"
    assert properties.headers["x-jobmill-expiration"] == "60000"
    assert (properties.headers["x-death"][0]["queue"], properties.headers["x-death"][0]["reason"]) == (name, "rejected")
    with postgresql_database.reading() as session:
        assert set(map(tuple, session.execute(select(jobs.c.state, jobs.c.lease)))) == {(State.QUEUED, refs[0].lease)}
        (entry,) = audit.list_entries(session, None, None, 10)
    assert (entry.action, entry.resource, entry.resource_id) == ("migrate_queue", "queues", name)
    assert entry.actor.startswith("cli:")
    assert entry.detail["before"].startswith("x-")
    assert {key: entry.detail[key] for key in ("dropped", "released", "put_aside", "carried")} == {
        "dropped": 3,
        "released": 3,
        "put_aside": strangers,
        "carried": 0,
    }

    again = jobmill("queues", "migrate", settings=settings, folder=tmp_path)
    assert (again.returncode, again.stdout) == (0, "")
    assert "Each queue is as this release needs it (3 looked at)." in again.stderr


def test_dead_letters_are_carried_over(rabbitmq_url: str, connection: Any, name: str, queue_prefix: str):
    connection.channel().queue_declare(f"{name}.XQ", durable=True)
    for number in range(3):
        put(connection, f"{name}.XQ", b"%d" % number, headers={"x-death": [{"reason": "delivery_limit"}]})
    told: list[tuple[str, Mended]] = []
    mending.mend([rabbitmq_url], queue_prefix, [name], none_is_there, lambda *one: told.append(one))
    ((queue, mended),) = told
    assert (queue, mended.name, mended.carried, mended.is_of_jobs) == (name, f"{name}.XQ", 3, False)
    assert drift.difference(connection, f"{name}.XQ", topology.dead_letter_arguments()) is None
    found = taken(connection, f"{name}.XQ")
    assert [body for _, body in found] == [b"0", b"1", b"2"]
    assert {properties.headers["x-death"][0]["reason"] for properties, _ in found} == {"delivery_limit"}
    assert drift.message_count(connection, f"{name}.XQ.moving") is None


@pytest.mark.parametrize("moment", ["while they go aside", "while they come back"])
def test_what_an_interrupted_run_left_aside_comes_back_with_the_next(
    rabbitmq_url: str,
    connection: Any,
    name: str,
    queue_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
):
    connection.channel().queue_declare(f"{name}.XQ", durable=True)
    for number in range(3):
        put(connection, f"{name}.XQ", b"%d" % number)
    carry, calls = carrying.carry, []

    def interrupted(opened: Any, source: str, target: str) -> int:
        calls.append(source)
        if len(calls) == (1 if moment == "while they go aside" else 2):
            method, properties, body = opened.channel().basic_get(source)
            assert method
            put(opened, target, body, headers=properties.headers)
            raise KeyboardInterrupt
        return carry(opened, source, target)

    with monkeypatch.context() as patched:
        patched.setattr(carrying, "carry", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mending.mend([rabbitmq_url], queue_prefix, [name], none_is_there, lambda *_: None)
    mending.mend([rabbitmq_url], queue_prefix, [name], none_is_there, lambda *_: None)
    assert {body for _, body in taken(connection, f"{name}.XQ")} == {b"0", b"1", b"2"}
    assert drift.message_count(connection, f"{name}.XQ.moving") is None


def test_nothing_is_done_unless_somebody_says_so(settings: dict[str, str], connection: Any, name: str, tmp_path: Path):
    connection.channel().queue_declare(name, durable=True)
    put(connection, name, b"a stranger's")
    ended = jobmill("queues", "migrate", settings=settings, folder=tmp_path)
    assert ended.returncode == 1
    assert "add --yes" in ended.stderr
    assert [line.split()[0] for line in ended.stdout.splitlines()] == ["QUEUE", name]
    assert drift.message_count(connection, name) == 1
    assert not right(connection, name)


def test_only_the_queues_that_are_named_are_made_anew(
    settings: dict[str, str], connection: Any, name: str, queue_prefix: str, tmp_path: Path
):
    other = f"{queue_prefix}.media"
    for one in (name, other):
        connection.channel().queue_declare(one, durable=True)
    ended = jobmill("queues", "migrate", "media", "--yes", settings=settings, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert right(connection, other)
    assert not right(connection, name)


def test_the_queue_of_redrives_is_looked_at_without_any_worker(
    settings: dict[str, str], connection: Any, queue_prefix: str, tmp_path: Path
):
    redrives = f"{queue_prefix}.redrives"
    connection.channel().queue_declare(redrives, durable=True)
    ended = jobmill("queues", "migrate", "--yes", settings=settings, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert right(connection, redrives)


def test_two_cannot_mend_at_once(rabbitmq_url: str, connection: Any, name: str, queue_prefix: str):
    connection.channel().queue_declare(name, durable=True)
    with topology.connect([rabbitmq_url], "jobmill tests") as other:
        mending._keep_others_out(other, queue_prefix)
        with pytest.raises(CannotMend, match="Another `jobmill queues migrate` is at work"):
            mending.mend([rabbitmq_url], queue_prefix, [name], none_is_there, lambda *_: None)
    mending.mend([rabbitmq_url], queue_prefix, [name], none_is_there, lambda *_: None)


def test_one_that_others_make_anew_otherwise_each_time_is_told_and_loses_nothing(
    rabbitmq_url: str, connection: Any, name: str, queue_prefix: str, monkeypatch: pytest.MonkeyPatch
):
    connection.channel().queue_declare(name, durable=True)
    put(connection, name, b"a stranger's")
    gone = mending._gone_if_empty

    def gone_and_back(*asked: Any) -> bool:
        went = gone(*asked)
        if went:
            connection.channel().queue_declare(name, durable=True)
        return went

    monkeypatch.setattr(mending, "_gone_if_empty", gone_and_back)
    with pytest.raises(CannotMend, match="stop the dispatchers and workers of the other release first"):
        mending.mend([rabbitmq_url], queue_prefix, [name], none_is_there, lambda *_: None)
    assert [body for _, body in taken(connection, f"{name}.XQ")] == [b"a stranger's"]


@pytest.mark.parametrize("arguments", [classic, another_limit])
def test_a_message_that_comes_when_a_queue_was_just_emptied_is_not_deleted_with_it(
    rabbitmq_url: str, connection: Any, name: str, queue_prefix: str, monkeypatch: pytest.MonkeyPatch, arguments: Any
):
    connection.channel().queue_declare(name, durable=True, arguments=arguments(name))
    empty, late = carrying.empty, [b"first", b"second"]

    def emptied(*asked: Any) -> tuple[int, int]:
        found = empty(*asked)
        if late:
            put(connection, name, late.pop(0))
        return found

    monkeypatch.setattr(carrying, "empty", emptied)
    mending.mend([rabbitmq_url], queue_prefix, [name], none_is_there, lambda *_: None)
    assert [body for _, body in taken(connection, f"{name}.XQ")] == [b"first", b"second"]


def test_a_broker_that_is_away_is_told_with_the_exit_code_for_it(settings: dict[str, str], tmp_path: Path):
    nobody = {"RABBITMQ_URL": "amqp://guest:canary@127.0.0.1:9/"}
    ended = jobmill("queues", "migrate", "--yes", settings=settings | nobody, folder=tmp_path)
    assert ended.returncode == 3
    assert ended.stderr.startswith("Error: RabbitMQ did not do as asked (")
    assert "canary" not in ended.stderr


def test_in_the_embedded_mode_there_is_none_to_mend(tmp_path: Path):
    ended: subprocess.CompletedProcess[str] = jobmill("queues", "migrate", settings={}, folder=tmp_path)
    assert ended.returncode == 2
    assert "needs RABBITMQ_URL" in ended.stderr
