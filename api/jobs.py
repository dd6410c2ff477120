"""The doors to jobs: submit, read, list, follow, run now, cancel."""

from dataclasses import replace
from functools import partial
from typing import Annotated
from uuid import UUID

from flask import Blueprint, Response, after_this_request, request
from pydantic import Field

from api import admission, fieldsets
from api.documents import EventDocument, JobDocument, event_document, job_document
from api.endpoint import Call, Reply, endpoint
from api.examples import EVENT_STREAM
from api.explanations import ExplanationDocument, broker_is_away, explanation_document
from api.following import LAST_EVENT_ID, PREFER, stream, wait_seconds, when_final
from api.lists import ListQuery, Part, page
from api.operation import NoParameters, Writes
from api.pace import Pace
from api.parsing import named, repeatable
from api.patience import PATIENCE
from api.problems import Problem
from api.submission import (
    IDEMPOTENCY_KEY,
    SubmitBody,
    TagName,
    TagValue,
    Word,
    count_lost_answer,
    examine,
    origin,
    prepared,
    refusal,
)
from jobs import operate, submit
from jobs.rates import RouteClass
from jobs.scopes import Scope
from models import lists, queries
from models.crashpoints import crashpoint
from models.job import DOCUMENTS, Job, NewJob
from models.lists import JobFilter
from models.standing import standing_of
from models.states import State

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

MOST_CHOICES = 20
"""How often one parameter of a list may repeat: each adds a branch to its query."""
RETRY_AFTER = "In how many seconds to look again; missing once the job is final."


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


@endpoint(
    blueprint,
    "POST",
    "",
    scope=Scope.JOBS_WRITE,
    body=SubmitBody,
    examine=examine,
    takes=(IDEMPOTENCY_KEY,),
    writes=Writes.COALESCED,
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
    new = _admitted(call)
    crashpoint("submit.before_commit")
    recorded = call.services.record_job(new)
    if isinstance(recorded, submit.Refused):
        raise refusal(recorded)
    count_lost_answer(recorded)
    headers = {"Location": f"/v1/jobs/{recorded.job.id}"} | _polling(call.services.pace, recorded.job)
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
    read, seconds = partial(_read, call.services.pace), wait_seconds()
    if seconds and not job.final:
        return replace(read(job), later=partial(when_final, call.services.watcher, job, seconds, read))
    return read(job)


@endpoint(
    blueprint,
    "GET",
    "/<job_id>/stream",
    scope=Scope.JOBS_READ,
    query=fieldsets.with_fields(NoParameters, JobDocument),
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

    Each event is named `job` and carries the job as it is then, or with `fields` those members, whenever one of them
    has changed. What came between two events that a slow reader
    takes is left out. A reader that comes again tells by `Last-Event-ID` what it has seen; if that was the end, the
    answer is 204.
    """
    job = operate.find(call.session, call.principal, job_uuid(job_id), without=call.unneeded(*DOCUMENTS))
    return Reply(None, later=partial(stream, call.services.watcher, job, call.fields))


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


@endpoint(blueprint, "GET", "/<job_id>/explain", scope=Scope.JOBS_READ, reply=ExplanationDocument)
def explain_job(call: Call, job_id: str) -> Reply:
    """Why a job is where it is: what keeps it from running, who runs it, or how it ended.

    `reason` is what decides now. What would keep the job as well if that were gone is in `also`.
    """
    without = frozenset(DOCUMENTS) - {"error"}
    job = operate.find(call.session, call.principal, job_uuid(job_id), without=without)
    known = standing_of(call.session, job)
    if known is None:
        raise operate.NoSuchJob(f"There is no job {job_id} any more.")
    if call.principal.tenant_id is not None:  # to which the platform's operators are nobody it knows
        known = known.without_operators()
    services = call.services
    explained = partial(explanation_document, known, gate_width=services.settings.webhook_concurrency)
    return Reply(None, later=lambda: Reply(explained(broker_away=broker_is_away(services, job))))


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
    refuse_ours(call, job_id)
    try:
        job = operate.cancel(call.session, call.principal, job_uuid(job_id), again=call.tries > 1)
    except operate.JobIsFinal as error:
        raise Problem("job-is-final", str(error)) from None
    headers = {"Location": f"/v1/jobs/{job.id}"} | _polling(call.services.pace, job)
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
    refuse_ours(call, job_id)
    try:
        job, moved = operate.run_now(call.session, call.principal, job_uuid(job_id), again=call.tries > 1)
    except operate.JobIsNotWaiting as error:
        raise Problem("job-not-waiting", str(error)) from None
    headers = {"Location": f"/v1/jobs/{job.id}"} | _polling(call.services.pace, job)
    return Reply(job_document(job), 202, headers, rings=moved, tenant_id=job.tenant_id)


def refuse_ours(call: Call, job_id: str) -> None:
    """Keep a job that Jobmill itself made from whoever may submit jobs, but not do what it does."""
    job = operate.find(call.session, call.principal, job_uuid(job_id), without=frozenset(DOCUMENTS))
    registry = call.services.registry
    scope = registry.get(job.type).internal if job.type in registry else None
    if scope is not None and not call.principal.may(scope):
        raise Problem("forbidden", f"The job is a {job.type}, and takes the scope {scope}.")


def job_uuid(text: str) -> UUID:
    """A job's id from a path; what is no id names no job."""
    try:
        job_id = UUID(text)
    except ValueError:
        job_id = None
    if job_id is None or str(job_id) != text.lower():
        raise operate.NoSuchJob(f"There is no job {text[:64]}.")
    return job_id


def _admitted(call: Call) -> NewJob:
    new, services = _prepared(call), call.services
    if admission.is_bounded(services):
        for refused in services.database.read(partial(admission.refusals, services, [new]), PATIENCE).values():
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
    if job.final:
        return {}
    after_this_request(partial(_learn_afterwards, pace))
    return {"Retry-After": str(pace.seconds_until(job))}


def _learn_afterwards(pace: Pace, answer: Response) -> Response:
    answer.call_on_close(pace.learn)
    return answer
