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
    from jobmill_client.documents import Event, Failure, Job, JobType, Progress, Worker
    from jobmill_client.submissions import BatchItem, Submission

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
    "Failure",
    "Forbidden",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "JobType",
    "JobmillError",
    "NotFound",
    "Progress",
    "RateLimited",
    "RequestTooLarge",
    "ServerError",
    "Submission",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "WaitTimedOut",
    "WholeDeadLetter",
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
    "Failure": "documents",
    "Job": "documents",
    "JobType": "documents",
    "Progress": "documents",
    "Worker": "documents",
    "BatchItem": "submissions",
    "Submission": "submissions",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
