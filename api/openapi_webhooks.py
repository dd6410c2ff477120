"""The webhooks of the OpenAPI document: each event with its body, and the headers by which it is verified."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from api import examples, webhook_examples
from api.documents import Id, JobDocument
from api.schemas import Schema, Schemas
from jobs import signing
from jobs.webhooks import DISABLED, SUBSCRIBED, TEST

_AT = webhook_examples.DELIVERY["created_at"]
_SUMMARIES = {
    "job.succeeded": "A job succeeded",
    "job.dead": "A job failed for good",
    "job.cancelled": "A job was cancelled",
    "job.discarded": "A dead letter was discarded",
}
_SIGNED = (
    "Signatures over `id.timestamp.body`, one for each valid secret, with blanks between them "
    "(https://www.standardwebhooks.com)."
)
_HEADERS = {
    signing.ID: ("Names the event; the same over retries and redeliveries.", webhook_examples.DELIVERY["event_id"]),
    signing.TIMESTAMP: ("When this attempt was made, in seconds since 1970.", "1798761600"),
    signing.SIGNATURE: (_SIGNED, "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
}


class WebhookTestDocument(TypedDict):
    """What `webhook.test` tells."""

    endpoint_id: Id
    message: str


class DisabledEndpointDocument(TypedDict):
    """What `webhook_endpoint.disabled` tells the tenant's other endpoints."""

    id: Annotated[Id, Field(description="The endpoint to which nothing is sent any more.")]
    receiver: Annotated[str, Field(description="Scheme, host and port of its URL; the rest may be a secret.")]
    description: str
    reason: str


def webhooks(schemas: Schemas) -> dict[str, Schema]:
    """What is sent to webhook endpoints and URLs that came with jobs, by event."""
    told: dict[str, tuple[str, Any, Any]] = {
        event: (_SUMMARIES[event], JobDocument, _job_after(event)) for event in SUBSCRIBED
    }
    endpoint_id = webhook_examples.ENDPOINT["id"]
    message = {"endpoint_id": endpoint_id, "message": "This is a test. Nothing has happened."}
    told[TEST] = ("Somebody tests an endpoint", WebhookTestDocument, message)
    disabled = {
        "id": endpoint_id,
        "receiver": "https://example.org",
        "description": "",
        "reason": "It answered 410 Gone.",
    }
    told[DISABLED] = ("An endpoint was disabled", DisabledEndpointDocument, disabled)
    return {event: {"post": _request(schemas, event, *about)} for event, about in told.items()}


def _job_after(event: str) -> dict[str, Any]:
    job, state = examples.JOB, event.removeprefix("job.")
    return job | {"state": state, "progress": None, "finished_at": _AT}


def _request(schemas: Schemas, event: str, summary: str, data: Any, example: Any) -> Schema:
    body = {
        "type": "object",
        "properties": {
            "type": {"const": event},
            "timestamp": {"type": "string", "format": "date-time", "description": "When it happened."},
            "data": schemas.of(data, "serialization"),
        },
        "required": ["type", "timestamp", "data"],
    }
    shown = {"type": event, "timestamp": _AT, "data": example}
    return {
        "summary": summary,
        "security": [],
        "parameters": [_header(name, *told) for name, told in _HEADERS.items()],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body, "example": shown}}},
        "responses": {
            "2XX": {"description": "It was taken, within 15 seconds; what is in the answer does not matter."},
            "410": {"description": "Nothing is wanted there any more: the endpoint is disabled."},
            "default": {"description": "It is sent again later, ten times in all over about three days."},
        },
    }


def _header(name: str, told: str, example: str) -> Schema:
    return {
        "name": name,
        "in": "header",
        "required": True,
        "description": told,
        "schema": {"type": "string"},
        "example": example,
    }
