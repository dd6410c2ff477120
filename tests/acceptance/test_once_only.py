"""Submissions that are the same, and jobs of which there may be only one."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx2
import pytest

from tests.acceptance.installation import Installation, Json

CLIENTS = 50


def all_at_once(installation: Installation, body: Json, headers: dict[str, str]) -> list[httpx2.Response]:
    """The answers to as many clients that send the same at the same moment."""
    barrier = Barrier(CLIENTS)

    def send(_number: int) -> httpx2.Response:
        barrier.wait(timeout=30)
        return installation.client.post("/v1/jobs", json=body, headers=headers)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(send, range(CLIENTS)))


def rows_in(installation: Installation, queue: str) -> list[Json]:
    answer = installation.client.get("/v1/jobs", params={"queue": queue, "limit": 200})
    return answer.json()["data"]


@pytest.mark.fault("client-identical", "50 threads behind one barrier, the same key and body, both modes")
def test_fifty_identical_submissions_at_once_make_one_job(installation: Installation, unique: Callable[[], str]):
    queue = unique()  # one that no worker serves, so that the job stays as it is
    body = {"type": "demo.echo", "args": {"value": 1}, "queue": queue}
    headers = {"Idempotency-Key": unique()}
    answers = all_at_once(installation, body, headers)
    accepted = [answer for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} <= {(409, "idempotency-key-in-use")}
    (row,) = rows_in(installation, queue)
    assert {answer.json()["id"] for answer in accepted} == {row["id"]}
    replays = Counter(answer.headers.get("Idempotency-Replayed") for answer in accepted)
    assert replays == {None: 1, "true": len(accepted) - 1}

    later = installation.client.post("/v1/jobs", json=dict(reversed(body.items())), headers=headers)
    assert (later.status_code, later.headers["Idempotency-Replayed"]) == (202, "true")
    assert later.json() == row
    other = installation.client.post("/v1/jobs", json=body | {"args": {"value": 2}}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert rows_in(installation, queue) == [row]


def test_a_replay_after_the_end_tells_how_the_job_ended(installation: Installation, unique: Callable[[], str]):
    body, headers = {"type": "demo.echo", "args": {"value": 1}}, {"Idempotency-Key": unique()}
    job = installation.client.post("/v1/jobs", json=body, headers=headers).json()
    end = installation.succeeded(job)
    again = installation.client.post("/v1/jobs", json=body, headers=headers)
    assert (again.status_code, again.json()) == (202, end)


def test_fifty_jobs_with_one_unique_key_at_once_make_one_job(installation: Installation, unique: Callable[[], str]):
    queue = unique()
    body = {"type": "demo.echo", "args": {"value": 1}, "queue": queue, "unique_key": unique()}
    answers = all_at_once(installation, body, {})
    (row,) = rows_in(installation, queue)
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: CLIENTS - 1}
    for answer in answers:
        told = answer.json()
        assert (told["id"] if answer.status_code == 202 else told["holder"]) == row["id"]


def test_a_unique_key_is_held_until_its_job_has_ended(installation: Installation, unique: Callable[[], str]):
    key = unique()
    holder = installation.submit("demo.sleep", {"seconds": 600}, unique_key=key)
    body = {"type": "demo.sleep", "args": {"seconds": 0}, "unique_key": key}
    for state in ("queued or so", "running"):
        refused = installation.client.post("/v1/jobs", json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "not-unique"), state
        assert refused.json()["holder"] == holder["id"]
        installation.in_state(holder, "running")
    installation.succeeded(installation.submit("demo.echo", {"value": 1}, unique_key=key))  # of another type
    installation.client.post(f"/v1/jobs/{holder['id']}/cancel").raise_for_status()
    installation.ended(holder)
    for _ in range(2):
        installation.succeeded(installation.submit("demo.sleep", {"seconds": 0}, unique_key=key))
