"""Webhook deliveries over HTTP: what came of them, sent once more, to URLs that come with jobs, and whole outages."""

from typing import Any
from uuid import UUID

import pytest

from api.webhook_documents import STATUSES
from jobs.dead_letters import group_of
from models import webhook_deliveries
from models.dialect import POSTGRESQL, SQLITE
from models.ids import new_id
from models.job import GATED_QUEUE, Ref
from models.states import State
from models.webhook_deliveries import TYPE, Answered
from tests.doors import DELIVERIES, ENDPOINTS, JOBS, Caller, Doors, assert_problem
from tests.factories import LEASE, ago, history_of
from tests.webhooked import URL, delivery, found, make, patch

DEAD = "/v1/dead-letters"


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


# Deliveries


@pytest.mark.parametrize("enabled", [True, False])
def test_a_test_is_sent_to_its_endpoint_at_once(caller: Caller, enabled: bool):
    made = make(caller, enabled=enabled)
    caller.doors.rung.clear()
    answer = caller.post(f"{ENDPOINTS}/{made['id']}/test")
    assert answer.status_code == 202
    assert caller.doors.rung.is_set()
    told = answer.json
    assert answer.headers["Location"] == f"{DELIVERIES}/{told['id']}"
    assert (told["event"], told["status"], told["endpoint_id"]) == ("webhook.test", "waiting", made["id"])
    assert (told["url"], told["job_id"], told["attempts"], told["max_attempts"]) == (None, None, 0, 10)
    assert caller.get(f"{DELIVERIES}/{told['id']}").json == told
    assert caller.get(f"{ENDPOINTS}/{made['id']}/deliveries").json["data"] == [told]
    assert caller.get(f"{JOBS}/{told['id']}").json["type"] == TYPE


@pytest.mark.parametrize("state", State)
def test_the_status_of_a_delivery_is_its_jobs(caller: Caller, state: State):
    told = caller.get(f"{DELIVERIES}/{delivery(caller, state)}").json
    assert told["status"] == STATUSES[state]
    assert (told["next_attempt_at"] is not None) == (state is State.QUEUED)


def test_a_delivery_tells_what_its_receiver_answered(caller: Caller):
    made = make(caller)
    delivery_id = delivery(caller, State.RUNNING, made["id"], attempt=3)
    answered = Answered(duration_ms=184, status_code=503, answer="Back in a minute.")
    with caller.doors.database.transaction() as session:
        assert webhook_deliveries.keep_answer(session, Ref(UUID(delivery_id), LEASE), answered)
    told = caller.get(f"{DELIVERIES}/{delivery_id}").json
    assert (told["response_code"], told["response_body"], told["duration_ms"]) == (503, "Back in a minute.", 184)
    assert (told["attempts"], told["failure"]) == (3, None)
    assert told["answered_at"] >= told["created_at"]
    assert len(UUID(told["event_id"].removeprefix("evt_")).hex) == 32


def test_deliveries_are_listed_of_an_endpoint_of_a_job_and_of_the_tenant(doors: Doors, caller: Caller):
    made, other = make(caller), make(caller)
    ids = [delivery(caller, State.SUCCEEDED, made["id"]) for _ in range(3)]
    elsewhere = delivery(caller, State.DEAD, other["id"])
    job_id = caller.submit(webhook={"url": "https://with.example.com/", "events": ["job.cancelled"]})["id"]
    caller.post(f"{JOBS}/{job_id}/cancel")
    [of_job] = [one for one in caller.get(f"{DELIVERIES}?job_id={job_id}").json["data"] if one["endpoint_id"] is None]
    assert (of_job["url"], of_job["event"]) == ("https://with.example.com/", "job.cancelled")

    def listed(who: Caller, path: str) -> list[str]:
        return [one["id"] for one in who.get(path).json["data"]]

    platform, stranger = doors.caller(tenant=None), doors.caller()
    assert {*ids, elsewhere, of_job["id"]} < set(listed(caller, DELIVERIES))
    for who in (caller, platform):
        assert set(ids) <= set(listed(who, f"{ENDPOINTS}/{made['id']}/deliveries"))
        assert of_job["id"] in listed(who, f"{DELIVERIES}?job_id={job_id}")
    assert of_job["id"] in listed(platform, f"{DELIVERIES}?limit=5")
    assert listed(platform, f"{DELIVERIES}?job_id={new_id()}") == []
    assert listed(stranger, DELIVERIES) == listed(stranger, f"{DELIVERIES}?job_id={job_id}") == []
    page = caller.get(f"{DELIVERIES}?limit=2").json
    following = listed(caller, f"{DELIVERIES}?limit=200&cursor={page['next_cursor']}")
    assert [one["id"] for one in page["data"]] + following == listed(caller, DELIVERIES)


def test_deliveries_of_a_job_that_was_pruned_are_found_by_its_id(doors: Doors, caller: Caller):
    kept = delivery(caller, State.DEAD)
    pruned = caller.get(f"{DELIVERIES}/{kept}").json["job_id"]
    assert_problem(caller.get(f"{JOBS}/{pruned}"), 404, "not-found")
    for who, told in ((caller, [kept]), (doors.caller(tenant=None), [kept]), (doors.caller(), [])):
        assert [one["id"] for one in who.get(f"{DELIVERIES}?job_id={pruned}").json["data"]] == told


@pytest.mark.parametrize("path", [f"{ENDPOINTS}/{{}}", f"{ENDPOINTS}/{{}}/deliveries"])
def test_an_endpoint_is_nobody_elses(doors: Doors, caller: Caller, path: str):
    made = make(caller)
    assert_problem(doors.caller().get(path.format(made["id"])), 404, "not-found")
    assert doors.caller(tenant=None).get(path.format(made["id"])).status_code == 200


# Sending once more


def test_a_delivery_that_waits_is_sent_now(caller: Caller):
    waits = delivery(caller, State.QUEUED, make(caller)["id"], due_at=ago(hours=-5))
    caller.doors.rung.clear()
    told = caller.post(f"{DELIVERIES}/{waits}/redeliver").json
    assert caller.doors.rung.is_set()
    assert (told["id"], told["status"]) == (waits, "waiting")
    assert told["next_attempt_at"] < caller.submit()["created_at"]


def test_a_dead_delivery_is_replayed(caller: Caller):
    dead = delivery(caller, State.DEAD, make(caller)["id"])
    told = caller.post(f"{DELIVERIES}/{dead}/redeliver").json
    assert (told["id"], told["status"], told["attempts"]) == (dead, "waiting", 0)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.CANCELLED, State.DISCARDED])
@pytest.mark.parametrize("with_job", [True, False])
def test_one_that_is_over_is_sent_by_another_with_its_event_and_body(caller: Caller, state: State, with_job: bool):
    over = delivery(caller, state, None if with_job else make(caller)["id"])
    answer = caller.post(f"{DELIVERIES}/{over}/redeliver")
    first, second = caller.get(f"{DELIVERIES}/{over}").json, answer.json
    assert answer.headers["Location"] == f"{DELIVERIES}/{second['id']}"
    assert (second["status"], second["id"] != over) == ("waiting", True)
    assert all(first[name] == second[name] for name in ("event_id", "event", "job_id", "url", "endpoint_id"))
    with caller.doors.database.reading() as session:
        parcels = [webhook_deliveries.parcel(session, UUID(one["id"])) for one in (first, second)]
    assert len({parcel.body for parcel in parcels if parcel}) == 1


@pytest.mark.parametrize("state", [State.DISPATCHED, State.RUNNING])
def test_one_that_is_being_sent_needs_no_help(caller: Caller, state: State):
    assert_problem(caller.post(f"{DELIVERIES}/{delivery(caller, state)}/redeliver"), 409, "delivery-under-way")


# With jobs


def test_a_job_brings_the_url_along_that_is_told_of_its_end(caller: Caller):
    for events, told in ((None, 1), (["job.cancelled"], 1), (["job.dead"], 0)):
        job = caller.submit(webhook={"url": URL} | ({"events": events} if events else {}))
        caller.post(f"{JOBS}/{job['id']}/cancel")
        assert len(caller.get(f"{DELIVERIES}?job_id={job['id']}").json["data"]) == told
    assert caller.submit(webhook=None)["state"] == "queued"


def test_jobs_of_a_batch_bring_theirs(caller: Caller):
    batch = {"jobs": [{"type": "test.echo", "webhook": {"url": f"{URL}/{number}"}} for number in range(2)]}
    for number, item in enumerate(caller.post(f"{JOBS}/batch", batch).json["data"]):
        caller.post(f"{JOBS}/{item['job']['id']}/cancel")
        [told] = caller.get(f"{DELIVERIES}?job_id={item['job']['id']}").json["data"]
        assert told["url"] == f"{URL}/{number}"


@pytest.mark.parametrize(
    ("webhook", "pointer"),
    [
        ("https://hooks.example.com", "/webhook"),
        ({}, "/webhook/url"),
        ({"url": URL, "events": []}, "/webhook/events"),
        ({"url": URL, "events": ["job.lost"]}, "/webhook/events/0"),
        ({"url": URL, "types": None}, "/webhook/types"),
    ],
)
def test_a_webhook_that_is_none_is_refused_at_its_place(caller: Caller, webhook: Any, pointer: str):
    answer = caller.post(JOBS, {"type": "test.echo", "webhook": webhook})
    assert pointer in {flaw["pointer"] for flaw in assert_problem(answer, 400, "invalid-request")["errors"]}


def test_another_webhook_is_another_body_of_an_idempotency_key(caller: Caller):
    job = {"type": "test.echo", "webhook": {"url": URL}}
    first = caller.post(JOBS, job, Idempotency_Key="once")
    assert caller.post(JOBS, job, Idempotency_Key="once").json["id"] == first.json["id"]
    other = caller.post(JOBS, {"type": "test.echo", "webhook": {"url": f"{URL}/2"}}, Idempotency_Key="once")
    assert_problem(other, 422, "idempotency-key-reused")


# As jobs and dead letters


def test_a_redrive_by_endpoint_replays_its_outage_and_nothing_else(doors: Doors, caller: Caller):
    made, other = make(caller)["id"], make(caller)["id"]
    lost = [delivery(caller, State.DEAD, made, finished_at=ago(minutes=number)) for number in range(3)]
    delivery(caller, State.DEAD, other)
    delivery(caller, State.SUCCEEDED, made)
    for who in (caller, doors.caller(tenant=None)):
        assert [one["id"] for one in who.get(f"{DEAD}?endpoint_id={made}").json["data"]] == lost
        oldest = who.get(f"{DEAD}?endpoint_id={made}&order=oldest&limit=2").json
        assert [one["id"] for one in oldest["data"]] == lost[:0:-1]
    assert doors.caller().get(f"{DEAD}?endpoint_id={made}").json["data"] == []
    group = caller.get(f"{DEAD}?endpoint_id={made}").json["data"][0]["group"]
    assert group == group_of(TYPE, group.partition(":")[2])
    narrowed = caller.get(f"{DEAD}?endpoint_id={made}&group={group}&queue={GATED_QUEUE}").json["data"]
    assert [one["id"] for one in narrowed] == lost
    asked = {"filter": {"endpoint_id": made}}
    assert caller.post("/v1/redrives", {**asked, "dry_run": True}).json["matched"] == 3
    redrive = caller.post("/v1/redrives", asked).json
    assert (redrive["matched"], redrive["filter"]) == (3, {"endpoint_id": made})


def test_the_args_of_a_delivery_cannot_be_edited(caller: Caller):
    dead = delivery(caller, State.DEAD, make(caller)["id"])
    answer = patch(caller, f"{DEAD}/{dead}", {"args": {"event": "job.succeeded"}})
    [flaw] = assert_problem(answer, 400, "invalid-request")["errors"]
    assert (flaw["pointer"], flaw["code"]) == ("/args", "internal-job-type")
    assert "Jobmill itself made" in flaw["detail"]
    with caller.doors.database.reading() as session:
        assert history_of(session, UUID(dead)) == []


@pytest.mark.parametrize(
    ("state", "path", "status"),
    [
        (State.DEAD, f"{DEAD}/{{}}/replay", 202),
        (State.DEAD, f"{DEAD}/{{}}/discard", 200),
        (State.QUEUED, f"{JOBS}/{{}}/cancel", 202),
        (State.QUEUED, f"{JOBS}/{{}}/run-now", 202),
    ],
)
def test_to_end_a_delivery_takes_the_scope_of_webhooks(caller: Caller, state: State, path: str, status: int):
    made = make(caller)["id"]
    address = path.format(delivery(caller, state, made))
    limited = less_than_webhooks(caller)
    assert "webhooks:write" in assert_problem(limited.post(address), 403, "forbidden")["detail"]
    assert caller.post(address).status_code == status


def less_than_webhooks(caller: Caller) -> Caller:
    """Another of the tenant, who may do anything with jobs and dead letters and nothing with webhooks."""
    scopes = ["jobs:write", "jobs:read", "dead_letters:write", "dead_letters:read"]
    answer = caller.post("/v1/keys", {"name": "less", "scopes": scopes})
    return Caller(caller.doors, answer.json["token"], caller.tenant_id)


# Why one waits


def test_explain_tells_that_a_receiver_is_held_back_and_until_when(caller: Caller):
    made = make(caller)["id"]
    waits = delivery(caller, State.QUEUED, made)
    until = ago(minutes=-5)
    found(caller, made, unanswered=6, closed_until=until)
    reasons = explained(caller, waits)
    held = next(one for one in reasons if one["reason"] == "receiver_held")
    assert held["until"][:19] == until.isoformat()[:19]
    assert held["detail"] == {"receiver": "https://hooks.example.com", "unanswered": 6}


def test_explain_tells_that_a_receiver_has_as_many_as_may_be(doors: Doors, caller: Caller):
    made = make(caller)["id"]
    delivery(caller, State.RUNNING, made)
    delivery(caller, State.DISPATCHED, made)
    waits = delivery(caller, State.QUEUED, made)
    assert "receiver_busy" not in {one["reason"] for one in explained(caller, waits)}
    narrow = Doors(doors.database, webhook_concurrency=2)
    busy = next(one for one in explained(Caller(narrow, caller.token), waits) if one["reason"] == "receiver_busy")
    assert busy["detail"] == {"under_way": 2, "may_be": 2}


def explained(caller: Caller, job_id: str) -> list[dict[str, Any]]:
    told = caller.get(f"{JOBS}/{job_id}/explain").json
    return [told, *told["also"]]


def test_a_delivery_that_waits_for_its_time_is_explained_by_that(caller: Caller):
    waits = delivery(caller, State.QUEUED, make(caller)["id"], due_at=ago(hours=-1))
    assert explained(caller, waits)[0]["reason"] == "waits_for_time"
