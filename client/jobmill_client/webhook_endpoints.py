"""What may be done with webhook endpoints: `client.webhook_endpoints`."""

from collections.abc import Iterator, Mapping
from typing import Any, Unpack
from uuid import UUID

from jobmill_client.acting import delete_once
from jobmill_client.connection import Connection
from jobmill_client.paths import id_in_path
from jobmill_client.webhooks import (
    EndpointChanges,
    EndpointOptions,
    NewWebhookEndpoint,
    RotatedSecret,
    WebhookDelivery,
    WebhookEndpoint,
)

PATH = "/v1/webhook-endpoints"


class WebhookEndpoints:
    """A tenant's webhook endpoints. Each method that names one raises NotFound if it is not there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, url: str, **options: Unpack[EndpointOptions]) -> NewWebhookEndpoint:
        """Have the ends of jobs told to a URL. Its `secret` is told here and never again. Raises InvalidRequest.

        Asked once: after a ConnectionFailed look at `list`, and delete one whose secret was lost on its way.
        """
        answer = self._connection.post(PATH, {"url": url, **options}, repeatable=False)
        return NewWebhookEndpoint.model_validate(answer.document)

    def list(self) -> Iterator[WebhookEndpoint]:
        """The endpoints, newest first."""
        return map(WebhookEndpoint.model_validate, self._connection.items(PATH))

    def get(self, endpoint_id: str | UUID) -> WebhookEndpoint:
        """One of them."""
        return WebhookEndpoint.model_validate(self._connection.get(_path(endpoint_id)).document)

    def update(self, endpoint_id: str | UUID, **changes: Unpack[EndpointChanges]) -> WebhookEndpoint:
        """Change what is told, and nothing else. One that is enabled again begins afresh. Raises InvalidRequest."""
        return WebhookEndpoint.model_validate(self._connection.patch(_path(endpoint_id), changes).document)

    def delete(self, endpoint_id: str | UUID) -> None:
        """Delete it. What waits to be sent there is cancelled."""
        delete_once(self._connection, _path(endpoint_id))

    def rotate_secret(self, endpoint_id: str | UUID, *, overlap_seconds: int | None = None) -> RotatedSecret:
        """Sign with a new secret from now on, and for so long (a day, unless it says otherwise) with the old one too.

        Asked once: after a ConnectionFailed rotate again, since nobody knows the secret that may have been made.
        """
        body = _given(overlap_seconds=overlap_seconds)
        answer = self._connection.post(f"{_path(endpoint_id)}/rotate-secret", body, repeatable=False)
        return RotatedSecret.model_validate(answer.document)

    def test(self, endpoint_id: str | UUID) -> WebhookDelivery:
        """Send `webhook.test` there, also if it is disabled; read the delivery again to see what came of it."""
        answer = self._connection.post(f"{_path(endpoint_id)}/test", repeatable=False)
        return WebhookDelivery.model_validate(answer.document)

    def deliveries(self, endpoint_id: str | UUID, *, page_size: int = 100) -> Iterator[WebhookDelivery]:
        """What was sent there or waits to be, newest first; each page is read when it is needed."""
        items = self._connection.items(f"{_path(endpoint_id)}/deliveries", {"limit": page_size})
        return map(WebhookDelivery.model_validate, items)


def _path(endpoint_id: str | UUID) -> str:
    return f"{PATH}/{id_in_path(endpoint_id)}"


def _given(**members: Any) -> Mapping[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
