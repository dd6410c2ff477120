"""What may be done with webhook deliveries, and with the secret of those to URLs that come with jobs."""

from collections.abc import Iterator
from typing import Unpack
from uuid import UUID

from jobmill_client.connection import Connection
from jobmill_client.paths import id_in_path
from jobmill_client.webhooks import RotatedSecret, RotationOptions, WebhookDelivery

PATH = "/v1/webhook-deliveries"


class WebhookDeliveries:
    """A tenant's webhook deliveries: `client.webhook_deliveries`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, *, job_id: str | UUID | None = None, page_size: int = 100) -> Iterator[WebhookDelivery]:
        """Deliveries, newest first, or those that tell of a job; each page is read when it is needed."""
        params = {"job_id": None if job_id is None else id_in_path(job_id), "limit": page_size}
        return map(WebhookDelivery.model_validate, self._connection.items(PATH, params))

    def get(self, delivery_id: str | UUID) -> WebhookDelivery:
        """One of them, as it is now. Raises NotFound."""
        return WebhookDelivery.model_validate(self._connection.get(f"{PATH}/{id_in_path(delivery_id)}").document)

    def redeliver(self, delivery_id: str | UUID) -> WebhookDelivery:
        """Send it once more, with the same event id and body. Raises NotFound, and Conflict while it is being sent.

        One that waits is sent now, a dead letter is replayed; one that is over is sent by a delivery of its own, which
        this gives. Asked once: after a ConnectionFailed look at the deliveries.
        """
        answer = self._connection.post(f"{PATH}/{id_in_path(delivery_id)}/redeliver", repeatable=False)
        return WebhookDelivery.model_validate(answer.document)

    def rotate_secret(self, **options: Unpack[RotationOptions]) -> RotatedSecret:
        """Sign what goes to URLs that come with jobs with a new secret. Who wants to verify it rotates first.

        Asked once, as that of an endpoint.
        """
        answer = self._connection.post("/v1/webhook-secret/rotate", options, repeatable=False)
        return RotatedSecret.model_validate(answer.document)
