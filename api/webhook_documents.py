"""How webhook endpoints and deliveries look in JSON. No document but that of a new secret holds one."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api import webhook_examples
from api.documents import Id, Instant, shown
from models.documents import moment, moment_or_none
from models.gate import Gate
from models.states import State
from models.webhook_deliveries import Delivery
from models.webhook_endpoints import Endpoint


class Status(StrEnum):
    """Where a delivery is."""

    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


STATUSES = {
    State.QUEUED: Status.WAITING,
    State.DISPATCHED: Status.SENDING,
    State.RUNNING: Status.SENDING,
    State.SUCCEEDED: Status.DELIVERED,
    State.DEAD: Status.DEAD,
    State.CANCELLED: Status.CANCELLED,
    State.DISCARDED: Status.DISCARDED,
}
"""By the state of the job that delivers it."""

_SECRET = Field(description="Signs from now on; it is in this answer and never again.")


@with_config(shown(webhook_examples.ENDPOINT))
class WebhookEndpointDocument(TypedDict):
    """Where a tenant is told of its jobs' ends."""

    id: Id
    tenant_id: Id
    url: str
    events: list[str]
    types: Annotated[list[str] | None, Field(description="Of jobs of which types, as `csv.*`; null: of all.")]
    description: str
    enabled: bool
    disabled_reason: Annotated[str | None, Field(description="Why it was disabled; null if nobody disabled it.")]
    created_at: Instant
    created_by: str
    failing_since: Annotated[Instant | None, Field(description="Since when nothing was delivered; null: all is well.")]
    held_until: Annotated[
        Instant | None, Field(description="Until when deliveries are held back, since it gave no answer; null: not.")
    ]


@with_config(shown(webhook_examples.NEW_ENDPOINT))
class NewWebhookEndpointDocument(WebhookEndpointDocument):
    """A new endpoint with its secret."""

    secret: Annotated[str, _SECRET]


@with_config(shown(webhook_examples.ROTATED_SECRET))
class RotatedSecretDocument(TypedDict):
    """A new secret."""

    secret: Annotated[str, _SECRET]
    previous_valid_until: Annotated[
        Instant | None, Field(description="Until when those before it sign as well; null: they do no more.")
    ]


@with_config(shown(webhook_examples.DELIVERY))
class WebhookDeliveryDocument(TypedDict):
    """An event that is, or was, sent to one receiver."""

    id: Annotated[Id, Field(description="That of its job as well.")]
    endpoint_id: Annotated[Id | None, Field(description="Null: the URL came with the job.")]
    url: Annotated[str | None, Field(description="The URL that came with the job; null: where the endpoint is.")]
    event_id: Annotated[str, Field(description="The header `webhook-id`, the same over retries and redeliveries.")]
    event: str
    job_id: Annotated[Id | None, Field(description="The job that it tells of; null: of none.")]
    status: Status
    attempts: int
    max_attempts: int
    next_attempt_at: Annotated[Instant | None, Field(description="While it waits.")]
    response_code: Annotated[int | None, Field(description="The last attempt's; null: there was no answer.")]
    response_body: Annotated[str | None, Field(description="The first 4 KiB of the last answer.")]
    duration_ms: Annotated[int | None, Field(description="How long the last attempt took.")]
    failure: Annotated[str | None, Field(description="Why the last attempt got no answer.")]
    created_at: Instant
    answered_at: Annotated[Instant | None, Field(description="The end of the last attempt.")]


def endpoint_document(endpoint: Endpoint, gate: Gate | None) -> WebhookEndpointDocument:
    """An endpoint, and how its receiver is doing by its gate."""
    return {
        "id": str(endpoint.id),
        "tenant_id": str(endpoint.tenant_id),
        "url": endpoint.url,
        "events": endpoint.events,
        "types": endpoint.types,
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "created_at": moment(endpoint.created_at),
        "created_by": endpoint.created_by,
        "failing_since": moment_or_none(gate.failing_since) if gate else None,
        "held_until": moment_or_none(gate.closed_until) if gate and gate.closed else None,
    }


def delivery_document(delivery: Delivery) -> WebhookDeliveryDocument:
    """A delivery, and what came of its last attempt."""
    status = STATUSES[delivery.state]
    return {
        "id": str(delivery.id),
        "endpoint_id": str(delivery.endpoint_id) if delivery.endpoint_id else None,
        "url": delivery.url,
        "event_id": f"evt_{delivery.event_id.hex}",
        "event": delivery.event,
        "job_id": str(delivery.job_id) if delivery.job_id else None,
        "status": status,
        "attempts": delivery.attempt,
        "max_attempts": delivery.max_attempts,
        "next_attempt_at": moment(delivery.due_at) if status is Status.WAITING else None,
        "response_code": delivery.status_code,
        "response_body": delivery.answer,
        "duration_ms": delivery.duration_ms,
        "failure": delivery.failure,
        "created_at": moment(delivery.created_at),
        "answered_at": moment_or_none(delivery.answered_at),
    }
