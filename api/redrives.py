"""The doors to redrives: preview one, start it, steer it, follow it."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint
from pydantic import BaseModel, Field

from api import examples
from api.dead_documents import dead_group_document, dead_letter_document
from api.dead_letters import DeadLetterFilter
from api.endpoint import Call, Reply, endpoint
from api.jobs import job_uuid
from api.lists import ListQuery, page
from api.patience import PATIENCE
from api.problems import Problem
from api.redrive_documents import PreviewDocument, RedriveDocument, redrive_document
from jobs import redrives
from jobs.redrives import Asked
from jobs.scopes import Scope
from jobs.whole_numbers import WHOLE
from models.dead_letters import DeadFilter
from models.ids import new_id
from models.redrives import Action, Seen, list_redrives

blueprint = Blueprint("redrives", __name__, url_prefix="/v1/redrives")

FASTEST = 1000
SLOWEST = 0.01
LONGEST_RAMP_SECONDS = 24 * 3600


class RedriveBody(BaseModel, extra="forbid", json_schema_extra={"examples": [examples.REDRIVE_REQUEST]}):
    """What POST /v1/redrives takes."""

    action: Action = Action.REPLAY
    filter: Annotated[DeadLetterFilter, Field(description="As the list of dead letters has it; `{}` means all.")]
    rate_per_second: Annotated[float, Field(ge=SLOWEST, le=FASTEST, strict=True)] = 50
    ramp_seconds: Annotated[
        float, Field(ge=0, le=LONGEST_RAMP_SECONDS, strict=True, description="Until the full rate, from nothing on.")
    ] = 0
    abort_when_failure_ratio: Annotated[
        Annotated[float, Field(gt=0, le=1, strict=True)] | None,
        Field(description="When this share of the last 50 that were answered died again; null: never."),
    ] = 0.5
    priority: Annotated[
        Annotated[int, Field(ge=-100, le=100), WHOLE] | None,
        Field(description="At which replayed jobs run, below new ones unless you say so; null: each at its own."),
    ] = -100
    dry_run: Annotated[bool, Field(strict=True, description="Tell what would be done, and do nothing.")] = False

    def asked(self, tenant_id: UUID | None) -> Asked:
        """The redrive as the domain takes it."""
        told: dict[str, Any] = self.filter.model_dump(mode="json", exclude_none=True)
        kept = {name: getattr(self, name) for name in RedriveBody.model_fields if name not in {"filter", "dry_run"}}
        return Asked(wanted=self.filter.wanted(tenant_id), filter=told, **kept)


@endpoint(
    blueprint,
    "POST",
    "",
    scope=Scope.DEAD_LETTERS_WRITE,
    body=RedriveBody,
    reply=RedriveDocument | PreviewDocument,
    status=202,
    also=(200,),
    problems=("too-many-letters",),
    gives={"Location": "The redrive's address; missing after a dry run."},
)
def create_redrive(call: Call) -> Reply:
    """Replay or discard the dead letters that match now.

    They are pinned: none that dies later, or again, is added, and none is replayed twice. A dry run answers 200 with
    what matches; else the answer is 202 with the redrive, which is a job of its own.
    """
    asked = call.body.asked(call.principal.tenant_id)
    if call.body.dry_run:
        # Not within this transaction, which writes the audit log: SQLite has one writer.
        return Reply(None, detail={"dry_run": True}, later=partial(_preview, call, asked.wanted))
    redrive_id = call.once(new_id)
    try:
        seen = redrives.start(call.session, call.principal, asked, redrive_id)
    except redrives.TooManyLetters as error:
        raise Problem("too-many-letters", str(error)) from None
    document = redrive_document(seen, seen.redrive)
    settings = {name: document[name] for name in RedriveBody.model_fields if name != "dry_run"}  # type: ignore[literal-required]
    told = {"count": seen.redrive.matched, **settings}
    return Reply(document, 202, {"Location": f"/v1/redrives/{redrive_id}"}, rings=True, detail=told)


def _preview(call: Call, wanted: DeadFilter) -> Reply:
    found = call.services.database.read(lambda session: redrives.preview(session, wanted), PATIENCE)
    document: PreviewDocument = {
        "matched": found.matched,
        "groups": [dead_group_document(group) for group in found.groups],
        "samples": [dead_letter_document(job) for job in found.samples],
    }
    return Reply(document)


@endpoint(blueprint, "GET", "", scope=Scope.DEAD_LETTERS_READ, query=ListQuery, lists=RedriveDocument)
def list_all_redrives(call: Call) -> Reply:
    """The tenant's redrives, newest first; their counts are as of their last step."""

    def read(before: UUID | None, limit: int) -> list[Seen]:
        return list_redrives(call.session, call.principal.tenant_id, before, limit)

    return page(call, "redrives", read, lambda seen: seen.redrive.id, lambda seen: redrive_document(seen, seen.redrive))


@endpoint(blueprint, "GET", "/<redrive_id>", scope=Scope.DEAD_LETTERS_READ, reply=RedriveDocument)
def get_redrive(call: Call, redrive_id: str) -> Reply:
    """A redrive, and how far it is."""
    seen = redrives.find(call.session, call.principal, _redrive_uuid(redrive_id))
    return Reply(redrive_document(seen, redrives.up_to_date(call.session, seen)))


def _steering(move: str) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    return endpoint(
        blueprint,
        "POST",
        f"/<redrive_id>/{move}",
        scope=Scope.DEAD_LETTERS_WRITE,
        reply=RedriveDocument,
        problems=("redrive-ended",),
    )


@_steering("pause")
def pause_redrive(call: Call, redrive_id: str) -> Reply:
    """Have it handle no further letter until it is resumed, within a second."""
    return _steered(call, redrive_id, redrives.pause)


@_steering("resume")
def resume_redrive(call: Call, redrive_id: str) -> Reply:
    """Have it go on, at its pace."""
    return _steered(call, redrive_id, redrives.resume)


@_steering("cancel")
def cancel_redrive(call: Call, redrive_id: str) -> Reply:
    """Have it end; letters that it replayed stay replayed."""
    return _steered(call, redrive_id, redrives.cancel)


def _steered(call: Call, redrive_id: str, steer: Any) -> Reply:
    wanted = _redrive_uuid(redrive_id)
    before, _ = redrives.state_of(redrives.find(call.session, call.principal, wanted))
    try:
        seen: Seen = steer(call.session, call.principal, wanted)
    except redrives.Ended as error:
        raise Problem("redrive-ended", str(error)) from None
    told: dict[str, Any] = {"before": {"state": before}, "after": {"state": redrives.state_of(seen)[0]}}
    told["count"] = seen.redrive.matched - seen.redrive.handled
    return Reply(redrive_document(seen, seen.redrive), rings=True, tenant_id=seen.redrive.tenant_id, detail=told)


def _redrive_uuid(text: str) -> UUID:
    try:
        return job_uuid(text)
    except LookupError:
        raise redrives.NoSuchRedrive(f"There is no redrive {text[:64]}.") from None
