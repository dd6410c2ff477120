"""The examples of webhook endpoints and deliveries in the OpenAPI document; a test holds each against its schema."""

from typing import Any

from api import examples

ENDPOINT_REQUEST: dict[str, Any] = {
    "url": "https://example.org/webhooks",
    "events": ["job.succeeded", "job.dead"],
    "types": ["csv.*"],
    "description": "The warehouse",
}
ENDPOINT: dict[str, Any] = ENDPOINT_REQUEST | {
    "id": "01936f6e-8b3c-7e22-9f40-5b6c7d8e9fa0",
    "tenant_id": examples.KEY["tenant_id"],
    "enabled": True,
    "disabled_reason": None,
    "created_at": "2027-01-01T00:00:00.000000Z",
    "created_by": "key:ops1",
    "failing_since": None,
    "held_until": None,
}
_WEBHOOK_SECRET = "whsec_dGhlIGJ5dGVzIG9mIGFuIGV4YW1wbGUsIHdoaWNoIGFyZSBubyBzZWNyZXQ="  # noqa: S105 - as it says
NEW_ENDPOINT: dict[str, Any] = ENDPOINT | {"secret": _WEBHOOK_SECRET}
ENDPOINT_CHANGE: dict[str, Any] = {"events": ["job.dead"], "types": None, "enabled": True}
ROTATE_SECRET: dict[str, Any] = {"overlap_seconds": 86400}
ROTATED_SECRET: dict[str, Any] = {
    "secret": _WEBHOOK_SECRET,
    "previous_valid_until": "2027-01-02T00:00:00.000000Z",
}
DELIVERY: dict[str, Any] = {
    "id": "01936f6e-9c4d-7f33-a051-6c7d8e9fa0b1",
    "endpoint_id": ENDPOINT["id"],
    "url": None,
    "event_id": "evt_01936f6e9c4d7f33a0516c7d8e9fa0b2",
    "event": "job.dead",
    "job_id": examples.JOB["id"],
    "status": "waiting",
    "attempts": 2,
    "max_attempts": 10,
    "next_attempt_at": "2027-01-01T00:05:07.000000Z",
    "response_code": 503,
    "response_body": "Back in a minute.",
    "duration_ms": 184,
    "failure": None,
    "created_at": "2027-01-01T00:00:00.000000Z",
    "answered_at": "2027-01-01T00:00:05.500000Z",
}
