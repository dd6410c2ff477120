"""Webhook endpoints as a tenant keeps them: made, changed, tested, their secrets rotated, deliveries sent again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from jobs import metrics, webhook_secrets
from jobs.scopes import Principal
from models import audit, gate, identity, moves, webhook_deliveries, webhook_endpoints
from models.audit import Entry
from models.documents import moment
from models.ids import new_id
from models.inspection import clock
from models.job import Ref
from models.moves.telling import EVENTS, Notice, Receiver, body_of, send
from models.states import FINAL, State
from models.webhook_deliveries import Delivery, NewDelivery
from models.webhook_endpoints import Endpoint

SUBSCRIBED = tuple(EVENTS.values())
USUAL_EVENTS = ("job.succeeded", "job.dead", "job.cancelled")
TEST = "webhook.test"
DISABLED = "webhook_endpoint.disabled"
MOST_ENDPOINTS = 100
MOST_CANCELLED = 1_000


class NoSuchEndpoint(LookupError):  # noqa: N818
    """There is no endpoint of that id, or it is another tenant's, which is the same to whoever asks."""


class NoSuchDelivery(LookupError):  # noqa: N818
    """The same of a delivery."""


class TooManyEndpoints(Exception):  # noqa: N818
    """The tenant has as many endpoints as it may."""

    def __init__(self) -> None:
        super().__init__(f"A tenant may have {MOST_ENDPOINTS} webhook endpoints. Delete one that is not used.")


class StillOpen(Exception):  # noqa: N818
    """The delivery runs at this moment, so that it needs no help."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(f"The delivery is {delivery.state}: it is being sent. Wait for what comes of it.")


@dataclass(frozen=True)
class NewEndpoint:
    """An endpoint as it was asked for. Id and secret are made once, so that a step done twice makes one endpoint."""

    id: UUID
    secret: str = field(repr=False)
    url: str
    events: Sequence[str]
    types: Sequence[str] | None
    description: str
    enabled: bool


def create(session: Session, pepper: bytes, principal: Principal, tenant_id: UUID, new: NewEndpoint) -> Endpoint:
    """Keep an endpoint and its first secret. Raises TooManyEndpoints. May be called again with the same `new`."""
    identity.hold_tenant(session, tenant_id)  # two at once would each count without the other's
    if webhook_endpoints.find(session, new.id, tenant_id) is None:
        if webhook_endpoints.count(session, tenant_id, MOST_ENDPOINTS) >= MOST_ENDPOINTS:
            raise TooManyEndpoints
        told = {
            "url": new.url,
            "events": list(new.events),
            "types": None if new.types is None else list(new.types),
            "description": new.description,
            "enabled": new.enabled,
        }
        webhook_endpoints.add(session, new.id, tenant_id, **told, created_by=principal.actor)
        webhook_secrets.add_secret(session, pepper, tenant_id, new.id, new.secret, new_id())
    return find(session, principal, new.id)


def find(session: Session, principal: Principal, endpoint_id: UUID) -> Endpoint:
    """The endpoint, or NoSuchEndpoint."""
    found = webhook_endpoints.find(session, endpoint_id, principal.tenant_id)
    if found is None:
        raise NoSuchEndpoint(f"There is no webhook endpoint {endpoint_id}.")
    return found


def change(
    session: Session, principal: Principal, endpoint_id: UUID, changes: Mapping[str, Any]
) -> tuple[Endpoint, Endpoint]:
    """Change what is told; gives the endpoint before and after. One that is enabled again begins afresh."""
    passed = gate.hold(session, _receiver(find(session, principal, endpoint_id)).gate)
    before = _held(session, principal, endpoint_id)
    values = dict(changes)
    if changes.get("enabled") and not before.enabled:
        values["disabled_reason"] = None
    if changes.get("enabled") or changes.get("url", before.url) != before.url:
        gate.change(session, replace(passed, unanswered=0, failing_since=None, closed_until=None))
    if changes.get("enabled") is False and before.enabled:
        values["disabled_reason"] = "It was disabled by hand."
    if values:
        webhook_endpoints.change(session, endpoint_id, **values)
    return before, find(session, principal, endpoint_id)


def remove(session: Session, principal: Principal, endpoint_id: UUID) -> Endpoint:
    """Delete it; deliveries that wait for it are cancelled, and what was delivered stays. Raises NoSuchEndpoint.

    Of very many the first are cancelled at once, and each of the others when its turn comes.
    """
    gate.remove(session, find(session, principal, endpoint_id).id)  # what is left must not wait to go one by one
    endpoint = _held(session, principal, endpoint_id)
    waiting = webhook_deliveries.waiting_of(session, endpoint_id, MOST_CANCELLED)
    moves.cancel(session, waiting, principal.actor)
    webhook_endpoints.remove(session, endpoint_id)
    return endpoint


def rotate_of_endpoint(
    session: Session, pepper: bytes, principal: Principal, endpoint_id: UUID, secret: str, overlap: timedelta
) -> Endpoint:
    """Sign what goes to an endpoint with this secret from now on, while nobody else rotates. Raises NoSuchEndpoint."""
    endpoint = _held(session, principal, endpoint_id)
    webhook_secrets.rotate(session, pepper, endpoint.tenant_id, endpoint_id, secret, overlap)
    return endpoint


def test(
    session: Session,
    principal: Principal,
    endpoint_id: UUID,
    delivery_id: UUID | None = None,  # noqa: PT028 - it tests an endpoint, and is no test
) -> Delivery:
    """Send `webhook.test` to an endpoint, also to one that is disabled or held. Raises NoSuchEndpoint.

    May be called again with the same `delivery_id`, which is then the delivery's.
    """
    endpoint = find(session, principal, endpoint_id)
    if delivery_id is not None and (made := webhook_deliveries.find(session, delivery_id, endpoint.tenant_id)):
        return made
    data = {"endpoint_id": str(endpoint.id), "message": "This is a test. Nothing has happened."}
    event_id, body = new_id(), body_of(TEST, moment(clock(session)), data)
    to = _receiver(endpoint)
    _let_through(session, to)
    return _sent(session, Notice(to, event_id, TEST, body, delivery_id=delivery_id))


def find_delivery(session: Session, principal: Principal, delivery_id: UUID) -> Delivery:
    """The delivery, or NoSuchDelivery."""
    found = webhook_deliveries.find(session, delivery_id, principal.tenant_id)
    if found is None:
        raise NoSuchDelivery(f"There is no webhook delivery {delivery_id}.")
    return found


def redeliver(session: Session, principal: Principal, seen: Delivery, another: UUID) -> Delivery:
    """Send a delivery once more, with the same event id and body, also to a receiver that is held; gives what does it.

    A dead letter is replayed, one that waits is sent now, and one that is over is sent by a delivery of its own, whose
    id is `another`. What is done follows from how the delivery was `seen`: a step that is done again, since nobody
    knows whether it was committed, sends nothing twice. Raises NoSuchDelivery, NoSuchEndpoint, StillOpen.
    """
    match seen.state:
        case State.DEAD:
            _let_through(session, _receiver_of(session, seen.id))
            moves.redrive(session, [Ref(seen.id, seen.lease)], principal.actor, "redelivered")
        case State.QUEUED:
            _let_through(session, _receiver_of(session, seen.id))
            moves.run_now(session, [seen.id], principal.actor)
        case state if state in FINAL:
            return _once_more(session, seen, another)
        case _:
            raise StillOpen(seen)
    return find_delivery(session, principal, seen.id)


def disable(session: Session, endpoint_id: UUID, actor: str, reason: str) -> None:
    """Send nothing there any more; the audit log and the tenant's other endpoints are told.

    They are told the server only: the rest of a URL may hold a token, and is nothing to other receivers.
    """
    endpoint = webhook_endpoints.hold(session, endpoint_id, None)
    if endpoint is None or not endpoint.enabled:
        return
    webhook_endpoints.change(session, endpoint_id, enabled=False, disabled_reason=reason)
    metrics.webhook_endpoints_disabled.inc()
    detail = {"receiver": _receiver(endpoint).gate.leads_to, "description": endpoint.description, "reason": reason}
    place = str(endpoint_id)
    audit.add(
        session,
        Entry(new_id(), endpoint.tenant_id, actor, "disable", "webhook-endpoints", place, None, None, detail),
    )
    others = webhook_endpoints.listening(session, {endpoint.tenant_id})
    _send(session, others, DISABLED, {"id": place, **detail})


def _held(session: Session, principal: Principal, endpoint_id: UUID) -> Endpoint:
    held = webhook_endpoints.hold(session, endpoint_id, principal.tenant_id)
    if held is None:
        raise NoSuchEndpoint(f"There is no webhook endpoint {endpoint_id}.")
    return held


def _receiver(endpoint: Endpoint) -> Receiver:
    return Receiver(endpoint.tenant_id, endpoint.url, endpoint.id)


def _let_through(session: Session, receiver: Receiver) -> None:
    """Open its gate if it is held: somebody who knows more than we do wants it tried now."""
    passed = gate.find(session, receiver.gate.id)
    if passed is not None and passed.unanswered:
        gate.change(session, replace(gate.hold(session, receiver.gate), unanswered=0, closed_until=None))


def _once_more(session: Session, delivery: Delivery, another: UUID) -> Delivery:
    if made := webhook_deliveries.find(session, another, delivery.tenant_id):
        return made
    parcel = _parcel(session, delivery.id)
    to = _receiver_of(session, delivery.id)
    _let_through(session, to)
    return _sent(session, Notice(to, parcel.event_id, parcel.event, parcel.body, parcel.job_id, another))


def _receiver_of(session: Session, delivery_id: UUID) -> Receiver:
    """Where a delivery would be sent now. Raises NoSuchDelivery, NoSuchEndpoint."""
    parcel = _parcel(session, delivery_id)
    if parcel.endpoint_id is None:
        return Receiver(parcel.tenant_id, parcel.url or "")
    endpoint = webhook_endpoints.find(session, parcel.endpoint_id, None)
    if endpoint is None:
        raise NoSuchEndpoint("Its webhook endpoint was deleted.")
    return _receiver(endpoint)


def _parcel(session: Session, delivery_id: UUID) -> NewDelivery:
    parcel = webhook_deliveries.parcel(session, delivery_id)
    if parcel is None:
        raise NoSuchDelivery(f"There is no webhook delivery {delivery_id} any more.")
    return parcel


def _sent(session: Session, notice: Notice) -> Delivery:
    (made,) = send(session, [notice])
    found = webhook_deliveries.find(session, made, None)
    if found is None:
        raise NoSuchDelivery(f"There is no webhook delivery {made}.")
    return found


def _send(session: Session, endpoints: Sequence[Endpoint], event: str, data: Mapping[str, Any]) -> None:
    event_id, body = new_id(), body_of(event, moment(clock(session)), data)
    send(session, [Notice(_receiver(one), event_id, event, body) for one in endpoints])
