"""The doors to jobs: submit, read, list, follow, run now, cancel."""

import re
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Self
from uuid import UUID

from flask import Blueprint, g, request
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from api import admission, examples
from api.documents import EventDocument, JobDocument, event_document, job_document
from api.endpoint import Call, Reply, TakenHeader, Writes, endpoint, named, repeatable
from api.examples import EVENT_STREAM
from api.following import LAST_EVENT_ID, PREFER, stream, wait_seconds, when_final
from api.lists import ListQuery, Part, page
from api.pace import Pace
from api.problems import Flaw, Problem
from api.schemas import BY_JOB_TYPE
from api.services import Services
from jobs import operate, submit
from jobs.outcomes import Json
from jobs.rates import RouteClass
from jobs.scopes import Scope
from jobs.submit import Origin, Submission
from jobs.whole_numbers import WHOLE
from models import lists, queries
from models.crashpoints import crashpoint
from models.job import DOCUMENTS, Job, NewJob
from models.lists import JobFilter
from models.metrics import lost_answers
from models.states import State
from settings import QUEUE_NAME

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

IDEMPOTENCY_KEY = TakenHeader(
    "Idempotency-Key",
    r"[\x21-\x7e]{1,255}",
    "invalid-key",
    "It has 1 to 255 visible ASCII characters.",
    "Makes it safe to send the request again: the same key with the same body records one job.",
    "5b1c0e0a-3f0e-4f57-8d38-1f8f0f6a7f11",
)
# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e\t]{1,512}")
_NUMBER = re.compile(r"[-+0-9.eE_\s]+")
MOST_CHOICES = 20
"""How often one parameter of a list may repeat: each adds a branch to its query."""
LONGEST_DELAY_SECONDS = 366 * 24 * 3600
RETRY_AFTER = "In how many seconds to look again; missing once the job is final."


def _only_text(value: object) -> object:
    # pydantic would take a number of seconds as well, also within a text.
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        raise ValueError("a time is an RFC 3339 string such as 2027-01-01T00:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_only_text)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=255)]
TagName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
TagValue = Annotated[str, StringConstraints(max_length=255)]
MOST_TAGS = 16


_STORABLE_YEAR = "^(19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-"
_NOT_BOTH = "give due_at or delay_seconds, not both"
_TWO_WAITS = {
    "properties": {"due_at": {"type": "string"}, "delay_seconds": {"type": "number"}},
    "required": ["due_at", "delay_seconds"],
}
_ABOUT_SUBMITTING = {"examples": [examples.SUBMISSION], "not": _TWO_WAITS, BY_JOB_TYPE: True}


class SubmitBody(BaseModel, extra="forbid", strict=True, json_schema_extra=_ABOUT_SUBMITTING):
    """What POST /v1/jobs takes."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    args: dict[str, Any] = Field(default_factory=dict)
    queue: Annotated[str, StringConstraints(pattern=f"^{QUEUE_NAME.pattern}$")] | None = None
    priority: Annotated[int, Field(ge=-100, le=100), WHOLE] = 0
    due_at: Annotated[Moment, Field(strict=False, json_schema_extra={"pattern": _STORABLE_YEAR})] | None = None
    delay_seconds: Annotated[float, Field(ge=0, le=LONGEST_DELAY_SECONDS)] | None = None
    max_attempts: Annotated[int, Field(ge=1), WHOLE] | None = None
    timeout_seconds: Annotated[int, Field(ge=1), WHOLE] | None = None
    unique_key: Word | None = None
    tags: Annotated[dict[TagName, TagValue], Field(max_length=MOST_TAGS)] = Field(default_factory=dict)

    @field_validator("due_at")
    @classmethod
    def _storable(cls, value: datetime | None) -> datetime | None:
        if value is not None and not 1970 <= value.year < 9999:  # noqa: PLR2004 - both databases hold these
            raise ValueError("due_at must be between 1970 and 9998")
        return value

    @model_validator(mode="after")
    def _one_wait(self) -> Self:
        if self.due_at is not None and self.delay_seconds is not None:
            raise ValueError(_NOT_BOTH)
        return self

    def submission(self) -> Submission:
        """The body as the domain takes it."""
        asked = {name: getattr(self, name) for name in SubmitBody.model_fields}
        return Submission(**{**asked, "delay_seconds": self.delay_seconds or 0})


class JobsQuery(ListQuery):
    """What GET /v1/jobs takes."""

    state: Annotated[repeatable(tuple[State, ...]), Field(max_length=MOST_CHOICES)] = ()  # type: ignore[valid-type]
    type: Annotated[repeatable(tuple[str, ...]), Field(max_length=MOST_CHOICES)] = ()  # type: ignore[valid-type]
    queue: Word | None = None
    unique_key: Word | None = None
    tag: Annotated[
        named(dict[TagName, TagValue]),  # type: ignore[valid-type]
        Field(max_length=1, description="Jobs with this tag, as `tag.customer=42`; one at a time."),
    ] = Field(default_factory=dict)


def examine(services: Services, document: Json) -> list[Flaw]:
    """What is wrong besides the form of a body whose form is wrong."""
    members = document if isinstance(document, dict) else {}
    twice = None not in (members.get("due_at"), members.get("delay_seconds"))
    waits = [Flaw("body", "", "value-error", _NOT_BOTH)] if twice else []
    return waits + [Flaw.in_body(fault) for fault in submit.examine(document, services.registry)]


@endpoint(
    blueprint,
    "POST",
    "",
    scope=Scope.JOBS_WRITE,
    body=SubmitBody,
    examine=examine,
    takes=(IDEMPOTENCY_KEY,),
    writes=Writes.ONE_STATEMENT,
    counts_as=RouteClass.SUBMIT,
    reply=JobDocument,
    status=202,
    problems=(
        "idempotency-key-required",
        "idempotency-key-reused",
        "not-unique",
        "too-busy",
        "args-too-large",
        "backlog-too-old",
    ),
    gives={
        "Location": "The job's address.",
        "Retry-After": RETRY_AFTER,
        "Idempotency-Replayed": "`true` when this request was answered before, and the job recorded then.",
    },
)
def submit_job(call: Call) -> Reply:
    """Record a job; it is committed before the 202 leaves."""
    new = call.once(lambda: _admitted(call))
    crashpoint("submit.before_commit")
    try:
        recorded = submit.record(call.session, new)
    except submit.Refused as refused:
        raise refusal(refused) from None
    count_lost_answer(recorded)
    headers = {"Location": f"/v1/jobs/{recorded.job.id}"} | _polling(_pace(call), recorded.job)
    if recorded.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Reply(job_document(recorded.job), 202, headers, rings=not recorded.replayed)


@endpoint(blueprint, "GET", "", scope=Scope.JOBS_READ, query=JobsQuery, lists=JobDocument)
def list_jobs(call: Call) -> Reply:
    """Jobs, newest first.

    A page of several filters together looks at some thousands of jobs at most: it may hold fewer than `limit`, or none,
    and still have a `next_cursor`, by which the search goes on.
    """
    asked = call.query
    tag = next(iter(asked.tag.items()), None)
    wanted = JobFilter(call.principal.tenant_id, asked.state, asked.type, asked.queue, asked.unique_key, tag)
    without = call.unneeded(*DOCUMENTS)

    def read(before: UUID | None, limit: int) -> Part[Job]:
        found = lists.list_jobs(call.session, wanted, before, limit, without=without)
        return Part(found.jobs, str(found.goes_on_before) if found.goes_on_before else None)

    return page(call, "jobs", read, lambda job: job.id, job_document)


@endpoint(
    blueprint,
    "GET",
    "/<job_id>",
    scope=Scope.JOBS_READ,
    takes=(PREFER,),
    reply=JobDocument,
    gives={
        "Retry-After": RETRY_AFTER,
        "Preference-Applied": "`wait=...` if the answer waited, or would have, for the job to be final.",
    },
)
def get_job(call: Call, job_id: str) -> Reply:
    """One job as it is now, or with `Prefer: wait=30` as soon as it is final."""
    without = call.unneeded(*DOCUMENTS)
    job = operate.find(call.session, call.principal, job_uuid(job_id), without=without)
    read, seconds = partial(_read, _pace(call)), wait_seconds()
    if seconds and not job.final:
        return replace(read(job), later=partial(when_final, call.services.watcher, job, seconds, read))
    return read(job)


@endpoint(
    blueprint,
    "GET",
    "/<job_id>/stream",
    scope=Scope.JOBS_READ,
    takes=(LAST_EVENT_ID,),
    media_type="text/event-stream",
    reply=str,
    example=EVENT_STREAM,
    sparse=False,
    also=(204,),
    problems=("too-many-streams",),
)
def stream_job(call: Call, job_id: str) -> Reply:
    """A job's states and progress as Server-Sent Events, until it is final.

    Each event is named `job` and carries the whole job as it is then. What came between two events that a slow reader
    takes is left out. A reader that comes again tells by `Last-Event-ID` what it has seen; if that was the end, the
    answer is 204.
    """
    job = operate.find(call.session, call.principal, job_uuid(job_id))
    return Reply(None, later=partial(stream, call.services.watcher, job))


@endpoint(blueprint, "GET", "/<job_id>/events", scope=Scope.JOBS_READ, query=ListQuery, lists=EventDocument)
def list_events(call: Call, job_id: str) -> Reply:
    """A job's history, newest first."""
    job = operate.find(call.session, call.principal, job_uuid(job_id))
    return page(
        call,
        f"events of {job.id}",
        lambda before, limit: queries.list_events(call.session, job.id, before, limit),
        lambda event: event.id,
        event_document,
    )


@endpoint(
    blueprint,
    "POST",
    "/<job_id>/cancel",
    scope=Scope.JOBS_WRITE,
    reply=JobDocument,
    status=202,
    problems=("job-is-final",),
    gives={"Location": "The job's address.", "Retry-After": RETRY_AFTER},
)
def cancel_job(call: Call, job_id: str) -> Reply:
    """Cancel a waiting job, or ask a running one to stop."""
    try:
        job = operate.cancel(call.session, call.principal, job_uuid(job_id), again=call.tries > 1)
    except operate.JobIsFinal as error:
        raise Problem("job-is-final", str(error)) from None
    headers = {"Location": f"/v1/jobs/{job.id}"} | _polling(_pace(call), job)
    return Reply(job_document(job), 202, headers, tenant_id=job.tenant_id)


@endpoint(
    blueprint,
    "POST",
    "/<job_id>/run-now",
    scope=Scope.JOBS_WRITE,
    reply=JobDocument,
    status=202,
    problems=("job-not-waiting",),
    gives={"Location": "The job's address.", "Retry-After": RETRY_AFTER},
)
def run_job_now(call: Call, job_id: str) -> Reply:
    """Make a job due that waits for a later time, or for its next attempt."""
    try:
        job, moved = operate.run_now(call.session, call.principal, job_uuid(job_id), again=call.tries > 1)
    except operate.JobIsNotWaiting as error:
        raise Problem("job-not-waiting", str(error)) from None
    headers = {"Location": f"/v1/jobs/{job.id}"} | _polling(_pace(call), job)
    return Reply(job_document(job), 202, headers, rings=moved, tenant_id=job.tenant_id)


def job_uuid(text: str) -> UUID:
    """A job's id from a path; what is no id names no job."""
    try:
        job_id = UUID(text)
    except ValueError:
        job_id = None
    if job_id is None or str(job_id) != text.lower():
        raise operate.NoSuchJob(f"There is no job {text[:64]}.")
    return job_id


def refusal(refused: submit.Refused, within: str = "") -> Problem:
    """The problem that tells why a submission was refused; it stands at the pointer `within` of the body."""
    match refused:
        case submit.Invalid():
            flaws = [Flaw.in_body(fault, within) for fault in refused.faults]
            return Problem("invalid-request", "The job cannot be accepted as it is; see errors.", flaws)
        case submit.ArgsTooLarge():
            return Problem("args-too-large", str(refused))
        case submit.KeyReused():
            return Problem("idempotency-key-reused", str(refused))
        case submit.NotUnique():
            return Problem("not-unique", str(refused), extra={"holder": str(refused.holder)})
        case _:
            return Problem("too-busy", str(refused), headers={"Retry-After": "1"})


def count_lost_answer(recorded: submit.Recorded) -> None:
    """Count a job that an earlier try of this request recorded."""
    if recorded.looked_up and not recorded.replayed:
        lost_answers.labels("record").inc()


def origin(call: Call) -> Origin:
    """Whom the request's submissions come from. Raises Problem if they may not come."""
    if call.principal.tenant_id is None:
        raise Problem("forbidden", "A platform key has no tenant to submit for; use a tenant's key.")
    traceparent, tracestate = (request.headers.get(name, "") for name in ("traceparent", "tracestate"))
    traced = bool(_TRACEPARENT.fullmatch(traceparent))
    return Origin(
        tenant_id=call.principal.tenant_id,
        request_id=g.request_id,
        traceparent=traceparent if traced else None,
        # Without a parent it says nothing, and must not be passed on.
        tracestate=tracestate if traced and _TRACESTATE.fullmatch(tracestate) else None,
    )


def prepared(call: Call, asked: SubmitBody, document: Json, origin: Origin, key: str | None) -> NewJob:
    """The job to record; `document` is what was sent of it, less its key. Raises Problem."""
    if key is None and call.services.settings.require_idempotency_key:
        raise Problem("idempotency-key-required", "This installation accepts no job without an Idempotency-Key.")
    if key is not None:
        origin = replace(origin, idempotency_key=key, request_hash=submit.request_hash(document))
    return submit.prepare(asked.submission(), origin, call.services.registry)


def _admitted(call: Call) -> NewJob:
    # Once: a second try may be one whose first was committed, and only its answer lost.
    new = _prepared(call)
    for refused in admission.refusals(call, [new]).values():
        raise refused
    return new


def _prepared(call: Call) -> NewJob:
    try:
        return prepared(call, call.body, call.document, origin(call), request.headers.get(IDEMPOTENCY_KEY.name))
    except submit.Refused as refused:
        raise refusal(refused) from None


def _read(pace: Pace, job: Job) -> Reply:
    return Reply(job_document(job), headers=_polling(pace, job))


def _polling(pace: Pace, job: Job) -> dict[str, str]:
    return {} if job.final else {"Retry-After": str(pace.seconds_until(job))}


def _pace(call: Call) -> Pace:
    call.services.pace.learn(call.session)
    return call.services.pace
