"""A submission as it comes over HTTP: its form, where it comes from, and what is told when it is refused."""

import re
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Self

from flask import g, request
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from api import examples
from api.endpoint import Call
from api.operation import TakenHeader
from api.problems import Flaw, Problem
from api.schemas import BY_JOB_TYPE
from api.services import Services
from api.webhook_forms import JobWebhook, reach
from jobs import submit
from jobs.outcomes import Json
from jobs.submission import Submission
from jobs.submit import Origin
from jobs.whole_numbers import WHOLE
from models.job import NewJob
from models.metrics import lost_answers
from setting_forms import QUEUE_NAME

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
LONGEST_DELAY_SECONDS = 366 * 24 * 3600


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


STORABLE_YEAR = "^(19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-"
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
    due_at: Annotated[Moment, Field(strict=False, json_schema_extra={"pattern": STORABLE_YEAR})] | None = None
    delay_seconds: Annotated[float, Field(ge=0, le=LONGEST_DELAY_SECONDS)] | None = None
    max_attempts: Annotated[int, Field(ge=1), WHOLE] | None = None
    timeout_seconds: Annotated[int, Field(ge=1), WHOLE] | None = None
    unique_key: Word | None = None
    tags: Annotated[dict[TagName, TagValue], Field(max_length=MOST_TAGS)] = Field(default_factory=dict)
    webhook: JobWebhook | None = None

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
        told = vars(self)
        asked = {name: told[name] for name in _ASKED}
        webhook = None if self.webhook is None else self.webhook.model_dump()
        return Submission(**{**asked, "delay_seconds": self.delay_seconds or 0, "webhook": webhook})


_ASKED = tuple(SubmitBody.model_fields)
"""What a submission takes over; those of a batch have a key besides."""


def examine(services: Services, document: Json) -> list[Flaw]:
    """What is wrong besides the form of a body whose form is wrong."""
    members = document if isinstance(document, dict) else {}
    twice = None not in (members.get("due_at"), members.get("delay_seconds"))
    waits = [Flaw("body", "", "value-error", _NOT_BOTH)] if twice else []
    return waits + [Flaw.in_body(fault) for fault in submit.examine(document, services.registry, reach(services))]


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
    return submit.prepare(asked.submission(), origin, call.services.registry, reach(call.services))
