"""The doors to webhook deliveries: see what came of them, and send one once more."""

from typing import Annotated
from uuid import UUID

from flask import Blueprint
from pydantic import Field

from api.endpoint import Call, Reply, endpoint
from api.ids import AnId, uuid_or_none
from api.lists import ListQuery, page
from api.problems import Problem
from api.webhook_documents import WebhookDeliveryDocument, delivery_document
from jobs import webhooks
from jobs.scopes import Scope
from models import webhook_deliveries
from models.ids import new_id
from models.webhook_deliveries import Delivery

blueprint = Blueprint("webhook_deliveries", __name__, url_prefix="/v1/webhook-deliveries")


class DeliveriesQuery(ListQuery):
    """What GET /v1/webhook-deliveries takes."""

    job_id: Annotated[AnId | None, Field(description="Those that tell of that job.")] = None


@endpoint(blueprint, "GET", "", scope=Scope.WEBHOOKS_READ, query=DeliveriesQuery, lists=WebhookDeliveryDocument)
def list_webhook_deliveries(call: Call) -> Reply:
    """What was sent to the tenant's receivers, newest first, and what came of it."""
    job_id: UUID | None = call.query.job_id

    def read(before: UUID | None, limit: int) -> list[Delivery]:
        return webhook_deliveries.page(call.session, call.principal.tenant_id, before, limit, job_id=job_id)

    return page(call, "webhook deliveries", read, lambda delivery: delivery.id, delivery_document)


@endpoint(blueprint, "GET", "/<delivery_id>", scope=Scope.WEBHOOKS_READ, reply=WebhookDeliveryDocument)
def get_webhook_delivery(call: Call, delivery_id: str) -> Reply:
    """A webhook delivery, and what came of its last attempt."""
    return Reply(delivery_document(webhooks.find_delivery(call.session, call.principal, _uuid(delivery_id))))


@endpoint(
    blueprint,
    "POST",
    "/<delivery_id>/redeliver",
    scope=Scope.WEBHOOKS_WRITE,
    reply=WebhookDeliveryDocument,
    status=202,
    problems=("delivery-under-way",),
    gives={"Location": "The address of the delivery that does it."},
)
def redeliver_webhook(call: Call, delivery_id: str) -> Reply:
    """Send an event once more, with the same `webhook-id` and body.

    A dead delivery is replayed, and one that waits is sent now. One that is over otherwise stays as it is, and another
    does it, whose id is in the answer.
    """
    wanted = _uuid(delivery_id)
    seen, another = call.once(lambda: (webhooks.find_delivery(call.session, call.principal, wanted), new_id()))
    try:
        delivery = webhooks.redeliver(call.session, call.principal, seen, another)
    except webhooks.StillOpen as error:
        raise Problem("delivery-under-way", str(error)) from None
    headers = {"Location": f"/v1/webhook-deliveries/{delivery.id}"}
    detail = {"event": delivery.event, "delivery_id": str(delivery.id)}
    return Reply(delivery_document(delivery), 202, headers, rings=True, tenant_id=delivery.tenant_id, detail=detail)


def _uuid(text: str) -> UUID:
    found = uuid_or_none(text)
    if found is None:
        raise webhooks.NoSuchDelivery(f"There is no webhook delivery {text[:64]}.")
    return found
