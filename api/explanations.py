"""How the reasons why a job is where it is look in JSON."""

from typing import Annotated, Any

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api import examples, health
from api.documents import Id, Instant, shown
from api.services import Services
from jobs.explain import explain
from jobs.reasons import Reason, Why
from models.documents import moment, moment_or_none
from models.job import Job
from models.standing import Standing
from models.states import State

_ON_THE_WAY = {State.QUEUED, State.DISPATCHED}


class ReasonDocument(TypedDict):
    """A reason."""

    reason: Why
    message: Annotated[str, Field(description="The same in a sentence.")]
    since: Annotated[Instant | None, Field(description="Since when it holds, where that is known.")]
    until: Annotated[Instant | None, Field(description="When it is over at the latest, where that is known.")]
    detail: Annotated[dict[str, Any], Field(description="Its figures and names; which, depends on the reason.")]


@with_config(shown(examples.EXPLANATION))
class ExplanationDocument(ReasonDocument):
    """Why a job is where it is."""

    job_id: Id
    state: State
    also: Annotated[list[ReasonDocument], Field(description="What would keep it as well, without the first.")]
    at: Annotated[Instant, Field(description="When all this was so, by the database's clock.")]


def explanation_document(known: Standing, *, broker_away: bool, gate_width: int) -> ExplanationDocument:
    """The explanation of what is known of a job."""
    first, *others = explain(known, broker_away=broker_away, gate_width=gate_width)
    return {
        "job_id": str(known.job.id),
        "state": known.job.state,
        **_reason(first),
        "also": [_reason(other) for other in others],
        "at": moment(known.now),
    }


def broker_is_away(services: Services, job: Job) -> bool:
    """Whether RabbitMQ does not answer, if that matters to the job; may wait for that, so not within a transaction."""
    return job.state in _ON_THE_WAY and health.checks(services).get("rabbitmq") == "down"


def _reason(reason: Reason) -> ReasonDocument:
    return {
        "reason": reason.why,
        "message": reason.message,
        "since": moment_or_none(reason.since),
        "until": moment_or_none(reason.until),
        "detail": reason.detail,
    }
