"""The doors to dead letters: find them, see what they died of, mend, replay or discard one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Blueprint
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from api import examples
from api.dead_documents import (
    DeadGroupDocument,
    DeadLetterDocument,
    WholeDeadLetterDocument,
    dead_group_document,
    dead_letter_document,
    whole_dead_letter_document,
)
from api.documents import JobDocument, job_document
from api.endpoint import Call, Reply, endpoint
from api.ids import AnId
from api.jobs import job_uuid, refuse_ours
from api.lists import ListQuery, Part, page_by_name
from api.problems import Flaw, Problem
from api.submission import STORABLE_YEAR, Moment, Word, refusal
from jobs import dead_letters, submit
from jobs.scopes import Scope
from models.dead_groups import Group, Mark, list_groups
from models.dead_letters import DeadFilter, Died, attempts_of, list_dead
from models.job import DOCUMENTS, Job

blueprint = Blueprint("dead_letters", __name__, url_prefix="/v1/dead-letters")

MOST_ATTEMPTS = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _storable(value: datetime) -> datetime:
    if not 1970 <= value.year < 9999:  # noqa: PLR2004 - both databases hold these
        raise ValueError("a time is between 1970 and 9998")
    return value


Time = Annotated[Moment, AfterValidator(_storable), Field(json_schema_extra={"pattern": STORABLE_YEAR})]
GroupName = Annotated[str, StringConstraints(pattern=r"^.{1,100}:[0-9a-f]{16}$")]


class DeadLetterFilter(BaseModel, extra="forbid"):
    """Which dead letters are meant; what is missing means any."""

    type: Word | None = None
    queue: Word | None = None
    error: Annotated[Word | None, Field(description="The class of the error, as `acme.errors.NoSuchFile`.")] = None
    group: Annotated[GroupName | None, Field(description="One of GET /v1/dead-letters/groups.")] = None
    endpoint_id: Annotated[AnId | None, Field(description="Deliveries to that webhook endpoint.")] = None
    died_after: Annotated[Time | None, Field(description="That moment included.")] = None
    died_before: Annotated[Time | None, Field(description="That moment not included.")] = None

    def wanted(self, tenant_id: UUID | None) -> DeadFilter:
        """The filters as the database takes them."""
        return DeadFilter(
            tenant_id,
            self.type,
            self.queue,
            self.error,
            None if self.group is None else dead_letters.parts_of(self.group),
            self.died_after,
            self.died_before,
            endpoint_id=self.endpoint_id,
        )


class DeadLettersQuery(DeadLetterFilter, ListQuery):
    """What GET /v1/dead-letters takes."""

    order: Annotated[Literal["newest", "oldest"], Field(description="By when they died.")] = "newest"


class EditBody(BaseModel, extra="forbid", json_schema_extra={"examples": [examples.DEAD_LETTER_EDIT]}):
    """What PATCH /v1/dead-letters/{job_id} takes."""

    args: Annotated[dict[str, Any], Field(description="The arguments to have instead, all of them.")]


@endpoint(blueprint, "GET", "", scope=Scope.DEAD_LETTERS_READ, query=DeadLettersQuery, lists=DeadLetterDocument)
def list_dead_letters(call: Call) -> Reply:
    """Jobs that failed for good, those that died last first.

    A page of several filters together looks at some thousands of them at most: it may hold fewer than `limit`, or none,
    and still have a `next_cursor`, by which the search goes on.
    """
    asked = call.query
    wanted = replace(asked.wanted(call.principal.tenant_id), oldest_first=asked.order == "oldest")
    without = _unneeded(call)

    def read(behind: str | None, limit: int) -> Part[Job]:
        found = list_dead(call.session, wanted, _died(behind), limit, without=without)
        return Part(found.jobs, _place(found.goes_on_behind) if found.goes_on_behind else None)

    return page_by_name(
        call, "dead letters", read, lambda job: _place(Died(job.finished_at or _EPOCH, job.id)), dead_letter_document
    )


@endpoint(blueprint, "GET", "/groups", scope=Scope.DEAD_LETTERS_READ, query=ListQuery, lists=DeadGroupDocument)
def list_dead_letter_groups(call: Call) -> Reply:
    """Dead letters by what they died of, the groups that appeared last first.

    A group is of one type, one class of error, one place in your code and one message, of which ids and numbers do not
    count. It is here as long as a dead letter is in it. To a platform key, each tenant's group is one of its own.
    """

    def read(behind: str | None, limit: int) -> list[Group]:
        return list_groups(call.session, call.principal.tenant_id, _mark(behind), limit)

    return page_by_name(call, "groups of dead letters", read, lambda group: _place_of(group.mark), dead_group_document)


@endpoint(blueprint, "GET", "/<job_id>", scope=Scope.DEAD_LETTERS_READ, reply=WholeDeadLetterDocument)
def get_dead_letter(call: Call, job_id: str) -> Reply:
    """A dead letter, with the error and the trace of each of its attempts."""
    return Reply(
        _whole(call, dead_letters.find(call.session, call.principal, job_uuid(job_id), without=_unneeded(call)))
    )


@endpoint(
    blueprint,
    "PATCH",
    "/<job_id>",
    scope=Scope.DEAD_LETTERS_WRITE,
    body=EditBody,
    reply=WholeDeadLetterDocument,
    problems=("job-not-dead", "job-changed", "args-too-large"),
)
def edit_dead_letter(call: Call, job_id: str) -> Reply:
    """Give a dead letter other arguments, for when it is replayed; its checkpoint goes with the old ones."""
    registry, wanted = call.services.registry, job_uuid(job_id)
    try:
        job, changes = dead_letters.edit(call.session, call.principal, wanted, call.body.args, registry)
    except dead_letters.NotDead as error:
        raise Problem("job-not-dead", str(error)) from None
    except dead_letters.Changed as error:
        raise Problem("job-changed", str(error)) from None
    except submit.Invalid as invalid:
        flaws = [Flaw.in_body(fault) for fault in invalid.faults]
        raise Problem("invalid-request", "The args cannot be accepted as they are; see errors.", flaws) from None
    except submit.Refused as refused:
        raise refusal(refused) from None
    whole = _whole(call, job)
    told = {"count": 1, "group": whole["group"], "changes": changes}
    return Reply(whole, tenant_id=job.tenant_id, detail=told)


@endpoint(
    blueprint,
    "POST",
    "/<job_id>/replay",
    scope=Scope.DEAD_LETTERS_WRITE,
    reply=JobDocument,
    status=202,
    problems=("job-not-dead", "not-unique", "too-busy"),
    gives={"Location": "The job's address."},
)
def replay_dead_letter(call: Call, job_id: str) -> Reply:
    """Queue a dead letter again, with fresh attempts; of two who do at once, one does."""
    refuse_ours(call, job_id)
    try:
        job, moved = dead_letters.replay(call.session, call.principal, job_uuid(job_id), again=call.tries > 1)
    except dead_letters.NotDead as error:
        raise Problem("job-not-dead", str(error)) from None
    except submit.Refused as refused:
        raise refusal(refused) from None
    headers = {"Location": f"/v1/jobs/{job.id}"}
    return Reply(job_document(job), 202, headers, rings=moved, tenant_id=job.tenant_id, detail=_told(job))


@endpoint(
    blueprint,
    "POST",
    "/<job_id>/discard",
    scope=Scope.DEAD_LETTERS_WRITE,
    reply=JobDocument,
    problems=("job-not-dead",),
)
def discard_dead_letter(call: Call, job_id: str) -> Reply:
    """Give a dead letter up; it stays readable as a job until its retention ends, and cannot be replayed."""
    refuse_ours(call, job_id)
    try:
        job = dead_letters.discard(call.session, call.principal, job_uuid(job_id), again=call.tries > 1)
    except dead_letters.NotDead as error:
        raise Problem("job-not-dead", str(error)) from None
    return Reply(job_document(job), tenant_id=job.tenant_id, detail=_told(job))


def _whole(call: Call, job: Job) -> WholeDeadLetterDocument:
    wanted = not call.unneeded("attempts")
    return whole_dead_letter_document(job, attempts_of(call.session, job.id, MOST_ATTEMPTS) if wanted else ())


def _unneeded(call: Call) -> frozenset[str]:
    """The documents that need not be read; the place is a part of the error."""
    return call.unneeded(*DOCUMENTS) - (set() if call.unneeded("place") else {"error"})


def _told(job: Job) -> dict[str, Any]:
    """What the audit log is told of one that is dead no more."""
    group = None if job.fingerprint is None else dead_letters.group_of(job.type, job.fingerprint)
    return {"count": 1, "group": group, "before": {"state": "dead"}, "after": {"state": job.state}}


# Places in the lists, as the cursors hold them: microseconds since 1970, and what tells apart what is of one moment.


def _place(died: Died) -> str:
    return f"{_microseconds(died.at)}.{died.id}"


def _died(place: str | None) -> Died | None:
    if place is None:
        return None
    at, _, job_id = place.partition(".")
    return Died(_moment(at), UUID(job_id))


def _place_of(mark: Mark) -> str:
    return f"{_microseconds(mark.since)}.{mark.tenant_id.hex}.{mark.fingerprint}.{mark.type}"


def _mark(place: str | None) -> Mark | None:
    if place is None:
        return None
    since, tenant_id, fingerprint, job_type = place.split(".", 3)
    return Mark(_moment(since), job_type, fingerprint, UUID(tenant_id))


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _moment(microseconds: str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))
