"""Messages that nobody can deliver, in the middle of a dispatcher's many deaths: each is a row with its reason, the
jobs are all done, and RabbitMQ holds nothing.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from typing import Any

import httpx2
import pika
import pytest

from models.ids import new_id
from models.job import Ref
from tests.acceptance.installation import Full, Installation, Json
from tests.acceptance.ledger import Ledger
from tests.acceptance.process import jobmill
from tests.faults.conftest import Install
from tests.faults.crashing import await_death, kill_family, let_time_pass, revive, start_armed
from tests.faults.invariants import check
from tests.faults.load import submit_patiently
from workers import topology
from workers.messages import encode

CRASHES = ("dispatch.after_claim", "dispatch.mid_batch", "dispatch.after_confirms")
TIMES = 10
QUEUES = ("default", "webhooks")
DRAMATIQS = {
    "queue_name": "default",
    "actor_name": "send_mail",
    "args": [7],
    "kwargs": {},
    "options": {"retries": 3},
    "message_id": "1",
    "message_timestamp": 1,
}


@pytest.fixture(scope="module")
def full(install: Install) -> Installation:
    full = install(Full.mode)
    # Both queues, whoever of the tests' job types uses them, and that of redrives.
    assert set(full.client.get("/v1/workers").json()["data"][0]["queues"]) == {*QUEUES, "redrives"}
    return full


@pytest.fixture
def channel(full: Installation) -> Iterator[Any]:
    with closing(pika.BlockingConnection(pika.URLParameters(full.settings["RABBITMQ_URL"]))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


@pytest.fixture(scope="module")
def platform(full: Installation) -> Iterator[httpx2.Client]:
    made = jobmill(
        "keys", "create", "--platform", "--name", "ops", "--role", "operator", "--json",
        settings=full.settings, folder=full.folder,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    key = {"Authorization": f"Bearer {json.loads(made.stdout)['token']}"}
    with httpx2.Client(base_url=full.address, headers=key, trust_env=False) as client:
        yield client


def name_of(full: Installation, queue: str) -> str:
    return topology.queue_name(full.settings["JOBMILL_QUEUE_PREFIX"], queue)


def in_rabbitmq(full: Installation, channel: Any) -> dict[str, int]:
    """How many messages lie in each queue."""
    names = [name_of(full, queue) for queue in QUEUES]
    both = [*names, *map(topology.dead_letter_name, names)]
    return {name: channel.queue_declare(name, passive=True).method.message_count for name in both}


def kept(platform: httpx2.Client) -> list[Json]:
    answer = platform.get("/v1/undeliverable", params={"limit": 200})
    assert answer.status_code == httpx2.codes.OK, answer.text
    data: list[Json] = answer.json()["data"]
    return data


def strays(real: bytes) -> dict[bytes, str]:
    """Messages that are of no job, each with the reason that is to be found; `real` is one of ours."""
    cut_short = {real[:length]: "undecodable" for length in (0, 1, len(real) // 2, len(real) - 1)}
    return cut_short | {
        json.dumps(DRAMATIQS).encode(): "unknown_actor",
        json.dumps({"task": "celery.ping", "id": "1"}).encode(): "foreign",
        b"\x80\x04\x95pickled": "undecodable",
        b"x" * 100_000: "too_large",
        encode([Ref(new_id(), 1)]): "unknown_job",
    }


@pytest.mark.timeout(400)
def test_after_ten_crashed_publishes_strays_are_rows_jobs_are_done_and_the_queues_are_empty(
    full: Installation, platform: httpx2.Client, channel: Any, ledger: Ledger
):
    dispatcher = full.processes["dispatcher"]
    wanted = strays(encode([Ref(new_id(), 3)]))
    jobs: list[Json] = []
    for number in range(TIMES):
        point = CRASHES[number % len(CRASHES)]
        let_time_pass(full, kill_family(dispatcher))
        jobs += [submit_patiently(full, "fault.quick", ledger.args, queue=queue) for queue in QUEUES]
        reached = start_armed(dispatcher, f"{point}=kill")
        let_time_pass(full, [await_death(full, reached, point)])
        if number < len(QUEUES):
            for body in wanted:
                channel.basic_publish("", name_of(full, QUEUES[number]), body, mandatory=True)
    revive(full)

    check(full, ledger, jobs, faults=0)
    assert {full.job(job["id"])["state"] for job in jobs} == {"succeeded"}
    full.eventually(lambda: set(in_rabbitmq(full, channel).values()) == {0}, 20)
    rows = kept(platform)
    expected = Counter((queue, reason) for queue, reason in product(QUEUES, wanted.values()))
    assert Counter((row["queue"], row["reason"]) for row in rows) == expected
    for row in rows:
        whole = platform.get(f"/v1/undeliverable/{row['id']}").json()
        assert whole["headers"]["x-death"][0]["reason"] == "rejected"
        assert (row["body_bytes"], whole["truncated"]) == (len_of(wanted, whole), row["reason"] == "too_large")
    assert full.client.get("/v1/undeliverable").json()["data"] == []  # to a tenant's key


def len_of(wanted: dict[bytes, str], whole: Json) -> int:
    """How long the message is that was put into the queue and is kept as this."""
    (length,) = {len(body) for body, reason in wanted.items() if reason == whole["reason"] and is_of(whole, body)}
    return length


def is_of(whole: Json, body: bytes) -> bool:
    return whole["body_bytes"] == len(body)


@pytest.mark.fault("killed-mid-collect", "crash point collect.after_commit, with messages of no job in a queue")
def test_a_message_is_one_row_though_the_dispatcher_died_before_it_acknowledged(
    full: Installation, platform: httpx2.Client, channel: Any, ledger: Ledger
):
    dispatcher, before = full.processes["dispatcher"], len(kept(platform))
    let_time_pass(full, kill_family(dispatcher))
    reached = start_armed(dispatcher, "collect.after_commit=kill")
    for number in range(3):
        channel.basic_publish("", name_of(full, "default"), b"stray %d" % number, mandatory=True)
    let_time_pass(full, [await_death(full, reached, "collect.after_commit")])
    assert len(kept(platform)) > before
    revive(full)
    full.eventually(lambda: set(in_rabbitmq(full, channel).values()) == {0}, 20)
    full.eventually(lambda: len(kept(platform)) == before + 3)
    job = submit_patiently(full, "fault.quick", ledger.args)
    check(full, ledger, [job], faults=0)
