"""What requests say of webhooks: to which URL, of which events, for jobs of which types."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from api import examples
from api.problems import Flaw
from api.services import Services
from jobs import webhook_urls
from jobs.outcomes import Json
from jobs.webhook_urls import MOST_CHARACTERS, REFUSED, Reach
from jobs.webhooks import USUAL_EVENTS

MOST_TYPES = 50

Event = Literal["job.succeeded", "job.dead", "job.cancelled", "job.discarded"]
_EACH_ONCE = {"uniqueItems": True}


def _each_once(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise ValueError("each is named once")
    return values


Url = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MOST_CHARACTERS),
    Field(description="Where to, by https; checked now, and at each connection for the address that it leads to."),
]
Events = Annotated[list[Event], Field(min_length=1, json_schema_extra=_EACH_ONCE), AfterValidator(_each_once)]
# Stars as anywhere else; no other sign means more than itself.
TypePattern = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.*]{1,100}$")]
Types = Annotated[
    list[TypePattern],
    Field(
        min_length=1,
        max_length=MOST_TYPES,
        json_schema_extra=_EACH_ONCE,
        description="Of jobs of which types: names, or patterns such as `csv.*`; null: of all.",
    ),
    AfterValidator(_each_once),
]


def usual_events() -> list[Any]:
    """The events that are meant by whoever names none."""
    return list(USUAL_EVENTS)


class JobWebhook(BaseModel, extra="forbid", strict=True, json_schema_extra={"examples": [examples.JOB_WEBHOOK]}):
    """Who is told of a job's end besides the tenant's webhook endpoints."""

    url: Url
    events: Events = Field(default_factory=usual_events)


def reach(services: Services) -> Reach:
    """Where webhooks may be sent to from here."""
    settings = services.settings
    return Reach(settings.webhook_allow_http, settings.webhook_allowed_networks)


def url_flaws(services: Services, document: Json) -> list[Flaw]:
    """What is wrong with the `url` of a body, as far as its form lets one see."""
    url = document.get("url") if isinstance(document, dict) else None
    why = webhook_urls.refusal(url, reach(services)) if isinstance(url, str) else None
    return [] if why is None else [Flaw("body", "/url", REFUSED, why)]
