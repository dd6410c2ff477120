"""jobmill-client against whole installations: what it promises its users, with nothing in between but a bad network."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobmill_client import (
    Client,
    Conflict,
    ConnectionFailed,
    Forbidden,
    InvalidRequest,
    JobFailed,
    NotFound,
    Submission,
    Unauthorized,
    WaitTimedOut,
)
from tests.acceptance.installation import Installation
from tests.proxy import Proxy

Unique = Callable[[], str]
ECHO = {"value": 1}
NASTY = {
    "unicode": "Zürich, 北京, \u202eright to left, \ufeff, \u2028",
    "numbers": [1e22, 5e-324, -0.0, 1.0, 2**63 - 1, -(2**63)],
    "nothing": [None, "", [], {}, [[]], False],
    "keys": {"a.b": 1, "~": 2, "model_dump": 3},
}


@pytest.fixture
def client(installation: Installation) -> Iterator[Client]:
    with Client(installation.address, installation.key) as client:
        yield client


@contextmanager
def through_proxy(installation: Installation) -> Iterator[tuple[Client, Proxy]]:
    proxy = Proxy(installation.address)
    try:
        with Client(proxy.url, installation.key) as client:
            yield client, proxy
    finally:
        proxy.close()


def made(client: Client, role: str, **limits: str) -> str:
    """A new key."""
    document = {"name": "made", "role": role, "rate_limits": limits}
    return str(client.connection.post("/v1/keys", document).document["token"])


def test_what_is_handed_in_comes_back_as_it_was(client: Client):
    job = client.submit("demo.echo", {"value": NASTY})
    assert repr(job.args) == repr({"value": NASTY})
    assert repr(job.result(timeout=30)) == repr({"value": NASTY})


@pytest.mark.timed
def test_a_wait_ends_with_the_job_and_not_with_the_next_look(client: Client):
    job = client.submit("demo.sleep", {"seconds": 1.5})
    ended = job.wait(timeout=30)
    assert ended.succeeded
    assert ended.finished_at
    assert datetime.now(UTC) - ended.finished_at < timedelta(seconds=1)
    assert (job.state, ended.id) == ("queued", job.id)


def test_a_watch_sees_the_way_of_a_job(client: Client):
    job = client.submit("demo.sleep", {"seconds": 2.5})
    seen = list(client.watch(job.id, timeout=30))
    assert {"running", "succeeded"} <= {look.state for look in seen}
    assert any(look.progress and 0 < (look.progress.percent or 0) < 100 for look in seen)


def test_a_job_that_does_not_change_is_told_once(client: Client):
    job = client.submit("demo.echo", ECHO, delay_seconds=3600)
    looks = client.watch(job.id, timeout=2.5)
    assert next(looks).state == "queued"
    with pytest.raises(WaitTimedOut):
        next(looks)
    job.cancel()


def test_a_wait_that_runs_out_leaves_the_job_alone(client: Client):
    job = client.submit("demo.echo", ECHO, delay_seconds=3600)
    begun = time.monotonic()
    with pytest.raises(WaitTimedOut):
        job.result(timeout=1.2)
    assert time.monotonic() - begun >= 1.2
    assert job.refresh().state == "queued"
    assert job.cancel().state == "cancelled"
    assert job.cancel().state == "cancelled"
    with pytest.raises(JobFailed):
        job.result()


def test_a_job_that_fails_says_why_and_tells_its_history(client: Client):
    job = client.submit("demo.flaky", {"failures": 100}, max_attempts=2)
    with pytest.raises(JobFailed, match="Attempt 2 of 100") as raised:
        job.result(timeout=60)
    assert raised.value.job.state == "dead"
    assert raised.value.job.error
    assert [event.move for event in job.events()] == ["bury", "retry"]


@pytest.mark.parametrize("many", [False, True], ids=["one", "batch"])
def test_an_answer_that_is_lost_makes_no_second_job(
    installation: Installation, client: Client, unique: Unique, many: bool
):
    tags = {"lost": unique()}
    with through_proxy(installation) as (cut_off, proxy):
        proxy.cut_answer(b"POST /v1/jobs")
        if many:
            items = cut_off.batch([{"type": "demo.echo", "args": ECHO, "tags": tags}] * 3)
            ids = [item.job.id for item in items if item.job]
            assert [item.replayed for item in items] == [True] * 3
        else:
            ids = [cut_off.submit("demo.echo", ECHO, tags=tags).id]
        assert proxy.cut
        assert proxy.connections == 2
    assert sorted(job.id for job in client.jobs(tags=tags)) == sorted(ids)
    assert len(set(ids)) == (3 if many else 1)


def test_a_submission_that_failed_for_good_can_be_repeated_under_its_key(
    installation: Installation, client: Client, unique: Unique
):
    proxy = Proxy(installation.address)
    tags = {"lost": unique()}
    with Client(proxy.url, installation.key, retries=0) as cut_off:
        proxy.cut_answer(b"POST /v1/jobs")
        with pytest.raises(ConnectionFailed) as raised:
            cut_off.submit("demo.echo", ECHO, tags=tags)
        proxy.close()
    assert raised.value.sent
    assert raised.value.idempotency_key
    again = client.submit("demo.echo", ECHO, tags=tags, idempotency_key=raised.value.idempotency_key)
    assert [job.id for job in client.jobs(tags=tags)] == [again.id]
    with pytest.raises(InvalidRequest) as reused:
        client.submit("demo.sleep", {"seconds": 1}, idempotency_key=raised.value.idempotency_key)
    assert reused.value.code == "idempotency-key-reused"


def test_a_list_is_read_to_its_end(client: Client, unique: Unique):
    tags = {"paged": unique()}
    ids = [client.submit("demo.echo", ECHO, tags=tags).id for _ in range(5)]
    assert [job.id for job in client.jobs(tags=tags, page_size=2)] == ids[::-1]
    assert [job.id for job in client.jobs(tags=tags, state=["dead"])] == []


def test_a_batch_of_more_than_a_request_takes_is_recorded_once(client: Client, unique: Unique):
    tags = {"batch": unique()}
    jobs = [
        Submission(type="demo.echo", args={"value": number}, tags=tags, delay_seconds=3600) for number in range(1100)
    ]
    first, second = client.batch(jobs), client.batch(jobs)
    assert [item.job and item.job.args["value"] for item in first] == list(range(1100))
    assert [item.job and item.job.id for item in second] == [item.job and item.job.id for item in first]
    assert all(item.replayed for item in second)
    assert sum(1 for _ in client.jobs(tags=tags, page_size=200)) == 1100


def test_each_job_of_a_batch_is_refused_by_itself_or_all_are(client: Client, unique: Unique):
    key = unique()
    holder = client.submit("demo.echo", ECHO, unique_key=key, delay_seconds=3600)
    jobs: list[dict[str, Any]] = [
        {"type": "demo.echo", "args": ECHO},
        {"type": "no.such"},
        {"type": "demo.echo", "args": ECHO, "unique_key": key},
    ]
    good, unknown, held = client.batch(jobs)
    assert good.job
    assert isinstance(unknown.error, InvalidRequest)
    assert unknown.error.errors[0]["pointer"] == "/jobs/1/type"
    assert isinstance(held.error, Conflict)
    assert held.error.document["holder"] == holder.id
    with pytest.raises(Conflict) as refused:
        client.batch(jobs, atomic=True)
    assert [entry["index"] for entry in refused.value.document["refused"]] == [1, 2]
    holder.cancel()


def test_a_rate_limit_is_waited_for(installation: Installation, client: Client, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="jobmill_client")
    with Client(installation.address, made(client, "submitter", submit="2/4")) as slow:
        assert len({slow.submit("demo.echo", ECHO).id for _ in range(3)}) == 3
    assert "quota-exceeded" in caplog.text


def test_refusals_are_typed(installation: Installation, client: Client):
    with pytest.raises(InvalidRequest) as invalid:
        client.submit("demo.sleep", {"seconds": "long"}, priority=1000)
    assert {fault["pointer"] for fault in invalid.value.errors} == {"/args/seconds", "/priority"}
    assert invalid.value.request_id
    with pytest.raises(NotFound):
        client.job("01a20a68-14c5-749a-aed9-5ee1760574c8")
    with pytest.raises(Unauthorized), Client(installation.address, "jm_nobody_" + "x" * 43) as nobody:
        nobody.job_type("demo.echo")
    with pytest.raises(Forbidden, match="jobs:write"), Client(installation.address, made(client, "viewer")) as viewer:
        viewer.submit("demo.echo", ECHO)


def test_a_job_that_waits_can_be_hastened(client: Client):
    job = client.submit("demo.echo", {"value": 1}, due_at=datetime.now(UTC) + timedelta(days=1))
    job.run_now()
    assert job.result(timeout=30) == {"value": 1}
    with pytest.raises(Conflict) as late:
        job.run_now()
    assert late.value.code == "job-not-waiting"


def test_types_and_workers_are_told(installation: Installation, client: Client):
    assert {"csv.profile", "demo.echo"} <= {known.type for known in client.job_types()}
    assert "seconds" in client.job_type("demo.sleep").args_schema["properties"]
    assert installation.worker.pid in {pid for worker in client.workers() for pid in (worker.pid, worker.parent_pid)}


def test_a_keys_two_parts_are_traded_for_tokens(installation: Installation):
    _, client_id, secret = installation.key.split("_", 2)
    with Client(installation.address, client_id=client_id, client_secret=secret) as client:
        assert client.submit("demo.echo", {"value": 1}).result(timeout=30) == {"value": 1}
    wrong = Client(installation.address, client_id=client_id, client_secret="s" * 43)
    with wrong, pytest.raises(Unauthorized) as refused:
        next(wrong.jobs())
    assert refused.value.code == "invalid_client"


def test_a_wait_outlives_a_network_that_breaks(installation: Installation):
    with through_proxy(installation) as (client, proxy):
        job = client.submit("demo.sleep", {"seconds": 2})
        looks = client.watch(job.id, timeout=30)
        assert next(looks).id == job.id
        proxy.reset()
        assert list(looks)[-1].succeeded
        assert proxy.connections > 1
