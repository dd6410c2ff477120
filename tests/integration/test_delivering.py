"""One delivery of a webhook: what the receiver gets, and what each answer does to the delivery and to its endpoint."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson
import pytest
from pytest_httpserver import HTTPServer
from sqlalchemy import delete, select, update
from werkzeug import Request, Response

from jobs import delivering, signing, webhook_secrets, webhooks
from jobs.outbound import Outbound
from jobs.receivers import GIVEN_UP_AFTER
from jobs.registry import load
from jobs.scopes import ALL_SCOPES, Principal
from jobs.webhooks import NewEndpoint
from models import audit, gate, moves, webhook_deliveries, webhook_endpoints
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.doorbell import LocalDoorbell
from models.ids import new_id
from models.job import Ref, jobs
from models.moves import Ending
from models.moves.telling import EVENTS, Receiver
from models.states import State
from models.webhook_deliveries import Delivery
from models.webhook_endpoints import Endpoint
from tests.factories import ago, history_of, job_in, row_of, tenant_id_of
from tests.integration.test_outbound import LOOPBACK, answering, dripping, peer
from tests.workbench import lent_database
from workers.executor import Executor
from workers.flow import Flow

PEPPER = b"a pepper of the tests"
OPERATOR = Principal("ops", None, ALL_SCOPES)


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def lent(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, request.param)


@dataclass
class Post:
    """A worker's executor with the shipped types, and a receiver whose answers a test gives."""

    database: Database
    receiver: HTTPServer
    got: list[Request] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    http: Outbound = field(default_factory=lambda: Outbound(LOOPBACK, allow_http=True))

    def __post_init__(self) -> None:
        self.receiver.expect_request("/in").respond_with_handler(self._answer)
        self.worker_id = new_id()
        bell = LocalDoorbell(threading.Event())
        self.executor = Executor(
            self.database,
            load([]),
            self.worker_id,
            self.http,
            bell,
            Flow(4),
            pepper=lambda _session: PEPPER,
        )

    def _answer(self, request: Request) -> Response:
        request.get_data()
        self.got.append(request)
        return self.answers.pop(0) if self.answers else Response(status=204)

    @property
    def url(self) -> str:
        return self.receiver.url_for("/in")

    def endpoint(self, **told: Any) -> tuple[UUID, str]:
        """A new endpoint and its secret."""
        secret, endpoint_id = signing.new_secret(), new_id()
        usual = {"url": self.url, "events": tuple(EVENTS.values()), "types": None, "description": "", "enabled": True}
        new = NewEndpoint(id=endpoint_id, secret=secret, **usual | told)
        self.database.run(lambda session: webhooks.create(session, PEPPER, OPERATOR, tenant_id_of(session), new))
        return endpoint_id, secret

    def end(self, result: str = '"done"', **columns: Any) -> list[Ref]:
        """A job succeeds; gives its deliveries, as they are when they have been handed out."""

        def step(session: Any) -> list[Ref]:
            job = job_in(session, State.RUNNING, **columns)
            moves.succeed(session, [Ending(job, result=result)])
            found = session.scalars(
                select(webhook_deliveries.webhook_deliveries.c.id)
                .where(webhook_deliveries.webhook_deliveries.c.job_id == job.id)
                .order_by(webhook_deliveries.webhook_deliveries.c.id)
            )
            return [self.hand_out(session, one) for one in found]

        return self.database.run(step)

    def hand_out(self, session: Any, delivery_id: UUID) -> Ref:
        lease = session.scalars(
            update(jobs)
            .where(jobs.c.id == delivery_id)
            .values(
                state=State.DISPATCHED, lease=jobs.c.lease + 1, dispatched_at=ago(), lease_expires_at=ago(minutes=-1)
            )
            .returning(jobs.c.lease)
        ).one()
        return Ref(delivery_id, lease)

    def deliver(self, **columns: Any) -> Delivery:
        """A job ends and its one delivery is attempted."""
        [ref] = self.end(**columns)
        return self.attempt(ref)

    def deliver_to_url(self) -> Delivery:
        """The same to the URL that came with the job."""
        refs = self.end(webhook={"url": self.url, "events": ["job.succeeded"]})
        [of_url] = [ref for ref in refs if self.see(ref.id).endpoint_id is None]
        return self.attempt(of_url)

    def attempt(self, ref: Ref) -> Delivery:
        assert self.executor.run([ref])
        return self.see(ref.id)

    def again(self, delivery: Delivery) -> Delivery:
        """The delivery's next attempt, at once."""
        return self.attempt(self.database.run(lambda session: self.hand_out(session, delivery.id)))

    def see(self, delivery_id: UUID) -> Delivery:
        with self.database.reading() as session:
            found = webhook_deliveries.find(session, delivery_id, None)
        assert found is not None
        return found

    def endpoint_of(self, endpoint_id: UUID) -> Endpoint:
        with self.database.reading() as session:
            found = webhook_endpoints.find(session, endpoint_id, None)
        assert found is not None
        return found

    def gate_of(self, gate_id: UUID) -> gate.Gate | None:
        with self.database.reading() as session:
            return gate.find(session, gate_id)

    def waits_for(self, delivery: Delivery) -> float:
        return (delivery.due_at - datetime.now(UTC)).total_seconds()


@pytest.fixture
def post(lent: Database, httpserver: HTTPServer) -> Post:
    with lent.transaction() as session:
        for table in (
            webhook_deliveries.webhook_deliveries,
            jobs,
            webhook_endpoints.webhook_secrets,
            webhook_endpoints.webhook_endpoints,
            gate.gates,
        ):
            session.execute(delete(table))
    return Post(lent, httpserver)


def test_a_receiver_gets_one_signed_request_and_its_answer_is_kept(post: Post):
    endpoint_id, secret = post.endpoint()
    post.answers = [Response("thank you", 200)]
    delivery = post.deliver()

    [request] = post.got
    body = request.get_data()
    signing.verify([secret], dict(request.headers), body, time.time())
    assert request.headers["webhook-id"] == f"evt_{delivery.event_id.hex}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("Jobmill/")
    assert orjson.loads(body)["data"]["result"] == "done"
    assert (delivery.state, delivery.attempt, delivery.endpoint_id) == (State.SUCCEEDED, 1, endpoint_id)
    assert (delivery.status_code, delivery.answer, delivery.failure) == (200, "thank you", None)
    assert delivery.duration_ms is not None
    with post.database.reading() as session:
        assert row_of(session, delivery.id)["result"]["status_code"] == 200


@pytest.mark.parametrize("status", [301, 302, 308, 400, 401, 404, 409, 429, 500, 503])
def test_what_is_no_2xx_is_tried_again_after_about_five_seconds(post: Post, status: int):
    post.endpoint()
    post.answers = [Response("not now", status, {"Location": post.url})]
    delivery = post.deliver()
    assert len(post.got) == 1  # no redirect is followed
    assert (delivery.state, delivery.status_code, delivery.answer) == (State.QUEUED, status, "not now")
    assert 4 <= post.waits_for(delivery) <= 6


def test_all_tries_of_an_event_have_one_id_and_one_body_and_each_its_own_time(post: Post):
    _, secret = post.endpoint()
    post.answers = [Response(status=500), Response(status=500)]
    delivery = post.deliver()
    delivery = post.again(post.again(delivery))
    assert delivery.state is State.SUCCEEDED
    assert len({request.headers["webhook-id"] for request in post.got}) == 1
    assert len({request.get_data() for request in post.got}) == 1
    for request in post.got:
        signing.verify([secret], dict(request.headers), request.get_data(), time.time())


def test_the_waits_are_those_that_were_promised_and_then_it_is_a_dead_letter(post: Post):
    post.endpoint()
    promised = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    post.answers = [Response(status=500) for _ in range(10)]
    delivery = post.deliver()
    for wait in promised:
        assert 0.89 * wait - 2 <= post.waits_for(delivery) <= 1.11 * wait
        delivery = post.again(delivery)
    assert (delivery.state, delivery.attempt) == (State.DEAD, 10)


@pytest.mark.parametrize(
    ("value", "least", "most"), [("120", 115, 121), ("0", 4, 6), ("999999999", 86_390, 86_401), ("soon", 4, 6)]
)
def test_retry_after_is_honoured_up_to_a_day_and_never_hurries(post: Post, value: str, least: float, most: float):
    post.endpoint()
    post.answers = [Response(status=503, headers={"Retry-After": value})]
    assert least <= post.waits_for(post.deliver()) <= most


def test_a_receiver_that_always_says_in_a_second_has_its_three_days_too(post: Post):
    post.endpoint()
    post.answers = [Response(status=503, headers={"Retry-After": "1"}) for _ in range(2)]
    delivery = post.again(post.deliver())
    assert 260 <= post.waits_for(delivery) <= 340


@pytest.mark.fault("receiver-410", "410 to a webhook: its endpoint is disabled, and gets nothing more")
def test_410_disables_the_endpoint_and_its_other_deliveries_are_not_sent(post: Post):
    endpoint_id, _ = post.endpoint()
    post.answers = [Response(status=410)]
    [other] = post.end()
    delivery = post.deliver()
    endpoint = post.endpoint_of(endpoint_id)
    assert (delivery.state, endpoint.enabled, endpoint.disabled_reason) == (
        State.DEAD,
        False,
        "It answered 410 Gone.",
    )
    refused = post.attempt(other)
    assert refused.state is State.DEAD
    assert refused.failure == "The webhook endpoint is disabled: It answered 410 Gone."
    assert len(post.got) == 1
    assert post.end() == []


def test_five_days_of_nothing_but_failures_disable_it_and_the_tenant_s_other_endpoints_are_told(post: Post):
    endpoint_id, _ = post.endpoint(url=f"{post.url}?token=t0ken", description="the old one")
    other_id, _ = post.endpoint(events=("job.dead",), url=post.receiver.url_for("/other"))
    post.answers = [Response(status=500), Response(status=500)]
    delivery = post.deliver()
    assert post.endpoint_of(endpoint_id).enabled
    with post.database.transaction() as session:
        long_ago = ago(seconds=GIVEN_UP_AFTER.total_seconds() + 60)
        session.execute(update(gate.gates).where(gate.gates.c.id == endpoint_id).values(failing_since=long_ago))
    post.again(delivery)

    assert post.endpoint_of(endpoint_id).disabled_reason == "Nothing but failures for 5 days."
    with post.database.reading() as session:
        [told] = webhook_deliveries.page(session, None, None, 10, endpoint_id=other_id)
        parcel = webhook_deliveries.parcel(session, told.id)
        [entry] = [one for one in audit.list_entries(session, None, None, 50) if one.resource_id == str(endpoint_id)]
    assert parcel is not None
    assert told.event == "webhook_endpoint.disabled"
    about = {
        "receiver": post.receiver.url_for("").rstrip("/"),
        "description": "the old one",
        "reason": "Nothing but failures for 5 days.",
    }
    assert orjson.loads(parcel.body)["data"] == {"id": str(endpoint_id), **about}
    assert (entry.action, entry.resource, entry.detail) == ("disable", "webhook-endpoints", about)


def test_a_success_in_between_begins_the_five_days_anew(post: Post):
    endpoint_id, _ = post.endpoint()
    post.answers = [Response(status=500), Response(status=204), Response(status=500)]
    delivery = post.deliver()
    with post.database.transaction() as session:
        session.execute(update(gate.gates).values(failing_since=ago(days=6)))
    assert post.again(delivery).state is State.SUCCEEDED
    post.deliver()
    assert post.endpoint_of(endpoint_id).enabled


def test_an_endpoint_that_is_enabled_again_begins_afresh(post: Post):
    endpoint_id, _ = post.endpoint()
    with post.database.transaction() as session:
        session.execute(update(gate.gates).values(failing_since=ago(days=6)))
        webhooks.change(session, OPERATOR, endpoint_id, {"enabled": False})
        assert webhooks.find(session, OPERATOR, endpoint_id).disabled_reason == "It was disabled by hand."
        webhooks.change(session, OPERATOR, endpoint_id, {"enabled": True})
    post.answers = [Response(status=500)]
    post.deliver()
    assert post.endpoint_of(endpoint_id).enabled


def test_a_receiver_that_cannot_be_reached_is_tried_again_and_then_held_back(post: Post):
    endpoint_id, _ = post.endpoint(url="http://127.0.0.1:1/")
    delivery = post.deliver()
    assert (delivery.state, delivery.status_code) == (State.QUEUED, None)
    assert "127.0.0.1" in (delivery.failure or "")
    for _ in range(4):
        delivery = post.again(delivery)
    held = post.gate_of(endpoint_id)
    assert held is not None
    assert (held.unanswered, held.closed) == (5, True)
    post.database.run(lambda session: webhooks.change(session, OPERATOR, endpoint_id, {"url": post.url}))
    fresh = post.gate_of(endpoint_id)
    assert fresh is not None
    assert (fresh.unanswered, fresh.closed) == (0, False)


def test_a_receiver_that_drips_its_answer_is_let_go_at_the_deadline(post: Post, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("jobs.builtin.webhook.DEADLINE_SECONDS", 1.0)
    with peer(dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x")) as (port, _):
        post.endpoint(url=f"http://127.0.0.1:{port}/")
        began = time.monotonic()
        delivery = post.deliver()
    assert time.monotonic() - began < 3
    assert (delivery.state, delivery.failure) == (State.QUEUED, "The call was not done within its 1 seconds.")


def test_of_a_long_answer_the_first_4_kib_are_kept_and_read(post: Post):
    endless = answering(b"HTTP/1.1 500 No\r\nContent-Length: 100000000\r\n\r\n", *[b"y" * 65_536] * 100)
    with peer(endless) as (port, _):
        post.endpoint(url=f"http://127.0.0.1:{port}/")
        delivery = post.deliver()
    assert delivery.answer == "y" * 4096


def as_json(text: str) -> str:
    return text.replace("/", "\\/").replace("+", "\\u002b")


@pytest.mark.parametrize("spelled", [str, as_json, quote, lambda text: "y" * 4060 + text, lambda text: text[:30]])
def test_an_answer_that_repeats_the_signature_is_kept_without_it(post: Post, spelled: Callable[[str], str]):
    _, secret = post.endpoint()
    sent = []

    def echo(request: Request) -> Response:
        sent.append(request.headers["webhook-signature"].removeprefix("v1,"))
        return Response(f"I know {secret} and {spelled(sent[0])}", 500)

    post.receiver.expect_request("/echo").respond_with_handler(echo)
    post.database.run(
        lambda session: session.execute(
            update(webhook_endpoints.webhook_endpoints).values(url=post.receiver.url_for("/echo"))
        )
    )
    delivery = post.deliver()
    assert delivery.answer is not None
    assert "***" in delivery.answer
    assert secret not in delivery.answer
    runs = re.findall("[A-Za-z0-9]{8,}", sent[0])
    assert not [run for run in runs if run[:8] in delivery.answer]


def test_a_private_address_is_refused_at_each_call_and_tried_again_since_names_and_settings_change(post: Post):
    post.executor.http = Outbound((), allow_http=True)
    post.endpoint()
    delivery = post.deliver()
    assert (delivery.state, post.got) == (State.QUEUED, [])
    assert "loopback" in (delivery.failure or "")
    assert 4 <= post.waits_for(delivery) <= 6
    post.executor.http = post.http
    assert post.again(delivery).state is State.SUCCEEDED


def test_both_secrets_sign_while_they_overlap_and_afterwards_the_new_one_only(post: Post):
    endpoint_id, old = post.endpoint()
    new = signing.new_secret()

    def rotate(overlap: timedelta) -> None:
        post.database.run(
            lambda session: webhook_secrets.rotate(session, PEPPER, tenant_id_of(session), endpoint_id, new, overlap)
        )

    rotate(timedelta(hours=24))
    rotate(timedelta(hours=24))  # again after an unknown outcome
    post.deliver()
    for secret in (old, new):
        signing.verify([secret], dict(post.got[0].headers), post.got[0].get_data(), time.time())
    assert len(post.got[0].headers["webhook-signature"].split()) == 2
    with post.database.transaction() as session:
        secrets = webhook_endpoints.webhook_secrets
        session.execute(update(secrets).where(secrets.c.ends_at.is_not(None)).values(ends_at=ago(seconds=1)))
    post.deliver()
    signing.verify([new], dict(post.got[1].headers), post.got[1].get_data(), time.time())
    with pytest.raises(signing.NotVerified):
        signing.verify([old], dict(post.got[1].headers), post.got[1].get_data(), time.time())


def test_no_more_secrets_sign_than_fit_into_a_header(post: Post):
    endpoint_id, _ = post.endpoint()
    for _ in range(12):
        post.database.run(
            lambda session: webhook_secrets.rotate(
                session, PEPPER, tenant_id_of(session), endpoint_id, signing.new_secret(), timedelta(hours=1)
            )
        )
    post.deliver()
    assert len(post.got[0].headers["webhook-signature"].split()) == webhook_secrets.MOST_SECRETS


def test_a_url_that_came_with_a_job_is_signed_with_the_tenant_s_own_secret(post: Post):
    told = {"url": post.url, "events": ["job.succeeded"]}
    first = post.deliver(webhook=told)
    secret = signing.new_secret()
    post.database.run(
        lambda session: webhook_secrets.rotate(session, PEPPER, tenant_id_of(session), None, secret, timedelta(hours=1))
    )
    second = post.deliver(webhook=told)
    assert (first.state, second.state) == (State.SUCCEEDED, State.SUCCEEDED)
    signing.verify([secret], dict(post.got[1].headers), post.got[1].get_data(), time.time())
    assert len(post.got[0].headers["webhook-signature"].split()) == 1
    assert len(post.got[1].headers["webhook-signature"].split()) == 2


def test_secrets_sealed_with_another_key_are_said_to_be_so_and_nothing_is_sent_unsigned(post: Post):
    post.endpoint()
    post.executor.pepper = lambda _session: b"another pepper"
    delivery = post.deliver()
    assert (delivery.state, post.got) == (State.QUEUED, [])
    assert "JOBMILL_SECRET_KEY" in (delivery.failure or "")
    with post.database.reading() as session:
        [event] = history_of(session, delivery.id)
    assert (event["move"], event["reason"]) == ("snooze", delivery.failure)


def test_a_lost_secret_costs_a_delivery_no_attempt_and_a_receiver_nothing_until_it_is_mended(post: Post):
    endpoint_id, _ = post.endpoint()
    post.executor.pepper = lambda _session: b"another pepper"
    delivery = post.deliver()
    waits = [post.waits_for(delivery)]
    for _ in range(11):
        delivery = post.again(delivery)
        waits.append(post.waits_for(delivery))
    assert (delivery.state, delivery.attempt) == (State.QUEUED, 0)
    assert waits == pytest.approx([60, 120, 240, 480, 960, 1920, *[3600] * 6], abs=5)
    unharmed = post.gate_of(endpoint_id)
    assert unharmed is not None
    assert (unharmed.unanswered, unharmed.failing_since) == (0, None)
    post.executor.pepper = lambda _session: PEPPER
    delivery = post.again(delivery)
    assert (delivery.state, delivery.attempt, delivery.failure) == (State.SUCCEEDED, 1, None)


def test_a_secret_that_stays_lost_ends_as_a_dead_letter(post: Post, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(delivering, "MOST_WAITS", 2)
    post.endpoint()
    post.executor.pepper = lambda _session: b"another pepper"
    delivery = post.again(post.again(post.deliver()))
    with post.database.reading() as session:
        assert (delivery.state, row_of(session, delivery.id)["error"]["code"]) == (State.DEAD, "secret-lost")


def test_a_worker_with_another_key_makes_no_secret_that_others_cannot_open(post: Post):
    post.endpoint()  # by processes with the right one
    post.executor.pepper = lambda _session: b"another pepper"
    delivery = post.deliver_to_url()
    assert (delivery.state, delivery.attempt, post.got) == (State.QUEUED, 0, [])
    assert "JOBMILL_SECRET_KEY" in (delivery.failure or "")
    post.executor.pepper = lambda _session: PEPPER
    assert post.again(delivery).state is State.SUCCEEDED


def test_a_secret_in_the_database_is_sealed_and_bound_to_its_place(post: Post):
    _, secret = post.endpoint()
    table = webhook_endpoints.webhook_secrets
    with post.database.reading() as session:
        kept = session.execute(select(table.c.id, table.c.sealed)).one()
    assert secret.encode() not in kept.sealed
    assert signing.key_of(secret) not in kept.sealed
    sealed = webhook_endpoints.SealedSecret(kept.id, kept.sealed, None)
    assert webhook_secrets.opened(PEPPER, sealed) == secret
    assert webhook_secrets.opened(PEPPER, webhook_endpoints.SealedSecret(new_id(), kept.sealed, None)) is None


def test_a_stale_attempt_changes_neither_the_delivery_nor_its_endpoint(post: Post):
    """It hung for so long that another worker has the delivery now."""
    endpoint_id, _ = post.endpoint()
    [ref] = post.end()

    def lose(request: Request) -> Response:
        with post.database.transaction() as session:
            session.execute(update(jobs).where(jobs.c.id == ref.id).values(lease=jobs.c.lease + 1))
        return Response(status=410)

    post.receiver.expect_request("/lose").respond_with_handler(lose)
    post.database.run(
        lambda session: session.execute(
            update(webhook_endpoints.webhook_endpoints).values(url=post.receiver.url_for("/lose"))
        )
    )
    delivery = post.attempt(ref)
    assert (delivery.state, delivery.status_code) == (State.RUNNING, None)
    assert post.endpoint_of(endpoint_id).enabled


def test_what_the_old_url_answers_is_not_held_against_the_new_one(post: Post):
    endpoint_id, _ = post.endpoint()
    [ref] = post.end()

    def move(request: Request) -> Response:
        post.database.run(lambda session: webhooks.change(session, OPERATOR, endpoint_id, {"url": post.url}))
        return Response(status=410)

    post.receiver.expect_request("/old").respond_with_handler(move)
    old = {"url": post.receiver.url_for("/old")}
    post.database.run(lambda session: webhooks.change(session, OPERATOR, endpoint_id, old))
    delivery = post.attempt(ref)
    assert delivery.status_code == 410
    assert post.endpoint_of(endpoint_id).enabled
    known = post.gate_of(endpoint_id)
    assert known is not None
    assert known.failing_since is None


def test_failures_with_idle_days_between_them_are_not_five_days_of_failures(post: Post):
    endpoint_id, _ = post.endpoint()
    post.answers = [Response(status=500), Response(status=500)]
    post.deliver()
    with post.database.transaction() as session:
        session.execute(update(gate.gates).values(failing_since=ago(days=6), used_at=ago(days=6)))
    post.deliver()
    assert post.endpoint_of(endpoint_id).enabled


@pytest.mark.parametrize("state", [State.QUEUED, State.DEAD, State.SUCCEEDED])
def test_a_redelivery_whose_answer_was_lost_sends_nothing_twice(post: Post, state: State):
    post.endpoint()
    post.answers = [Response(status=410 if state is State.DEAD else 500)] if state is not State.SUCCEEDED else []
    seen, another = post.deliver(), new_id()
    assert seen.state is state
    post.database.run(lambda session: session.execute(update(webhook_endpoints.webhook_endpoints).values(enabled=True)))
    first = post.database.run(lambda session: webhooks.redeliver(session, OPERATOR, seen, another))
    assert post.again(first).state is State.SUCCEEDED
    sent = len(post.got)
    again = post.database.run(lambda session: webhooks.redeliver(session, OPERATOR, seen, another))
    assert (again.id, again.state, len(post.got)) == (first.id, State.SUCCEEDED, sent)
    with post.database.reading() as session:
        found = webhook_deliveries.page(session, None, None, 10)
    assert len(found) == (2 if state is State.SUCCEEDED else 1)


def test_a_redelivery_and_a_test_are_sent_at_once_though_the_receiver_is_held(post: Post):
    endpoint_id, _ = post.endpoint(url="http://127.0.0.1:1/")
    delivery = post.deliver()
    for ask in (
        lambda session: webhooks.redeliver(session, OPERATOR, delivery, new_id()),
        lambda session: webhooks.test(session, OPERATOR, endpoint_id),
    ):
        held = {"unanswered": 9, "closed_until": ago(minutes=-5)}
        post.database.run(lambda session, held=held: session.execute(update(gate.gates).values(**held)))
        post.database.run(ask)
        known = post.gate_of(endpoint_id)
        assert known is not None
        assert (known.closed, known.unanswered) == (False, 0)


def test_redelivery_sends_the_same_event_again(post: Post):
    post.endpoint()
    first = post.deliver()
    again = post.database.run(lambda session: webhooks.redeliver(session, OPERATOR, first, new_id()))
    assert again.id != first.id
    second = post.again(again)
    assert (second.state, second.event_id) == (State.SUCCEEDED, first.event_id)
    assert post.got[0].get_data() == post.got[1].get_data()
    assert post.got[0].headers["webhook-id"] == post.got[1].headers["webhook-id"]


def test_redelivery_of_a_dead_letter_replays_it_and_of_one_that_waits_sends_it_now(post: Post):
    post.endpoint()
    post.answers = [Response(status=500)]
    waits = post.deliver()
    hurried = post.database.run(lambda session: webhooks.redeliver(session, OPERATOR, waits, new_id()))
    assert (hurried.id, post.waits_for(hurried) <= 0) == (waits.id, True)
    post.answers = [Response(status=410)]
    dead = post.again(hurried)
    assert dead.state is State.DEAD
    replayed = post.database.run(lambda session: webhooks.redeliver(session, OPERATOR, dead, new_id()))
    assert (replayed.id, replayed.state) == (dead.id, State.QUEUED)


def test_deleting_an_endpoint_cancels_what_waits_for_it(post: Post):
    endpoint_id, _ = post.endpoint()
    post.answers = [Response(status=500)]
    delivery = post.deliver()
    post.database.run(lambda session: session.execute(update(jobs).values(priority=-100)))  # as a redrive may
    post.database.run(lambda session: webhooks.remove(session, OPERATOR, endpoint_id))
    assert post.see(delivery.id).state is State.CANCELLED
    assert post.end() == []


def test_an_endpoint_that_was_deleted_meanwhile_is_sent_nothing(post: Post):
    endpoint_id, _ = post.endpoint()
    [ref] = post.end()
    post.database.run(lambda session: webhooks.remove(session, OPERATOR, endpoint_id))
    delivery = post.attempt(ref)
    assert (delivery.state, post.got) == (State.CANCELLED, [])
    assert delivery.failure == "The webhook endpoint was deleted."


def test_more_than_one_request_can_cancel_are_cancelled_when_their_turn_comes(
    post: Post, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhooks, "MOST_CANCELLED", 2)
    endpoint_id, _ = post.endpoint()
    post.answers = [Response(status=500) for _ in range(4)]
    deliveries = [post.deliver() for _ in range(4)]
    post.database.run(lambda session: webhooks.remove(session, OPERATOR, endpoint_id))
    left = [one for one in deliveries if post.see(one.id).state is State.QUEUED]
    assert len(left) == 2
    assert [post.again(one).state for one in left] == [State.CANCELLED] * 2
    assert len(post.got) == 4


def test_what_is_left_of_a_deleted_endpoint_does_not_go_one_by_one(post: Post):
    endpoint_id, _ = post.endpoint(url="http://127.0.0.1:1/")
    post.deliver()
    post.database.run(lambda session: webhooks.remove(session, OPERATOR, endpoint_id))
    assert post.gate_of(endpoint_id) is None


def test_a_dead_letter_of_a_deleted_endpoint_is_cancelled_when_it_is_replayed(post: Post):
    endpoint_id, _ = post.endpoint()
    post.answers = [Response(status=410)]
    dead = post.deliver()
    post.database.run(lambda session: webhooks.remove(session, OPERATOR, endpoint_id))
    post.database.run(lambda session: moves.redrive(session, [Ref(dead.id, dead.lease)], "tester"))
    assert post.again(dead).state is State.CANCELLED


def test_a_test_event_is_sent_to_a_disabled_endpoint_too(post: Post):
    endpoint_id, secret = post.endpoint(enabled=False)
    told = post.database.run(lambda session: webhooks.test(session, OPERATOR, endpoint_id))
    delivery = post.again(told)
    assert (delivery.state, delivery.event) == (State.SUCCEEDED, "webhook.test")
    signing.verify([secret], dict(post.got[0].headers), post.got[0].get_data(), time.time())


def test_a_tenant_has_so_many_endpoints_at_most(post: Post, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webhooks, "MOST_ENDPOINTS", 2)
    post.endpoint()
    post.endpoint()
    with pytest.raises(webhooks.TooManyEndpoints):
        post.endpoint()


def test_the_url_of_a_receiver_does_not_stand_in_its_gate():
    assert "token" not in Receiver(UUID(int=1), "https://example.com/in?token=t").gate.leads_to
    assert ip_network("127.0.0.0/8") in LOOPBACK
