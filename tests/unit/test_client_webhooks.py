"""Webhooks by the client: what its calls send, how often, and what they make of lost answers."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from jobmill_client import Client, ConnectionFailed, NewWebhookEndpoint, NotFound, RotatedSecret, connection
from tests.scripted import ADDRESS, ID, KEY, Scripted, job, problem, says

LOST = httpx2.ReadError("the connection broke")
SECRET = "whsec_" + "c2Vj" * 8
ENDPOINT: dict[str, Any] = {
    "id": ID, "tenant_id": ID, "url": "https://hooks.example.org/in", "events": ["job.dead"], "types": None,
    "description": "", "enabled": True, "disabled_reason": None, "created_at": "2027-01-01T00:00:00Z",
    "created_by": "key:test", "failing_since": None, "held_until": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_backoff", lambda _: 0)


def client(*answers: Any) -> tuple[Client, Scripted]:
    server = Scripted(*answers)
    return Client(ADDRESS, KEY, transport=server), server


@pytest.mark.parametrize(
    "ask",
    [
        lambda opened: opened.webhook_endpoints.create("https://hooks.example.org/in"),
        lambda opened: opened.webhook_endpoints.rotate_secret(ID),
        lambda opened: opened.webhook_endpoints.test(ID),
        lambda opened: opened.webhook_deliveries.redeliver(ID),
        lambda opened: opened.webhook_deliveries.rotate_secret(),
    ],
    ids=["create", "rotate-secret", "test", "redeliver", "rotate-secret-for-jobs"],
)
def test_what_would_be_done_twice_is_asked_once(ask: Callable[[Client], Any]):
    opened, server = client(LOST)
    with pytest.raises(ConnectionFailed):
        ask(opened)
    assert len(server.asked) == 1


def test_a_change_is_asked_again_and_takes_types_away_when_told_to():
    opened, server = client(LOST, says(ENDPOINT))
    assert opened.webhook_endpoints.update(ID, types=None).types is None
    assert [server.document(at) for at in (0, 1)] == [{"types": None}] * 2
    opened.webhook_endpoints.update(ID, enabled=False)
    assert server.document() == {"enabled": False}


def test_a_deletion_whose_answer_was_lost_is_no_error():
    opened, server = client(LOST, problem(404, "not-found"))
    opened.webhook_endpoints.delete(ID)
    assert [asked.method for asked in server.asked] == ["DELETE", "DELETE"]


def test_an_endpoint_that_was_never_there_is_told():
    opened, _ = client(problem(404, "not-found"))
    with pytest.raises(NotFound):
        opened.webhook_endpoints.delete(ID)


def test_a_secret_is_told_and_not_shown():
    endpoint = NewWebhookEndpoint.model_validate({**ENDPOINT, "secret": SECRET})
    rotated = RotatedSecret.model_validate({"secret": SECRET, "previous_valid_until": None})
    assert endpoint.secret == rotated.secret == SECRET
    assert not any(SECRET in shown for one in (endpoint, rotated) for shown in (repr(one), str(one)))


def test_a_rotation_says_for_how_long_the_secrets_before_sign_or_leaves_it_to_the_server():
    opened, server = client(says({"secret": SECRET, "previous_valid_until": None}))
    opened.webhook_endpoints.rotate_secret(ID, overlap_seconds=0)
    opened.webhook_endpoints.rotate_secret(ID)
    opened.webhook_deliveries.rotate_secret(tenant="acme")
    assert [server.document(at) for at in range(3)] == [{"overlap_seconds": 0}, {}, {"tenant": "acme"}]


@pytest.mark.parametrize(
    "webhook", [{"url": "https://x.example"}, {"url": "https://x.example", "events": ["job.dead"]}]
)
def test_a_job_brings_its_webhook_along(webhook: Any):
    opened, server = client(says(job(), 202))
    opened.submit("demo.echo", webhook=webhook)
    assert server.document()["webhook"] == webhook


def test_deliveries_of_a_job_are_asked_for_by_its_id_page_by_page():
    empty = {"data": [], "next_cursor": None}
    opened, server = client(says({"data": [], "next_cursor": "next"}), says(empty))
    assert list(opened.webhook_deliveries.list(job_id=ID, page_size=7)) == []
    assert [dict(asked.url.params) for asked in server.asked] == [
        {"job_id": ID, "limit": "7"},
        {"job_id": ID, "limit": "7", "cursor": "next"},
    ]


def test_an_id_that_is_none_is_not_sent():
    opened, server = client(says(ENDPOINT))
    with pytest.raises(ValueError, match="badly formed"):
        opened.webhook_endpoints.get("../keys")
    assert server.asked == []
