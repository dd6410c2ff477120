"""Two hundred clients wait and fifty follow a stream, on one process of the API, while others submit."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime
from typing import Any

import pytest

from bench.scenarios import percentile
from tests.acceptance.installation import Installation
from tests.acceptance.installer import Installer

WAITERS, READERS = 200, 50
SUBMISSIONS_PER_SECOND, SECONDS = 100, 12
FIRST_DUE, SPREAD = 5.0, 6.0
TOLD_WITHIN, SUBMITTED_WITHIN = 0.3, 0.2


@pytest.fixture
def full(request: pytest.FixtureRequest) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installer(request, stack)("full", LOG_LEVEL="WARNING")


def _connection(installation: Installation) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", int(installation.settings["PORT"]), timeout=60)


def _sent(installation: Installation, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None):
    headers = {"Authorization": f"Bearer {installation.key}", "Prefer": "wait=60"}
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, headers | ({"Content-Type": "application/json"} if body else {}))
    return connection.getresponse()


def _late(job: Any, told_at: float) -> float:
    assert job["state"] == "succeeded", job
    return told_at - datetime.fromisoformat(job["finished_at"]).timestamp()


def _wait(installation: Installation, job_id: str) -> float:
    """How long after the end of the job its waiter was answered."""
    with closing(_connection(installation)) as connection:
        answer = _sent(installation, connection, "GET", f"/v1/jobs/{job_id}")
        document = json.loads(answer.read())
        told_at = time.time()
        assert answer.headers["Preference-Applied"] == "wait=60"
        return _late(document, told_at)


def _follow(installation: Installation, job_id: str) -> float:
    """The same of a reader of its stream."""
    with closing(_connection(installation)) as connection:
        answer = _sent(installation, connection, "GET", f"/v1/jobs/{job_id}/stream")
        assert answer.status == http.client.OK
        for line in answer:
            if line.startswith(b"data: ") and (document := json.loads(line[6:]))["finished_at"]:
                return _late(document, time.time())
        raise AssertionError("the stream ended before its job")


def _submissions(installation: Installation) -> list[float]:
    """How long each submission took, of a steady stream of them."""
    began = time.monotonic()

    def share(first: int, of: int) -> list[float]:
        took = []
        with closing(_connection(installation)) as connection:
            for number in range(first, SUBMISSIONS_PER_SECOND * SECONDS, of):
                time.sleep(max(0.0, began + number / SUBMISSIONS_PER_SECOND - time.monotonic()))
                sent_at = time.monotonic()
                body = {"type": "demo.echo", "args": {"value": number}, "queue": "idle"}
                answer = _sent(installation, connection, "POST", "/v1/jobs", body)
                answer.read()
                took.append(time.monotonic() - sent_at)
                assert answer.status == http.client.ACCEPTED
        return took

    with ThreadPoolExecutor(8) as pool:
        return [one for shared in pool.map(lambda first: share(first, 8), range(8)) for one in shared]


@pytest.mark.long
def test_two_hundred_waiters_and_fifty_readers_are_told_at_once_while_others_submit(full: Installation) -> None:
    everybody = WAITERS + READERS
    jobs = [
        {"type": "demo.echo", "args": {"value": number}, "delay_seconds": FIRST_DUE + SPREAD * number / everybody}
        for number in range(everybody)
    ]
    answer = full.client.post("/v1/jobs/batch", json={"jobs": jobs})
    ids = [item["job"]["id"] for item in answer.json()["data"]]
    with ThreadPoolExecutor(everybody) as pool:
        # Every fifth client follows a stream, so that both kinds end all the time.
        clients = [pool.submit(_wait if number % 5 else _follow, full, ids[number]) for number in range(everybody)]
        took = _submissions(full)
        late = [client.result(60) for client in clients]

    waited, followed = [one for n, one in enumerate(late) if n % 5], late[::5]
    print({  # noqa: T201 - the figures of the report
        "submit p50, p95, p99, max": [round(percentile(took, p), 3) for p in (50, 95, 99, 100)],
        "waiters p50, p95, p99, max": [round(percentile(waited, p), 3) for p in (50, 95, 99, 100)],
        "readers p50, p95, p99, max": [round(percentile(followed, p), 3) for p in (50, 95, 99, 100)],
    })  # fmt: skip
    assert percentile(took, 95) < SUBMITTED_WITHIN
    assert percentile(waited, 95) < TOLD_WITHIN
    assert percentile(followed, 95) < TOLD_WITHIN
