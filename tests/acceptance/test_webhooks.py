"""Webhooks end to end: every end is told, whatever falls over meanwhile, and a slow receiver delays no other."""

import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from tests.acceptance.installation import FINAL, Embedded, Full, Installation, Json
from tests.acceptance.installer import Installer
from tests.acceptance.private_services import PrivateRabbitmq
from tests.acceptance.receiver import Receiver

OPEN = {"JOBMILL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "JOBMILL_WEBHOOK_ALLOW_HTTP": "true"}
BATCH = 100
TOLD = {"succeeded": "job.succeeded", "dead": "job.dead", "cancelled": "job.cancelled"}
ALL_TOLD_SECONDS = 120
FAST_SECONDS = 1.0

Install = Callable[..., Installation]


@pytest.fixture
def install(request: pytest.FixtureRequest) -> Iterator[Install]:
    with ExitStack() as stack:
        yield lambda mode, **settings: Installer(request, stack)(mode, **OPEN | settings)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path)
    made.trust()
    made.start()
    yield made
    if made.alive:
        made.send(signal.SIGKILL)
        made.wait()


def endpoint(installation: Installation, url: str, **more: Any) -> Json:
    answer = installation.client.post("/v1/webhook-endpoints", json={"url": url, "tenant": "default", **more})
    if answer.status_code != httpx2.codes.CREATED:
        answer = installation.client.post("/v1/webhook-endpoints", json={"url": url, **more})
    assert answer.status_code == httpx2.codes.CREATED, answer.text
    made: Json = answer.json()
    return made


def submit_many(installation: Installation, how_many: int) -> list[Json]:
    """Most succeed, some die at once, and some are asked to be cancelled before they begin."""
    accepted = []
    for first in range(0, how_many, BATCH):
        jobs = [asked(number) for number in range(first, min(first + BATCH, how_many))]
        for number, job in enumerate(jobs):  # the same request may have to be sent twice
            job["idempotency_key"] = f"told-{first + number}"
        answer = installation.eventually(lambda jobs=jobs: _batch(installation, jobs), 30)
        accepted += [item["job"] for item in answer["data"]]
    return accepted


def asked(number: int) -> Json:
    if number % 10 == 0:
        return {"type": "demo.fail", "args": {"message": "as asked"}, "max_attempts": 1}
    return {"type": "demo.echo", "args": {"value": number}}


def _batch(installation: Installation, jobs: list[Json]) -> Json | None:
    try:
        answer = installation.client.post("/v1/jobs/batch", json={"jobs": jobs})
    except httpx2.TransportError:
        return None
    return answer.json() if answer.is_success else None


def deliveries(installation: Installation, endpoint_id: str) -> list[Json]:
    found: list[Json] = []
    cursor = None
    while True:
        params = {"limit": 200} | ({"cursor": cursor} if cursor else {})
        page = installation.client.get(f"/v1/webhook-endpoints/{endpoint_id}/deliveries", params=params).json()
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def hurry(installation: Installation, endpoint_id: str) -> bool:
    """Whether all is delivered; what waits for its next try is sent now, since nobody here waits five minutes."""
    open_ = [one for one in deliveries(installation, endpoint_id) if one["status"] != "delivered"]
    for one in open_:
        if one["status"] in {"waiting", "dead"}:
            installation.client.post(f"/v1/webhook-deliveries/{one['id']}/redeliver")
    return not open_


def check_told(installation: Installation, receiver: Receiver, jobs: list[Json], endpoint_id: str) -> None:
    received, sent = receiver.received(), deliveries(installation, endpoint_id)
    ids = defaultdict(set)
    for note in received:
        assert note["verified"] == [True], note
        assert note["state"] in FINAL
        ids[note["job"]].add(note["id"])
    assert ids.keys() == {job["id"] for job in jobs}
    assert {len(event_ids) for event_ids in ids.values()} == {1}
    ends = {job["id"]: installation.job(job["id"])["state"] for job in jobs}
    assert all(note["type"] == TOLD[ends[note["job"]]] for note in received)
    # One event for each end, which agrees with what was received. One that was just delivered when this test asked for
    # it to be sent now has a second delivery, of the same event.
    assert {(one["job_id"], one["event_id"]) for one in sent} == {(note["job"], note["id"]) for note in received}
    assert {one["status"] for one in sent} == {"delivered"}


class Chaos:
    """Kills the receiver and processes of the worker in turn, at random moments, until it is told to stop."""

    def __init__(self, installation: Installation, receiver: Receiver, seed: int, *others: Callable[[], None]) -> None:
        self.installation, self.receiver = installation, receiver
        self.dice = random.Random(seed)  # noqa: S311
        self.acts: list[Callable[[], None]] = [self._kill_receiver, self._kill_worker, *others]
        self.struck: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(60)
        if not self.receiver.alive:
            self.receiver.start()

    def _run(self) -> None:
        for act in cycle(self.acts):
            if self._stop.wait(self.dice.uniform(0.3, 1.2)):
                return
            act()
            self.struck[act.__name__] += 1

    def _kill_receiver(self) -> None:
        if self.receiver.alive:
            self.receiver.send(signal.SIGKILL)
            self.receiver.wait()
        self._stop.wait(self.dice.uniform(0.1, 0.8))
        self.receiver.start()

    def _kill_worker(self) -> None:
        if self.installation.mode == Full.mode:
            try:
                pids = self.installation.child_pids()
            except (httpx2.TransportError, KeyError):
                return
            for pid in pids:
                _kill(pid)
        else:
            self.installation.kill_worker()
            self.installation.start_worker()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def survives(installation: Installation, receiver: Receiver, how_many: int, *others: Callable[[], None]) -> None:
    made = endpoint(installation, receiver.url)
    receiver.trust(made["secret"])
    seed = int(os.environ.get("JOBMILL_TEST_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"JOBMILL_TEST_SEED={seed}")  # noqa: T201
    with Chaos(installation, receiver, seed, *others) as chaos:
        jobs = submit_many(installation, how_many)
        for job in jobs[5::50]:
            _cancel(installation, job)
        time.sleep(how_many / 25)
        installation.eventually(lambda: len(chaos.struck) == len(chaos.acts), 60)
    for job in jobs:
        installation.ended(job, 60)
    installation.eventually(lambda: hurry(installation, made["id"]), ALL_TOLD_SECONDS, 1.0)
    check_told(installation, receiver, jobs, made["id"])


def _cancel(installation: Installation, job: Json) -> None:
    """Ask for it; one that has ended by then stays as it is."""
    with suppress(httpx2.TransportError):
        installation.client.post(f"/v1/jobs/{job['id']}/cancel")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", [pytest.param(Embedded.mode, marks=pytest.mark.long), Full.mode])
def test_every_end_is_told_once_while_receiver_and_worker_are_killed(
    mode: str, install: Install, receiver: Receiver
) -> None:
    survives(install(mode), receiver, 100)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_end_of_1_000_jobs_is_told_once_while_rabbitmq_restarts_too(
    install: Install, receiver: Receiver, eventually: Callable[..., Any]
) -> None:
    rabbitmq = PrivateRabbitmq(eventually)
    try:
        rabbitmq.start()
        installation = install(Full.mode, RABBITMQ_URL=rabbitmq.url, JOBMILL_QUEUE_PREFIX="jobmill")

        def restart_rabbitmq() -> None:
            rabbitmq.stop()
            rabbitmq.start()

        survives(installation, receiver, 1000, restart_rabbitmq)
    finally:
        rabbitmq.remove()


@pytest.mark.timed
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [Embedded.mode, pytest.param(Full.mode, marks=pytest.mark.long)])
def test_a_receiver_that_hangs_with_500_deliveries_delays_no_other(
    mode: str, install: Install, receiver: Receiver
) -> None:
    installation = install(mode)
    endpoint(installation, receiver.url.replace("/in", "/hang"), types=["demo.flaky"])
    fast = endpoint(installation, receiver.url, types=["demo.echo"])
    receiver.trust(fast["secret"])
    for _ in range(500 // BATCH):
        jobs = [{"type": "demo.flaky", "args": {"failures": 0}} for _ in range(BATCH)]
        assert _batch(installation, jobs)
    time.sleep(2)  # the slow one's first deliveries hang by now

    took = []
    for number in range(60):
        job = installation.succeeded(installation.submit("demo.echo", {"value": number}))
        note = installation.eventually(lambda job=job: _note_of(receiver, job), 20)
        took.append(note["at"] - _seconds(job["finished_at"]))
    p95 = sorted(took)[int(0.95 * len(took))]
    print(f"p95 of the fast receiver: {p95 * 1000:.0f} ms")  # noqa: T201
    assert p95 < FAST_SECONDS


def _note_of(receiver: Receiver, job: Json) -> Json | None:
    return next((note for note in receiver.received() if note["job"] == job["id"]), None)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def test_no_secret_and_no_signature_stands_in_any_log_or_list(install: Install, receiver: Receiver) -> None:
    installation = install(Full.mode, LOG_LEVEL="DEBUG")
    made = endpoint(installation, receiver.url)
    failing = endpoint(installation, receiver.url.replace("/in", "/no"))
    rotated = installation.client.post(f"/v1/webhook-endpoints/{made['id']}/rotate-secret", json={}).json()
    receiver.trust(made["secret"], rotated["secret"])
    secrets = [made["secret"], rotated["secret"], failing["secret"]]
    jobs = [
        installation.submit("demo.echo", {"value": 1}, webhook={"url": receiver.url, "events": ["job.succeeded"]}),
        installation.submit("demo.fail", {"message": "x"}, max_attempts=1),
    ]
    for job in jobs:
        installation.ended(job)
    installation.eventually(lambda: len(receiver.received()) >= 5, 20)
    both = [note["verified"] for note in receiver.received() if note["path"] == "/in" and any(note["verified"])]
    assert both.count([True, True]) >= 2

    said = [installation.logs(), *(process.words for process in installation.processes.values())]
    for path in (
        "/v1/webhook-endpoints",
        f"/v1/webhook-endpoints/{made['id']}",
        f"/v1/webhook-endpoints/{failing['id']}/deliveries",
        "/v1/webhook-deliveries",
        "/v1/jobs",
        "/v1/audit-log",
        "/v1/dead-letters",
        *(f"/v1/jobs/{one['id']}/events" for one in deliveries(installation, failing["id"])),
    ):
        answer = installation.client.get(path)
        assert answer.is_success, (path, answer.text)
        said.append(answer.text)
    ports = [process.settings.get("JOBMILL_METRICS_PORT") for process in installation.processes.values()]
    said += [httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text for port in ports if port]
    for words in said:
        assert not any(secret.removeprefix("whsec_") in words for secret in secrets)
        assert "v1," not in words
