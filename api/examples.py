"""The examples of the OpenAPI document; a test holds each against its schema."""

from typing import Any

SUBMISSION: dict[str, Any] = {
    "type": "csv.profile",
    "args": {"url": "https://example.org/data.csv"},
    "tags": {"customer": "42"},
}

JOB_WEBHOOK: dict[str, Any] = {"url": "https://example.org/jobs", "events": ["job.succeeded", "job.dead"]}

JOB: dict[str, Any] = {
    "id": "01936f6e-2f5c-7a2b-9c3d-5e8f1a2b3c4d",
    "type": "csv.profile",
    "queue": "default",
    "state": "running",
    "priority": 0,
    "args": {"url": "https://example.org/data.csv"},
    "result": None,
    "error": None,
    "progress": {"percent": 40.0, "message": "row 4,000 of 10,000"},
    "attempt": 1,
    "max_attempts": 5,
    "lost": 0,
    "timeout_seconds": 300,
    "created_at": "2027-01-01T00:00:00.000000Z",
    "due_at": "2027-01-01T00:00:00.000000Z",
    "dispatched_at": "2027-01-01T00:00:00.020000Z",
    "started_at": "2027-01-01T00:00:00.031000Z",
    "finished_at": None,
    "cancel_requested_at": None,
    "tags": {"customer": "42"},
    "unique_key": None,
    "idempotency_key": "5b1c0e0a-3f0e-4f57-8d38-1f8f0f6a7f11",
    "worker_id": "01936f6d-9a10-7c44-8b21-0d2f3a4b5c6d",
    "schedule_id": None,
}

BATCH: dict[str, Any] = {
    "jobs": [SUBMISSION, {"type": "no.such", "idempotency_key": "0b6f8a52-6a0e-4f0b-9a55-0d8c2a1f7e33"}]
}

BATCH_ANSWER: dict[str, Any] = {
    "data": [
        {"status": 202, "job": JOB, "replayed": False},
        {
            "status": 400,
            "problem": {
                "type": "/problems/invalid-request",
                "title": "The request is not valid",
                "status": 400,
                "detail": "The job cannot be accepted as it is; see errors.",
                "instance": "/v1/jobs/batch",
                "code": "invalid-request",
                "request_id": "checkout-7f3a",
                "errors": [
                    {
                        "in": "body",
                        "pointer": "/jobs/1/type",
                        "code": "unknown-job-type",
                        "detail": "There is no job type 'no.such'; GET /v1/job-types lists those there are.",
                    }
                ],
            },
        },
    ]
}

EXPLANATION: dict[str, Any] = {
    "job_id": JOB["id"],
    "state": "queued",
    "reason": "queue_paused",
    "message": "Its queue default is paused, by key:ops1.",
    "since": "2027-01-01T00:00:00.000000Z",
    "until": None,
    "detail": {"queue": "default", "by": "key:ops1"},
    "also": [
        {
            "reason": "behind_others",
            "message": "12 due jobs of its queue go before it: 12 due for longer.",
            "since": None,
            "until": None,
            "detail": {"higher_priority": 0, "due_longer": 12, "ahead": 12, "more": False},
        }
    ],
    "at": "2027-01-01T00:04:00.000000Z",
}

EVENT_STREAM = 'event: job\nid: kq3x0yT9zXQ2oYb1\ndata: {"id": "01936f6e-2f5c-7a2b-9c3d-5e8f1a2b3c4d", ...}\n\n'

EVENT: dict[str, Any] = {
    "id": "01936f6e-4b1d-7e55-a1b2-c3d4e5f60718",
    "at": "2027-01-01T00:00:07.250000Z",
    "move": "retry",
    "state": "queued",
    "attempt": 1,
    "lease": 1,
    "actor": "worker:01936f6d-9a10-7c44-8b21-0d2f3a4b5c6d",
    "reason": None,
    "error": {"type": "ConnectTimeout", "message": "example.org did not answer", "code": "exception"},
}

_DEATH: dict[str, Any] = {"type": "KeyError", "message": "'no column 17'", "code": "exception"}
_PLACE = "acme.reports:monthly.<locals>.total"
DEAD_LETTER: dict[str, Any] = JOB | {
    "type": "acme.report",
    "state": "dead",
    "args": {"month": "2026-12"},
    "error": _DEATH,
    "progress": None,
    "attempt": 5,
    "finished_at": "2027-01-01T00:01:12.500000Z",
    "group": "acme.report:9f86d081884c7d65",
    "place": _PLACE,
}
WHOLE_DEAD_LETTER: dict[str, Any] = DEAD_LETTER | {
    "attempts": [
        {
            "attempt": 5,
            "at": DEAD_LETTER["finished_at"],
            "move": "bury",
            "state": "dead",
            "lease": 5,
            "actor": "worker:01936f6d-9a10-7c44-8b21-0d2f3a4b5c6d",
            "reason": "attempts exhausted",
            "error": _DEATH | {"place": _PLACE, "trace": "Traceback (most recent call last):\n  ..."},
        }
    ]
}
DEAD_LETTER_EDIT: dict[str, Any] = {"args": {"month": "2026-11"}}
DEAD_GROUP: dict[str, Any] = {
    "group": DEAD_LETTER["group"],
    "type": "acme.report",
    "error_type": _DEATH["type"],
    "message": _DEATH["message"],
    "place": _PLACE,
    "count": 412,
    "first_seen": "2026-12-31T23:58:03.000000Z",
    "last_seen": DEAD_LETTER["finished_at"],
    "sample_id": DEAD_LETTER["id"],
}

REDRIVE_REQUEST: dict[str, Any] = {
    "action": "replay",
    "filter": {"group": DEAD_LETTER["group"]},
    "rate_per_second": 50,
    "ramp_seconds": 60,
    "abort_when_failure_ratio": 0.5,
}
REDRIVE: dict[str, Any] = REDRIVE_REQUEST | {
    "id": "01936f6e-5a2e-7f66-b2c3-d4e5f6071829",
    "tenant_id": "01936f6d-0000-7c44-8b21-0d2f3a4b5c6d",
    "priority": -100,
    "state": "running",
    "reason": None,
    "matched": 412,
    "replayed": 120,
    "succeeded_again": 97,
    "died_again": 2,
    "ended_otherwise": 0,
    "unanswered": 21,
    "failing": 1,
    "discarded": 0,
    "skipped": 3,
    "waiting": 289,
    "rate_now": 12.5,
    "created_at": "2027-01-01T01:00:00.000000Z",
    "created_by": "key:ops1",
    "finished_at": None,
}
REDRIVE_PREVIEW: dict[str, Any] = {"matched": 412, "groups": [DEAD_GROUP], "samples": [DEAD_LETTER]}
UNDELIVERABLE: dict[str, Any] = {
    "id": "01936f6e-7a2b-7d11-8e3f-4a5b6c7d8e9f",
    "queue": "default",
    "reason": "unknown_actor",
    "detail": "it is for an actor 'send_mail', and ours is no actor",
    "body_bytes": 38,
    "dead_lettered_at": "2027-01-01T00:00:12.000000Z",
    "collected_at": "2027-01-01T00:00:13.500000Z",
}
WHOLE_UNDELIVERABLE: dict[str, Any] = UNDELIVERABLE | {
    "body": '{"actor_name": "send_mail", "args": []}',
    "body_encoding": "utf-8",
    "truncated": False,
    "headers": {"x-death": [{"count": 1, "queue": "jobmill.default", "reason": "rejected"}]},
    "properties": {"app_id": "mailer", "delivery_mode": 2},
}

JOB_TYPE: dict[str, Any] = {
    "type": "acme.greet",
    "description": "Greet somebody.",
    "queue": "default",
    "args_schema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    "result_schema": {"type": "string"},
    "retry": {"policy": "exponential", "first_seconds": 1, "factor": 2, "longest_seconds": 3600, "jitter": 0.25},
    "max_attempts": 5,
    "timeout_seconds": 300,
    "limits": {"max_attempts": 25, "timeout_seconds": 86400},
    "isolation": "thread",
    "memory_limit_mb": None,
    "cpu_limit_seconds": None,
}

WORKER: dict[str, Any] = {
    "id": "01936f6d-9a10-7c44-8b21-0d2f3a4b5c6d",
    "state": "live",
    "host": "worker-1",
    "pid": 4711,
    "parent_pid": 4700,
    "queues": ["default", "webhooks"],
    "threads": 8,
    "busy": 3,
    "version": "0.1.0",
    "started_at": "2027-01-01T00:00:00.000000Z",
    "heartbeat_at": "2027-01-01T00:05:00.000000Z",
}

KEY: dict[str, Any] = {
    "id": "k3v9x0p2m7qa",
    "tenant_id": "01936f6d-0000-7c44-8b21-0d2f3a4b5c6d",
    "name": "ci",
    "role": "submitter",
    "scopes": ["jobs:read", "jobs:write"],
    "rate_limits": {"submit": "600/60"},
    "created_at": "2027-01-01T00:00:00.000000Z",
    "expires_at": "2028-01-01T00:00:00.000000Z",
    "last_used_at": None,
    "revoked_at": None,
}

_SECRET = "the43RandomLettersAndDigitsThatAreShownOnce"  # noqa: S105 - which is no secret
NEW_KEY: dict[str, Any] = KEY | {"token": f"jm_{KEY['id']}_{_SECRET}", "secret": _SECRET}
KEY_REQUEST: dict[str, Any] = {"name": "ci", "role": "submitter", "rate_limits": {"submit": "600/60"}}

TOKEN: dict[str, Any] = {
    "access_token": "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9...",
    "token_type": "Bearer",
    "expires_in": 900,
    "scope": "jobs:read jobs:write",
}
TOKEN_REQUEST: dict[str, Any] = {"grant_type": "client_credentials", "client_id": KEY["id"], "client_secret": _SECRET}
KEY_SET: dict[str, Any] = {
    "keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKx...", "kid": "kPrK_qmx...", "use": "sig", "alg": "EdDSA"}]
}
SERVER_METADATA: dict[str, Any] = {
    "issuer": "https://jobs.example.org",
    "token_endpoint": "https://jobs.example.org/oauth/token",
    "jwks_uri": "https://jobs.example.org/.well-known/jwks.json",
    "grant_types_supported": ["client_credentials"],
    "response_types_supported": [],
    "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    "scopes_supported": ["jobs:read", "jobs:write"],
}

AUDIT_ENTRY: dict[str, Any] = {
    "id": "01936f6e-4b1d-7e55-a1b2-c3d4e5f60719",
    "at": "2027-01-01T00:00:09.000000Z",
    "tenant_id": "01936f6d-0000-7c44-8b21-0d2f3a4b5c6d",
    "actor": "key:ops1",
    "action": "revoke_key",
    "resource": "keys",
    "resource_id": KEY["id"],
    "address": "192.0.2.7",
    "request_id": "checkout-7f3a",
    "detail": None,
}

QUEUE: dict[str, Any] = {
    "name": "media",
    "paused": False,
    "paused_at": None,
    "paused_by": None,
    "max_running": 3,
    "max_per_second": None,
    "counts": {"queued": 197, "dispatched": 1, "running": 2, "dead": 4},
    "oldest_waiting_seconds": 42.5,
    "in_per_second": 3.25,
    "out_per_second": 1.5,
    "workers": 20,
}
QUEUE_LIMITS: dict[str, Any] = {"max_running": 3, "max_per_second": None}
