"""The Python client of Jobmill: submit jobs, wait for them, get their results.

Start with `Client`; every error is a `JobmillError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jobmill_client.errors import (
    AnswerTooLarge,
    ApiError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    InvalidRequest,
    JobFailed,
    JobmillError,
    NotFound,
    RateLimited,
    RequestTooLarge,
    ServerError,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    WaitTimedOut,
)

if TYPE_CHECKING:
    from jobmill_client.answers import Answer
    from jobmill_client.client import Client
    from jobmill_client.connection import Connection
    from jobmill_client.dead_letters import DeadGroup, DeadLetter, WholeDeadLetter
    from jobmill_client.documents import Event, Explanation, Failure, Job, JobType, Progress, Reason, Worker
    from jobmill_client.queues import Queue
    from jobmill_client.redrives import Redrive, RedrivePreview
    from jobmill_client.submissions import BatchItem, Submission
    from jobmill_client.undeliverable import Undeliverable, WholeUndeliverable
    from jobmill_client.webhooks import NewWebhookEndpoint, RotatedSecret, WebhookDelivery, WebhookEndpoint

__all__ = [
    "Answer",
    "AnswerTooLarge",
    "ApiError",
    "BatchItem",
    "Client",
    "Conflict",
    "Connection",
    "ConnectionFailed",
    "DeadGroup",
    "DeadLetter",
    "Event",
    "Explanation",
    "Failure",
    "Forbidden",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "JobType",
    "JobmillError",
    "NewWebhookEndpoint",
    "NotFound",
    "Progress",
    "Queue",
    "RateLimited",
    "Reason",
    "Redrive",
    "RedrivePreview",
    "RequestTooLarge",
    "RotatedSecret",
    "ServerError",
    "Submission",
    "Unauthorized",
    "Unavailable",
    "Undeliverable",
    "UnexpectedAnswer",
    "WaitTimedOut",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WholeDeadLetter",
    "WholeUndeliverable",
    "Worker",
]

# Imported when first named, so that a command which needs the connection only does not pay for pydantic.
_LATER = {
    "Answer": "answers",
    "Connection": "connection",
    "Client": "client",
    "DeadGroup": "dead_letters",
    "DeadLetter": "dead_letters",
    "WholeDeadLetter": "dead_letters",
    "Event": "documents",
    "Explanation": "documents",
    "Failure": "documents",
    "Job": "documents",
    "JobType": "documents",
    "Progress": "documents",
    "Reason": "documents",
    "Worker": "documents",
    "Redrive": "redrives",
    "RedrivePreview": "redrives",
    "Queue": "queues",
    "BatchItem": "submissions",
    "Submission": "submissions",
    "Undeliverable": "undeliverable",
    "WholeUndeliverable": "undeliverable",
    "NewWebhookEndpoint": "webhooks",
    "RotatedSecret": "webhooks",
    "WebhookDelivery": "webhooks",
    "WebhookEndpoint": "webhooks",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
