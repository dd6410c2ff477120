"""The door to a tenant's own webhook secret, which signs what goes to URLs that come with jobs."""

from datetime import timedelta

from flask import Blueprint

from api import webhook_examples
from api.endpoint import Call, Reply, endpoint
from api.owners import OwnedBody, owner
from api.webhook_documents import RotatedSecretDocument
from api.webhook_endpoints import Overlap, rotated_reply
from jobs import signing, webhook_secrets
from jobs.scopes import Scope

blueprint = Blueprint("webhook_secret", __name__, url_prefix="/v1/webhook-secret")


class RotateOwnBody(OwnedBody, json_schema_extra={"examples": [webhook_examples.ROTATE_SECRET]}):
    """What POST /v1/webhook-secret/rotate takes."""

    overlap_seconds: Overlap = int(webhook_secrets.OVERLAP.total_seconds())


@endpoint(
    blueprint,
    "POST",
    "/rotate",
    scope=Scope.WEBHOOKS_WRITE,
    body=RotateOwnBody,
    reply=RotatedSecretDocument,
)
def rotate_webhook_secret(call: Call) -> Reply:
    """Sign what goes to URLs that come with jobs with a new secret, and for a while with those before it too.

    The first secret of a tenant is made when it is needed, and shown to nobody: rotate it to know it.
    """
    secret, tenant_id = call.once(signing.new_secret), owner(call)
    overlap = timedelta(seconds=call.body.overlap_seconds)
    webhook_secrets.rotate(call.session, call.services.pepper(call.session), tenant_id, None, secret, overlap)
    return rotated_reply(call, secret, tenant_id, None)
