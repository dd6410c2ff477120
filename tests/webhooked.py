"""Webhook endpoints and deliveries for tests of the API: made over HTTP, or planted in a state."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson

from jobs import webhook_secrets
from models import gate, webhook_deliveries, webhook_endpoints
from models.gate import NewGate
from models.ids import new_id
from models.job import GATED_QUEUE
from models.states import State
from models.webhook_deliveries import TYPE, NewDelivery
from tests.doors import ENDPOINTS, Caller
from tests.factories import job_in

URL = "https://hooks.example.com/in"


def patch(caller: Caller, path: str, body: Any) -> Any:
    return caller.request("PATCH", path, data=orjson.dumps(body), headers={"Content-Type": "application/json"})


def make(caller: Caller, **members: Any) -> dict[str, Any]:
    answer = caller.post(ENDPOINTS, {"url": URL, **members})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json
    assert answer.headers["Location"] == f"{ENDPOINTS}/{document['id']}"
    return document


def read(caller: Caller, made: dict[str, Any]) -> dict[str, Any]:
    answer = caller.get(f"{ENDPOINTS}/{made['id']}")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json
    return document


def delivery(caller: Caller, state: State = State.QUEUED, endpoint_id: str | None = None, **columns: Any) -> str:
    """A delivery whose job is in that state, to an endpoint or to a URL that came with the job; gives its id."""
    assert caller.tenant_id is not None
    tenant_id, endpoint = caller.tenant_id, UUID(endpoint_id) if endpoint_id else None
    told = {"tenant_id": tenant_id, "type": TYPE, "queue": GATED_QUEUE, "gate_id": endpoint or new_id(), **columns}

    def plant(session: Any) -> UUID:
        ref = job_in(session, state, **told)
        url = None if endpoint else URL
        new = NewDelivery(ref.id, tenant_id, endpoint, url, new_id(), "job.dead", new_id(), b'{"type":"job.dead"}')
        webhook_deliveries.add(session, [new])
        return ref.id

    return str(caller.doors.database.run(plant))


def signs_now(caller: Caller, endpoint_id: str | None) -> list[str | None]:
    """The secrets that sign now, newest first."""
    assert caller.tenant_id is not None
    tenant_id, services = caller.tenant_id, caller.doors.services
    with caller.doors.database.reading() as session:
        kept = webhook_endpoints.secrets(session, tenant_id, UUID(endpoint_id) if endpoint_id else None)
        return [webhook_secrets.opened(services.pepper(session), one) for one in kept]


def found(caller: Caller, endpoint_id: str, **values: Any) -> None:
    """What has been found of an endpoint's receiver."""
    assert caller.tenant_id is not None
    tenant_id, gate_id = caller.tenant_id, UUID(endpoint_id)

    def change(session: Any) -> None:
        gate.add(session, {NewGate(gate_id, tenant_id, "https://hooks.example.com")})
        held = gate.find(session, gate_id)
        assert held is not None
        gate.change(session, replace(held, **values))

    caller.doors.database.run(change)
