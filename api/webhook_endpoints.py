"""The doors to webhook endpoints: make, list, read, change, delete and test one, and rotate its secret."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint
from pydantic import BaseModel, Field, StringConstraints

from api import webhook_examples
from api.endpoint import Call, Reply, endpoint
from api.ids import uuid_or_none
from api.lists import ListQuery, page
from api.owners import OwnedBody, owner
from api.problems import Problem
from api.webhook_documents import (
    NewWebhookEndpointDocument,
    RotatedSecretDocument,
    WebhookDeliveryDocument,
    WebhookEndpointDocument,
    delivery_document,
    endpoint_document,
)
from api.webhook_forms import Events, Types, Url, url_flaws, usual_events
from jobs import signing, webhook_secrets, webhooks
from jobs.scopes import Scope
from jobs.webhooks import NewEndpoint
from jobs.whole_numbers import WHOLE
from models import gate, webhook_deliveries, webhook_endpoints
from models.documents import moment_or_none
from models.gate import Gate
from models.ids import new_id
from models.webhook_endpoints import Endpoint

blueprint = Blueprint("webhook_endpoints", __name__, url_prefix="/v1/webhook-endpoints")

LONGEST_OVERLAP_SECONDS = 7 * 24 * 3600
CHANGED = ("url", "events", "types", "description", "enabled")

Description = Annotated[str, StringConstraints(max_length=500)]
Overlap = Annotated[
    int,
    Field(ge=0, le=LONGEST_OVERLAP_SECONDS, description="How long the secrets before it sign as well."),
    WHOLE,
]


class EndpointBody(OwnedBody, json_schema_extra={"examples": [webhook_examples.ENDPOINT_REQUEST]}):
    """What POST /v1/webhook-endpoints takes."""

    url: Url
    events: Events = Field(default_factory=usual_events)
    types: Types | None = None
    description: Description = ""
    enabled: bool = True


class EndpointChange(
    BaseModel, extra="forbid", strict=True, json_schema_extra={"examples": [webhook_examples.ENDPOINT_CHANGE]}
):
    """What PATCH /v1/webhook-endpoints/{endpoint_id} takes; what is left out stays as it is."""

    # The factories say in the schema, too, that these are no null and have no default.
    url: Url = Field(default_factory=str)
    events: Events = Field(default_factory=usual_events)
    types: Types | None = None
    description: Description = Field(default_factory=str)
    enabled: bool = Field(default_factory=bool)


class RotateBody(
    BaseModel, extra="forbid", strict=True, json_schema_extra={"examples": [webhook_examples.ROTATE_SECRET]}
):
    """What POST /v1/webhook-endpoints/{endpoint_id}/rotate-secret takes."""

    overlap_seconds: Overlap = int(webhook_secrets.OVERLAP.total_seconds())


@endpoint(
    blueprint,
    "POST",
    "",
    scope=Scope.WEBHOOKS_WRITE,
    body=EndpointBody,
    examine=url_flaws,
    reply=NewWebhookEndpointDocument,
    status=201,
    problems=("too-many-endpoints",),
    gives={"Location": "The endpoint's address."},
)
def create_webhook_endpoint(call: Call) -> Reply:
    """Have jobs' ends told to a URL; the secret that signs what is sent is in this answer and never again."""
    _refuse_url(call)
    endpoint_id, secret = call.once(lambda: (new_id(), signing.new_secret()))
    new = NewEndpoint(endpoint_id, secret, **{name: getattr(call.body, name) for name in CHANGED})
    try:
        made = webhooks.create(call.session, call.services.pepper(call.session), call.principal, owner(call), new)
    except webhooks.TooManyEndpoints as error:
        raise Problem("too-many-endpoints", str(error)) from None
    document: NewWebhookEndpointDocument = {**endpoint_document(made, None), "secret": secret}
    headers = {"Location": f"/v1/webhook-endpoints/{made.id}"}
    return Reply(document, 201, headers, tenant_id=made.tenant_id, detail=_told(made))


@endpoint(blueprint, "GET", "", scope=Scope.WEBHOOKS_READ, query=ListQuery, lists=WebhookEndpointDocument)
def list_webhook_endpoints(call: Call) -> Reply:
    """The tenant's webhook endpoints, newest first."""

    def read(before: UUID | None, limit: int) -> list[tuple[Endpoint, Gate | None]]:
        found = webhook_endpoints.page(call.session, call.principal.tenant_id, before, limit)
        gates = gate.find_all(call.session, [one.id for one in found])
        return [(one, gates.get(one.id)) for one in found]

    return page(call, "webhook endpoints", read, lambda row: row[0].id, lambda row: endpoint_document(*row))


@endpoint(blueprint, "GET", "/<endpoint_id>", scope=Scope.WEBHOOKS_READ, reply=WebhookEndpointDocument)
def get_webhook_endpoint(call: Call, endpoint_id: str) -> Reply:
    """A webhook endpoint, and how its receiver is doing."""
    return Reply(_document(call, webhooks.find(call.session, call.principal, _uuid(endpoint_id))))


@endpoint(
    blueprint,
    "PATCH",
    "/<endpoint_id>",
    scope=Scope.WEBHOOKS_WRITE,
    body=EndpointChange,
    examine=url_flaws,
    reply=WebhookEndpointDocument,
)
def change_webhook_endpoint(call: Call, endpoint_id: str) -> Reply:
    """Change a webhook endpoint. Deliveries that wait for it go to the URL it has when they are sent.

    One that is enabled again begins afresh: what failed before counts no more, and nothing is held back.
    """
    _refuse_url(call)
    changes = call.body.model_dump(exclude_unset=True)
    before, after = webhooks.change(call.session, call.principal, _uuid(endpoint_id), changes)
    told = {"before": _told(before), "after": _told(after)}
    return Reply(_document(call, after), rings=True, tenant_id=after.tenant_id, detail=told)


@endpoint(blueprint, "DELETE", "/<endpoint_id>", scope=Scope.WEBHOOKS_WRITE, status=204)
def delete_webhook_endpoint(call: Call, endpoint_id: str) -> Reply:
    """Delete a webhook endpoint and its secrets. Deliveries that wait for it are cancelled; those made stay."""
    wanted = _uuid(endpoint_id)
    found = call.once(lambda: webhooks.find(call.session, call.principal, wanted))
    try:
        webhooks.remove(call.session, call.principal, wanted)
    except webhooks.NoSuchEndpoint:
        if call.tries == 1:
            raise  # else the try before this one deleted it, and only its answer was lost
    return Reply(None, 204, tenant_id=found.tenant_id, detail=_told(found))


@endpoint(
    blueprint,
    "POST",
    "/<endpoint_id>/rotate-secret",
    scope=Scope.WEBHOOKS_WRITE,
    body=RotateBody,
    reply=RotatedSecretDocument,
)
def rotate_webhook_endpoint_secret(call: Call, endpoint_id: str) -> Reply:
    """Sign with a new secret from now on, and for a while with those before it too, so that no delivery is lost."""
    secret, pepper = call.once(signing.new_secret), call.services.pepper(call.session)
    overlap, wanted = timedelta(seconds=call.body.overlap_seconds), _uuid(endpoint_id)
    rotated = webhooks.rotate_of_endpoint(call.session, pepper, call.principal, wanted, secret, overlap)
    return rotated_reply(call, secret, rotated.tenant_id, rotated.id)


@endpoint(
    blueprint,
    "POST",
    "/<endpoint_id>/test",
    scope=Scope.WEBHOOKS_WRITE,
    reply=WebhookDeliveryDocument,
    status=202,
    gives={"Location": "The delivery's address."},
)
def test_webhook_endpoint(call: Call, endpoint_id: str) -> Reply:
    """Send the event `webhook.test` to a webhook endpoint, also to one that is disabled."""
    delivery = webhooks.test(call.session, call.principal, _uuid(endpoint_id), call.once(new_id))
    headers = {"Location": f"/v1/webhook-deliveries/{delivery.id}"}
    detail = {"delivery_id": str(delivery.id)}
    return Reply(delivery_document(delivery), 202, headers, rings=True, tenant_id=delivery.tenant_id, detail=detail)


@endpoint(
    blueprint,
    "GET",
    "/<endpoint_id>/deliveries",
    scope=Scope.WEBHOOKS_READ,
    query=ListQuery,
    lists=WebhookDeliveryDocument,
)
def list_webhook_endpoint_deliveries(call: Call, endpoint_id: str) -> Reply:
    """What was sent to a webhook endpoint, newest first, and what came of it."""
    found = webhooks.find(call.session, call.principal, _uuid(endpoint_id))
    return page(
        call,
        f"deliveries to {found.id}",
        lambda before, limit: webhook_deliveries.page(
            call.session, found.tenant_id, before, limit, endpoint_id=found.id
        ),
        lambda delivery: delivery.id,
        delivery_document,
    )


def rotated_reply(call: Call, secret: str, tenant_id: UUID, endpoint_id: UUID | None) -> Reply:
    """The answer with a new secret; the audit log is told nothing of that but that it is new."""
    until = moment_or_none(webhook_secrets.previous_valid_until(call.session, tenant_id, endpoint_id))
    document: RotatedSecretDocument = {"secret": secret, "previous_valid_until": until}
    told = {"overlap_seconds": call.body.overlap_seconds, "previous_valid_until": until}
    return Reply(document, tenant_id=tenant_id, detail=told)


def _refuse_url(call: Call) -> None:
    if flaws := url_flaws(call.services, call.document):
        raise Problem("invalid-request", "Nothing can be sent to the URL; see errors.", flaws)


def _document(call: Call, found: Endpoint) -> WebhookEndpointDocument:
    return endpoint_document(found, gate.find(call.session, found.id))


def _told(found: Endpoint) -> dict[str, Any]:
    """What the audit log is told of an endpoint."""
    return {name: getattr(found, name) for name in CHANGED}


def _uuid(text: str) -> UUID:
    found = uuid_or_none(text)
    if found is None:
        raise webhooks.NoSuchEndpoint(f"There is no webhook endpoint {text[:64]}.")
    return found
