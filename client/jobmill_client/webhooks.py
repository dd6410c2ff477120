"""Webhooks, as types: where Jobmill calls at a job's end, and what came of each call."""

from collections.abc import Sequence
from datetime import datetime
from typing import NotRequired, TypedDict

from pydantic import Field

from jobmill_client.documents import Document


class JobWebhook(TypedDict):
    """Where to call at the end of one job; `events` are the usual three unless it says otherwise."""

    url: str
    events: NotRequired[Sequence[str]]


class EndpointChanges(TypedDict, total=False):
    """What may be said of an endpoint; `types` are names of job types or patterns such as `csv.*`, None: all."""

    url: str
    events: Sequence[str]
    types: Sequence[str] | None
    description: str
    enabled: bool


class EndpointOptions(TypedDict, total=False):
    """What may be said of a new endpoint besides its URL; a platform key names the `tenant` that it is for."""

    events: Sequence[str]
    types: Sequence[str] | None
    description: str
    enabled: bool
    tenant: str


class RotationOptions(TypedDict, total=False):
    """For how long the secrets before sign too; a platform key names the `tenant` where no endpoint does."""

    overlap_seconds: int
    tenant: str


class WebhookEndpoint(Document):
    """An endpoint as it was when it was read; `held_until`: nothing is sent before then, since it gave no answer."""

    id: str
    tenant_id: str
    url: str
    events: list[str]
    types: list[str] | None
    description: str
    enabled: bool
    disabled_reason: str | None
    created_at: datetime
    created_by: str
    failing_since: datetime | None
    held_until: datetime | None


class NewWebhookEndpoint(WebhookEndpoint):
    """An endpoint that was just made, with the secret that signs what is sent there: it is told this once."""

    secret: str = Field(repr=False)


class RotatedSecret(Document):
    """A secret, told this once; those before sign too until `previous_valid_until`."""

    secret: str = Field(repr=False)
    previous_valid_until: datetime | None


class WebhookDelivery(Document):
    """An event on its way to one receiver, and what came of the last attempt. Its id is that of a job, too."""

    id: str
    endpoint_id: str | None
    url: str | None
    event_id: str
    event: str
    job_id: str | None
    status: str
    attempts: int
    max_attempts: int
    next_attempt_at: datetime | None
    response_code: int | None
    response_body: str | None
    duration_ms: int | None
    failure: str | None
    created_at: datetime
    answered_at: datetime | None

    @property
    def delivered(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status == "delivered"
