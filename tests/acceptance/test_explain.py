"""Why a job does not run, as a running installation tells it: one thing after another is in its way, and goes."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pika
import pytest

from tests.acceptance.installation import Installation, Json
from tests.acceptance.installer import QUEUES, Installer
from tests.acceptance.ledger import Ledger
from tests.acceptance.process import jobmill
from tests.proxy import Proxy

LEASE_ENDS_WITHIN = 15
NOTICED_WITHIN = 30


@pytest.fixture(scope="module")
def proxy(rabbitmq_url: str) -> Iterator[Proxy]:
    proxy = Proxy(rabbitmq_url)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def full(request: pytest.FixtureRequest, proxy: Proxy, rabbitmq_url: str) -> Iterator[Installation]:
    """A full installation whose worker does two jobs at a time, and whose way to RabbitMQ is a proxy."""
    prefix = f"jobmilltest_{secrets.token_hex(6)}"
    with ExitStack() as stack:
        yield Installer(request, stack)(
            "full", RABBITMQ_URL=proxy.url, JOBMILL_QUEUE_PREFIX=prefix, JOBMILL_THREADS="2"
        )
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.queue_delete(f"{prefix}.{queue}")


@pytest.fixture
def explained(full: Installation) -> Callable[..., Json]:
    """The explanation of a job, once its reason is that one."""

    def wait(job: Json, reason: str, within_seconds: float = 10) -> Json:
        def look() -> Json | None:
            seen.append(full.client.get(f"/v1/jobs/{job['id']}/explain").json())
            return seen[-1] if seen[-1]["reason"] == reason else None

        seen: list[Json] = []
        try:
            return full.eventually(look, within_seconds)
        except BaseException as error:
            error.add_note(f"last told: {seen[-1:]}")
            raise

    return wait


Explained = Callable[..., Json]


def set_queue(full: Installation, **columns: Any) -> None:
    """Say something of the queue `default`, beside what is said of it already."""
    full.sql("INSERT INTO queues (name) VALUES ('default') ON CONFLICT DO NOTHING")
    told = ", ".join(f"{name} = {value}" for name, value in columns.items())
    full.sql(f"UPDATE queues SET {told} WHERE name = 'default'")  # noqa: S608 - our own words


def test_a_job_for_later_and_one_to_be_retried_tell_until_when(full: Installation, explained: Explained):
    later = explained(full.submit("demo.echo", {"value": 1}, delay_seconds=3600), "waits_for_time")
    assert later["until"] > later["at"]
    failing = full.submit("demo.flaky", {"failures": 4}, max_attempts=5)
    retry = explained(failing, "waits_for_retry")
    assert (retry["detail"]["max_attempts"], retry["detail"]["error"]["type"]) == (5, "jobs.builtin.demo.DemoFailure")
    assert retry["until"] > retry["at"]


def test_a_job_tells_who_runs_it_what_it_waits_for_and_how_it_ended(
    full: Installation, ledger: Ledger, explained: Explained
):
    held = [full.submit("ledger.work", ledger.gated_args) for _ in range(2)]
    running = explained(held[0], "running")
    assert running["detail"]["heartbeat_age_seconds"] < 15
    assert running["detail"]["worker_id"] == full.job(held[0]["id"])["worker_id"]
    waiting = [full.submit("ledger.work", ledger.args) for _ in range(8)]
    last = full.client.get(f"/v1/jobs/{waiting[-1]['id']}/explain").json()
    assert {last["reason"], *(other["reason"] for other in last["also"])} & {"behind_others", "threads_busy"}
    full.client.post(f"/v1/jobs/{waiting[-1]['id']}/cancel")
    key_id = full.key.split("_")[1]
    assert explained(waiting[-1], "cancelled")["detail"]["by"] == f"key:{key_id}"
    ledger.open_gate()
    assert explained(held[0], "succeeded", 20)["also"] == []
    dead = full.submit("demo.fail", {"message": "no"}, max_attempts=1)
    assert "no" in explained(dead, "dead", 20)["message"]


def test_a_paused_queue_and_a_full_one_are_told_and_let_the_job_go_at_last(
    full: Installation, ledger: Ledger, explained: Explained
):
    set_queue(full, paused_at="now()", paused_by="'key:ops1'")
    job = full.submit("ledger.work", ledger.args)
    assert explained(job, "queue_paused")["detail"] == {"queue": "default", "by": None}
    set_queue(full, paused_at="NULL", paused_by="NULL")
    full.succeeded(job)

    set_queue(full, max_running=1)
    first = full.submit("ledger.work", ledger.gated_args)
    explained(first, "running")
    second = full.submit("ledger.work", ledger.args)
    assert explained(second, "max_running")["detail"] == {"max_running": 1, "running": 1}
    ledger.open_gate()
    full.succeeded(second)
    set_queue(full, max_running="NULL")


def test_a_queue_that_nobody_serves_is_told(full: Installation, explained: Explained):
    told = explained(full.submit("demo.echo", {"value": 1}, queue="nobodys"), "no_worker")
    assert told["message"] == "No live worker serves its queue nobodys."


@pytest.mark.long
def test_without_a_dispatcher_that_is_the_reason(full: Installation, ledger: Ledger, explained: Explained):
    full.processes["dispatcher"].ask_to_end()
    full.processes["dispatcher"].wait()
    job = full.submit("ledger.work", ledger.args)
    explained(job, "no_dispatcher", LEASE_ENDS_WITHIN)
    full.processes["dispatcher"].start()
    full.succeeded(job)


@pytest.mark.long
def test_without_rabbitmq_that_is_the_reason(full: Installation, proxy: Proxy, ledger: Ledger, explained: Explained):
    with proxy.black_hole():
        job = full.submit("ledger.work", ledger.args)
        explained(job, "broker_away", NOTICED_WITHIN)
    full.succeeded(job, 60)


def test_both_modes_tell_what_a_job_waits_for_and_who_runs_it(installation: Installation, ledger: Ledger):
    def reason(job: Json) -> str:
        return str(installation.client.get(f"/v1/jobs/{job['id']}/explain").json()["reason"])

    assert reason(installation.submit("demo.echo", {"value": 1}, delay_seconds=3600)) == "waits_for_time"
    assert reason(installation.submit("demo.echo", {"value": 1}, queue="nobodys")) == "no_worker"
    job = installation.submit("ledger.work", ledger.gated_args)
    installation.eventually(lambda: reason(job) == "running")
    ledger.open_gate()
    installation.succeeded(job)
    assert reason(job) == "succeeded"


def test_the_command_tells_it_in_words(full: Installation):
    job = full.submit("demo.echo", {"value": 1}, queue="nobodys")
    access = {"JOBMILL_URL": full.address, "JOBMILL_API_KEY": full.key}
    told = jobmill("jobs", "explain", job["id"], settings=full.settings | access, folder=full.folder)
    assert told.returncode == 0, told.stderr
    assert "No live worker serves its queue nobodys." in told.stdout
