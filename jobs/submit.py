"""Recording a job: what may be asked for, and what happens when it was asked for before.

Pure checks first, then one INSERT for the whole set that loses every race gracefully; whoever was first is found
and answered.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from uuid import UUID

import orjson
from sqlalchemy.orm import Session

from jobs import submission
from jobs.outcomes import Json
from jobs.registry import JobType, Registry, UnknownJobType
from jobs.submission import Fault, Submission
from jobs.webhook_urls import PUBLIC, Reach
from models import moves, queries
from models.ids import new_id
from models.job import Job, NewJob

MOST_ARGS_BYTES = 256 * 1024
MOST_ROUNDS = 3


@dataclass(frozen=True)
class Origin:
    """Who asks, under which idempotency key, and what is carried along for tracing."""

    tenant_id: UUID
    idempotency_key: str | None = None
    request_hash: bytes | None = None
    request_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


class Refused(Exception):  # noqa: N818
    """Base of the reasons why a submission is not recorded; nothing was stored."""


class Invalid(Refused):
    """The submission cannot be a job; `faults` names everything that is wrong at once."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = faults


class ArgsTooLarge(Refused):
    """The arguments are larger than 256 KiB as JSON."""


class KeyReused(Refused):
    """The idempotency key was used before, with another body."""


class NotUnique(Refused):
    """An unfinished job holds the unique key."""

    def __init__(self, holder: UUID) -> None:
        super().__init__(f"Job {holder} holds this unique_key until it is finished.")
        self.holder = holder


class TooBusy(Refused):
    """The keys kept changing hands while we looked; the same request may be sent again."""


@dataclass(frozen=True)
class Recorded:
    """The job, whether it was there before this request, and whether it was looked up rather than recorded now."""

    job: Job
    replayed: bool
    looked_up: bool = False


def prepare(asked: Submission, origin: Origin, registry: Registry, reach: Reach = PUBLIC) -> NewJob:
    """Check a submission and complete it by its type's defaults. Raises Invalid or ArgsTooLarge; touches nothing.

    Webhooks may be sent as far as `reach` says.
    """
    job_type = _type(asked, registry)
    _refuse_large(asked.args)
    if faults := [*submission.faults(asked, job_type, registry), *submission.webhook_faults(asked, reach)]:
        raise Invalid(faults)
    return NewJob(
        id=new_id(),
        tenant_id=origin.tenant_id,
        type=job_type.name,
        queue=asked.queue or job_type.queue,
        args=asked.args,
        priority=asked.priority,
        max_attempts=asked.max_attempts or job_type.max_attempts,
        timeout_seconds=asked.timeout_seconds or submission.whole_seconds(job_type.timeout),
        tags=asked.tags,
        due_at=asked.due_at.astimezone(UTC) if asked.due_at else None,
        delay_seconds=asked.delay_seconds,
        unique_key=asked.unique_key,
        idempotency_key=origin.idempotency_key,
        request_hash=origin.request_hash,
        request_id=origin.request_id,
        traceparent=origin.traceparent,
        tracestate=origin.tracestate,
        webhook=asked.webhook,
    )


def check_args(job_type: str, args: dict[str, Json], registry: Registry) -> None:
    """Check other arguments for a job that is recorded. Raises Invalid or ArgsTooLarge."""
    _refuse_large(args)
    asked = Submission(job_type, args)
    if job_type not in registry:
        detail = f"There is no job type {job_type!r} here any more, and so nothing to check its args by."
        raise Invalid([Fault("/args", "unknown-job-type", detail)])
    if registry.get(job_type).internal:
        detail = f"Jobmill itself made this {job_type} job, and its args stay as they are. Replay it or discard it."
        raise Invalid([Fault("/args", "internal-job-type", detail)])
    if faults := submission.args_faults(asked, _type(asked, registry)):
        raise Invalid(faults)


def examine(asked: Json, registry: Registry, reach: Reach = PUBLIC) -> list[Fault]:
    """What is wrong with a submission as it came by its type and webhook, as far as its form lets one see.

    For a submission that is refused for its form already, so that whoever sent it is told everything at once.
    """
    if not isinstance(asked, dict) or not isinstance(asked.get("type"), str):
        return []
    args, attempts, seconds = (asked.get(name) for name in ("args", "max_attempts", "timeout_seconds"))
    webhook = asked.get("webhook")
    told = Submission(
        str(asked["type"]),
        args if isinstance(args, dict) else {},
        max_attempts=attempts if isinstance(attempts, int) else None,
        timeout_seconds=seconds if isinstance(seconds, int) else None,
        webhook=webhook if isinstance(webhook, dict) and isinstance(webhook.get("url"), str) else None,
    )
    by_webhook = submission.webhook_faults(told, reach)
    try:
        return [*submission.faults(told, _type(told, registry), registry), *by_webhook]
    except Invalid as error:
        return [*error.faults, *by_webhook]


def record_all(
    session: Session, new: Sequence[NewJob], *, without: frozenset[str] = frozenset()
) -> list[Recorded | Refused]:
    """Record prepared jobs, or find those that their requests made before; gives what became of each, in their order.

    Each for itself: of those of a tenant that share a key the first counts, and the others are answered as if they came
    after it. May be called again with the same jobs after an unknown outcome. Jobs that are looked up are read
    `without` some of their documents, of which a thousand may have a gigabyte.
    """
    answers: dict[UUID, Recorded | Refused] = {}
    # A holder of a unique key may finish between our INSERT and our look; then the next round inserts.
    for _ in range(MOST_ROUNDS):
        open_ = [job for job in new if job.id not in answers]
        if not open_:
            break
        inserted = moves.record(session, sorted(_firsts(open_), key=_by_keys))
        answers |= {job.id: Recorded(job, replayed=False) for job in inserted}
        if len(inserted) < len(open_):
            for of_one in _by_tenant(job for job in open_ if job.id not in answers):
                answers |= _found(session, of_one, without)
    busy = TooBusy("The job's unique_key changed hands while it was recorded. Send the same request again.")
    return [answers.get(job.id, busy) for job in new]


def recorded_keys(session: Session, new: Sequence[NewJob]) -> set[str]:
    """Those of a tenant's jobs' idempotency keys under which one is recorded."""
    keys = [job.idempotency_key for job in new if job.idempotency_key is not None]
    return queries.known_idempotency_keys(session, new[0].tenant_id, keys) if keys else set()


def request_hash(body: Json) -> bytes:
    """SHA-256 of a request's body as canonical JSON: members sorted, no spaces."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


def _by_tenant(new: Iterable[NewJob]) -> Iterable[list[NewJob]]:
    """Each tenant's: what is looked up for one is never found among another's."""
    tenants: dict[UUID, list[NewJob]] = {}
    for job in new:
        tenants.setdefault(job.tenant_id, []).append(job)
    return tenants.values()


def _firsts(new: Iterable[NewJob]) -> list[NewJob]:
    """Of jobs that share a tenant and an idempotency key or a unique key, the first."""
    taken: set[tuple[UUID, str, str]] = set()
    firsts = []
    for job in new:
        keys = set(_keys(job))
        if not keys & taken:
            firsts.append(job)
        taken |= keys
    return firsts


def _keys(job: NewJob) -> list[tuple[UUID, str, str]]:
    """What no other job may have, with what it is a key for: all requests, or the jobs of a type."""
    keys = [("", job.idempotency_key), (job.type, job.unique_key)]
    return [(job.tenant_id, within, key) for within, key in keys if key is not None]


def _by_keys(job: NewJob) -> tuple[UUID, str, str, str]:
    """The order of an INSERT: two at once that share several keys would else wait for each other.

    Unique keys first: a client that sends a batch again makes the same idempotency keys, so both orders are one; two
    clients share unique keys at most.
    """
    within = job.type if job.unique_key is not None else ""
    return job.tenant_id, within, job.unique_key or "", job.idempotency_key or ""


def _found(session: Session, new: Sequence[NewJob], without: frozenset[str]) -> dict[UUID, Recorded | Refused]:
    """What became of a tenant's jobs that were not inserted, as far as the reason is still there."""
    tenant_id = new[0].tenant_id
    there = queries.find_by_ids(session, tenant_id, [job.id for job in new], without=without)
    keys = [job.idempotency_key for job in new if job.idempotency_key is not None]
    known = queries.find_by_idempotency_keys(session, tenant_id, keys, without=without) if keys else {}
    answers: dict[UUID, Recorded | Refused] = {
        job_id: Recorded(job, replayed=False, looked_up=True) for job_id, job in there.items()
    }
    for job in new:
        if job.id not in answers and job.idempotency_key in known:
            answers[job.id] = _by_idempotency_key(job, *known[job.idempotency_key])
    return answers | _held(session, [job for job in new if job.id not in answers])


def _by_idempotency_key(new: NewJob, job: Job, known_hash: bytes | None) -> Recorded | KeyReused:
    if known_hash != new.request_hash:
        return KeyReused(
            "This Idempotency-Key was used with another body. Use a new key for a new job; "
            "a key lives as long as its job."
        )
    return Recorded(job, replayed=True, looked_up=True)


def _held(session: Session, new: Sequence[NewJob]) -> dict[UUID, Recorded | Refused]:
    wanted: dict[str, list[NewJob]] = {}
    for job in new:
        if job.unique_key is not None:
            wanted.setdefault(job.type, []).append(job)
    refused: dict[UUID, Recorded | Refused] = {}
    for job_type, jobs in wanted.items():
        keys = [job.unique_key for job in jobs if job.unique_key is not None]
        holders = queries.find_unique_holders(session, jobs[0].tenant_id, job_type, keys)
        refused |= {job.id: NotUnique(holders[job.unique_key]) for job in jobs if job.unique_key in holders}
    return refused


def _type(asked: Submission, registry: Registry) -> JobType:
    try:
        job_type = registry.get(asked.type)
    except UnknownJobType:
        job_type = None
    if job_type is None or job_type.internal:
        detail = f"There is no job type {asked.type!r}; GET /v1/job-types lists those there are."
        raise Invalid([Fault("/type", "unknown-job-type", detail)])
    return job_type


def _refuse_large(args: Json) -> None:
    if len(orjson.dumps(args)) > MOST_ARGS_BYTES:
        raise ArgsTooLarge(f"args may have {MOST_ARGS_BYTES} bytes as JSON; put large data elsewhere and pass its URL.")
