"""Who is told of a job's end: the webhook jobs that are written with the move that ends it, their bodies frozen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid5

import orjson
from sqlalchemy import ColumnElement, Text, and_, cast, exists, false, func, or_, select
from sqlalchemy.orm import Session

from models import gate, webhook_deliveries, webhook_endpoints
from models.documents import job_document
from models.gate import NewGate
from models.ids import new_id
from models.job import GATED_QUEUE, JOB_COLUMNS, OWN_TYPES, Job, NewJob, as_job, jobs
from models.moves.dispatching import record
from models.moves.frame import Moved
from models.states import State
from models.webhook_deliveries import NewDelivery
from models.webhook_endpoints import Endpoint
from models.webhook_endpoints import webhook_endpoints as endpoints

EVENTS = {
    State.SUCCEEDED: "job.succeeded",
    State.DEAD: "job.dead",
    State.CANCELLED: "job.cancelled",
    State.DISCARDED: "job.discarded",
}
USUAL_PORTS = {"http": 80, "https": 443}
_AT_ONCE = 50
"""So many jobs' documents are in memory at a time; a result may have a megabyte."""
_c = jobs.c


@dataclass(frozen=True)
class Receiver:
    """Who is told: an endpoint, or a URL that came with the job."""

    tenant_id: UUID
    url: str
    endpoint_id: UUID | None = None

    @property
    def gate(self) -> NewGate:
        """The endpoint's gate; URLs that came with jobs share one for each tenant and server."""
        leads_to = server_of(self.url)
        return NewGate(self.endpoint_id or uuid5(self.tenant_id, leads_to), self.tenant_id, leads_to)


@dataclass(frozen=True)
class Notice:
    """An event for one receiver: the same id for whoever is told of it. A delivery without an id is given one."""

    receiver: Receiver
    event_id: UUID
    event: str
    body: bytes
    job_id: UUID | None = None
    delivery_id: UUID | None = None


def heard(event: str) -> ColumnElement[bool]:
    """Whether anybody may want to be told of this end of a job; of which types endpoints want to hear comes later."""
    asked_for = exists().where(
        endpoints.c.tenant_id == _c.tenant_id, endpoints.c.enabled, _names(endpoints.c.events, event)
    )
    return and_(_c.type.not_in(sorted(OWN_TYPES)), or_(_names(_c.webhook, event), asked_for))


def tell(session: Session, moved: list[Moved]) -> list[Moved]:
    """Record a delivery for each receiver of an event that the move has just brought; gives back what moved."""
    ended = {job.id: job for job in moved if job.state in EVENTS and job.type not in OWN_TYPES}
    if ended:
        wanted = _wanted(session, ended)
        _make_gates(session, [receiver for receivers in wanted.values() for receiver in receivers])
        ids = list(wanted)
        for first in range(0, len(ids), _AT_ONCE):
            some = ids[first : first + _AT_ONCE]
            _record(session, [notice for job in _read(session, some) for notice in _notices(job, wanted[job.id])])
        return [job._replace(told=job.id in wanted) for job in moved]
    return moved


def send(session: Session, notices: Sequence[Notice]) -> list[UUID]:
    """Record a delivery job for each notice; gives the deliveries' ids."""
    _make_gates(session, [notice.receiver for notice in notices])
    return _record(session, notices)


def body_of(event: str, timestamp: str, data: Any) -> bytes:
    """The bytes that are sent, and signed."""
    return orjson.dumps({"type": event, "timestamp": timestamp, "data": data})


def _names(document: ColumnElement[Any], event: str) -> ColumnElement[bool]:
    """Whether an event's name stands in a document, which may be absent."""
    return func.coalesce(cast(document, Text).contains(f'"{event}"'), false())


def server_of(url: str) -> str:
    """Where a URL leads, as scheme, host and port: one server in one spelling."""
    parts = urlsplit(url)
    host = (parts.hostname or "").removesuffix(".")
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in {None, USUAL_PORTS.get(parts.scheme)} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _make_gates(session: Session, receivers: Sequence[Receiver]) -> None:
    """Make the receivers' gates, all of a transaction's at once, for the sake of their one order."""
    gate.add(session, {receiver.gate for receiver in receivers})


def _record(session: Session, notices: Sequence[Notice]) -> list[UUID]:
    deliveries = [_delivery(notice) for notice in notices]
    record(session, [_job(delivery, notice) for delivery, notice in zip(deliveries, notices, strict=True)])
    if deliveries:
        webhook_deliveries.add(session, deliveries)
    return [delivery.id for delivery in deliveries]


def _wanted(session: Session, ended: dict[UUID, Moved]) -> dict[UUID, list[Receiver]]:
    """Who is to be told of which job."""
    listening: dict[UUID, list[Endpoint]] = {job.tenant_id: [] for job in ended.values()}
    for endpoint in webhook_endpoints.listening(session, listening.keys()):
        listening[endpoint.tenant_id].append(endpoint)
    asked = select(_c.id, _c.webhook).where(_c.id.in_(list(ended)), _c.webhook.is_not(None))
    with_job = {row.id: row.webhook for row in session.execute(asked)}
    wanted = {
        job.id: [
            *(Receiver(job.tenant_id, one.url, one.id) for one in listening[job.tenant_id] if _listens(one, job)),
            *_receiver_of_its_own(job, with_job.get(job.id)),
        ]
        for job in ended.values()
    }
    return {job_id: receivers for job_id, receivers in wanted.items() if receivers}


def _listens(endpoint: Endpoint, job: Moved) -> bool:
    of_type = endpoint.types is None or any(fnmatchcase(job.type, pattern) for pattern in endpoint.types)
    return EVENTS[job.state] in endpoint.events and of_type


def _receiver_of_its_own(job: Moved, webhook: Any) -> Iterator[Receiver]:
    if webhook and EVENTS[job.state] in webhook["events"]:
        yield Receiver(job.tenant_id, webhook["url"])


def _notices(job: Job, receivers: Sequence[Receiver]) -> Iterator[Notice]:
    event, event_id = EVENTS[job.state], new_id()
    # Nobody here reads args and result, which are passed on as they are kept.
    told = job_document(job) | {"args": orjson.Fragment(job.args), "result": orjson.Fragment(job.result or "null")}
    body = body_of(event, told["finished_at"], told)
    for receiver in receivers:
        yield Notice(receiver, event_id, event, body, job.id)


def _read(session: Session, ids: Sequence[UUID]) -> list[Job]:
    """Those jobs, their args and results as JSON texts."""
    texts = [cast(one, Text).label(one.name) if one.name in {"args", "result"} else one for one in JOB_COLUMNS]
    return [as_job(row) for row in session.execute(select(*texts).where(_c.id.in_(ids))).mappings()]


def _delivery(notice: Notice) -> NewDelivery:
    to = notice.receiver
    url = to.url if to.endpoint_id is None else None
    about = notice.event_id, notice.event, notice.job_id, notice.body
    return NewDelivery(notice.delivery_id or new_id(), to.tenant_id, to.endpoint_id, url, *about)


def _job(delivery: NewDelivery, notice: Notice) -> NewJob:
    told = {"event": delivery.event, "endpoint_id": delivery.endpoint_id, "job_id": delivery.job_id}
    return NewJob(
        id=delivery.id,
        tenant_id=delivery.tenant_id,
        type=webhook_deliveries.TYPE,
        queue=GATED_QUEUE,
        args={name: str(value) for name, value in told.items() if value is not None},
        priority=webhook_deliveries.PRIORITY,
        max_attempts=webhook_deliveries.MOST_ATTEMPTS,
        timeout_seconds=webhook_deliveries.TIMEOUT_SECONDS,
        tags={},
        gate_id=notice.receiver.gate.id,
    )
