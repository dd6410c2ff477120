"""The door for many jobs at once: each accepted or refused by itself, or all or none."""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from flask import Blueprint
from pydantic import BaseModel, Field, SkipValidation, StringConstraints, with_config
from typing_extensions import TypedDict

from api import admission, examples, replays
from api.documents import JobDocument, job_document, shown
from api.endpoint import Call, Reply, endpoint
from api.parsing import checked, untold
from api.problems import Flaw, Problem, ProblemDocument, problem_document, problem_teller
from api.submission import IDEMPOTENCY_KEY, SubmitBody, count_lost_answer, examine, origin, prepared, refusal
from jobs import submit
from jobs.outcomes import Json
from jobs.rates import RouteClass
from jobs.scopes import Scope
from jobs.submit import Origin, Recorded
from models import queries
from models.job import DOCUMENTS, NewJob

blueprint = Blueprint("batch", __name__, url_prefix="/v1/jobs")

MOST_JOBS = 1000
MOST_BODY_BYTES = 16 * 1024 * 1024

Key = Annotated[str, StringConstraints(pattern=f"^{IDEMPOTENCY_KEY.pattern}$")]
Outcome = Recorded | Problem


class BatchJob(SubmitBody):
    """A job of a batch: what POST /v1/jobs takes, and its idempotency key."""

    idempotency_key: Annotated[Key, Field(description=IDEMPOTENCY_KEY.description)] | None = None


class BatchBody(BaseModel, extra="forbid", strict=True, json_schema_extra={"examples": [examples.BATCH]}):
    """What POST /v1/jobs/batch takes. A job that is none is refused by itself, and the others are not."""

    jobs: Annotated[list[SkipValidation[BatchJob] | Any], Field(min_length=1, max_length=MOST_JOBS)]


class BatchQuery(BaseModel, extra="forbid"):
    """The parameters of POST /v1/jobs/batch."""

    atomic: Annotated[bool, Field(description="Record all jobs or none.")] = False


class BatchItemDocument(TypedDict):
    """What became of one job of a batch: the `job`, or the `problem` that it would have had alone."""

    status: int
    job: NotRequired[JobDocument]
    replayed: NotRequired[Annotated[bool, Field(description="Whether it had been recorded under its key before.")]]
    problem: NotRequired[ProblemDocument]


@with_config(shown(examples.BATCH_ANSWER))
class BatchDocument(TypedDict):
    """What became of a batch, in the order of its jobs."""

    data: list[BatchItemDocument]


@endpoint(
    blueprint,
    "POST",
    "/batch",
    scope=Scope.JOBS_WRITE,
    query=BatchQuery,
    body=BatchBody,
    most_body_bytes=MOST_BODY_BYTES,
    counts_as=RouteClass.SUBMIT,
    weight=lambda body: len(body.jobs),
    reply=BatchDocument,
    status=202,
    problems=("batch-refused", "backlog-too-old", "too-many-large-bodies"),
)
def submit_batch(call: Call) -> Reply:
    """Record up to 1,000 jobs, each accepted or refused by itself.

    Each has its `idempotency_key` beside its other members. Of jobs that share a key the first counts, and the others
    are answered as if they came later.
    """
    outcomes = _recorded(call, call.once(lambda: _all_prepared(call)))
    documents = [_document(outcome) for outcome in outcomes]
    if call.query.atomic and any("problem" in document for document in documents):
        raise _all_refused(documents)
    jobs = {index: outcome for index, outcome in enumerate(outcomes) if isinstance(outcome, Recorded)}
    rings = not all(recorded.replayed for recorded in jobs.values())
    if looked_up := {index: recorded.job.id for index, recorded in jobs.items() if recorded.looked_up}:
        lengths = queries.document_lengths(call.session, list(looked_up.values()))
        stream = replays.pieces(call.services.database, documents, looked_up, lengths, problem_teller())
        return Reply(None, 202, rings=rings, stream=stream)
    return Reply({"data": documents}, 202, rings=rings)


def _recorded(call: Call, prepared: list[NewJob | Problem]) -> list[Outcome]:
    new = [job for job in prepared if isinstance(job, NewJob)]
    answers = iter(submit.record_all(call.session, new, without=frozenset(DOCUMENTS)))
    return [job if isinstance(job, Problem) else _outcome(next(answers)) for job in prepared]


def _outcome(answer: Recorded | submit.Refused) -> Outcome:
    if isinstance(answer, submit.Refused):
        return refusal(answer)
    count_lost_answer(answer)
    return answer


def _all_prepared(call: Call) -> list[NewJob | Problem]:
    sender = origin(call)
    all_ = [_one(call, sender, job, f"/jobs/{index}") for index, job in enumerate(call.document["jobs"])]
    refused = admission.refusals(call.services, [job for job in all_ if isinstance(job, NewJob)], call.session)
    return [refused.get(job.id, job) if isinstance(job, NewJob) else job for job in all_]


def _one(call: Call, sender: Origin, document: Json, within: str) -> NewJob | Problem:
    try:
        body = _body(call, document, within)
        members = {name: value for name, value in document.items() if name != "idempotency_key"}
        return prepared(call, body, members, sender, body.idempotency_key)
    except submit.Refused as refused:
        return refusal(refused, within)
    except Problem as problem:
        return problem


def _body(call: Call, document: Json, within: str) -> BatchJob:
    flaws: list[Flaw] = []
    body: BatchJob | None = checked(BatchJob, document, "body", flaws)
    if body is None:
        flaws += untold(examine(call.services, document), flaws)
        raise Problem(
            "invalid-request",
            f"{len(flaws)} part(s) of the job are wrong; see errors.",
            [Flaw(flaw.place, within + flaw.pointer, flaw.code, flaw.detail) for flaw in flaws],
        )
    return body


def _document(outcome: Outcome) -> BatchItemDocument:
    if isinstance(outcome, Problem):
        told: Any = problem_document(outcome)
        return {"status": told["status"], "problem": told}
    return {"status": 202, "job": job_document(outcome.job), "replayed": outcome.replayed}


def _all_refused(documents: list[BatchItemDocument]) -> Problem:
    refused: list[Mapping[str, Any]] = [
        {"index": index, "problem": document["problem"]}
        for index, document in enumerate(documents)
        if "problem" in document
    ]
    return Problem(
        "batch-refused", f"{len(refused)} of {len(documents)} jobs cannot be recorded.", extra={"refused": refused}
    )
