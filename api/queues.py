"""The doors to queues: see what is in them, pause, resume and limit them."""

from typing import Annotated, Any

from flask import Blueprint
from pydantic import BaseModel, Field

from api import examples
from api.documents import Instant
from api.endpoint import Call, Reply, endpoint
from api.lists import ListQuery, page_by_name
from api.problems import Problem
from api.queue_documents import QueueDocument, queue_document
from jobs import queues
from jobs.scopes import Scope
from models.documents import moment_or_none
from models.queue import LEAST_PER_SECOND, MOST_PER_SECOND, MOST_RUNNING, Queue

blueprint = Blueprint("queues", __name__, url_prefix="/v1/queues")

QUEUE_NAME = {"name": {"description": "The queue's name.", "examples": ["default"]}}
LIMITS = ("max_running", "max_per_second")


MaxRunning = Annotated[int, Field(ge=1, le=MOST_RUNNING, description="Running at once; null takes the limit away.")]
MaxPerSecond = Annotated[
    float,
    Field(
        ge=LEAST_PER_SECOND,
        le=MOST_PER_SECOND,
        description="Begun in a second, fractions allowed; null takes the limit away.",
    ),
]


class LimitsBody(BaseModel, extra="forbid", strict=True, json_schema_extra={"examples": [examples.QUEUE_LIMITS]}):
    """What PATCH /v1/queues/{name} takes; what is left out stays as it is."""

    max_running: MaxRunning | None = None
    max_per_second: MaxPerSecond | None = None


@endpoint(blueprint, "GET", "", scope=Scope.QUEUES_READ, query=ListQuery, lists=QueueDocument)
def list_queues(call: Call) -> Reply:
    """Queues with jobs, workers, limits or a pause, by name.

    A tenant's key sees what is its own in them, and all queues that workers serve or that were paused or limited.
    """
    return page_by_name(
        call,
        "queues",
        lambda behind, limit: queues.overviews(call.session, call.principal, behind, limit),
        lambda found: found.queue.name,
        queue_document,
    )


@endpoint(blueprint, "GET", "/<name>", scope=Scope.QUEUES_READ, path=QUEUE_NAME, reply=QueueDocument)
def get_queue(call: Call, name: str) -> Reply:
    """One queue."""
    return Reply(queue_document(queues.overview(call.session, call.principal, name)))


@endpoint(blueprint, "POST", "/<name>/pause", scope=Scope.QUEUES_WRITE, path=QUEUE_NAME, reply=QueueDocument)
def pause_queue(call: Call, name: str) -> Reply:
    """Let no job of the queue begin until it is resumed; those that run go on. Takes a platform key."""
    (before, after), released = _allowed(lambda: queues.pause(call.session, call.principal, name))
    return _changed(call, before, after, {"released": released})


@endpoint(blueprint, "POST", "/<name>/resume", scope=Scope.QUEUES_WRITE, path=QUEUE_NAME, reply=QueueDocument)
def resume_queue(call: Call, name: str) -> Reply:
    """Let the queue's jobs begin again. Takes a platform key."""
    return _changed(call, *_allowed(lambda: queues.resume(call.session, call.principal, name)))


@endpoint(
    blueprint,
    "PATCH",
    "/<name>",
    scope=Scope.QUEUES_WRITE,
    path=QUEUE_NAME,
    body=LimitsBody,
    reply=QueueDocument,
)
def limit_queue(call: Call, name: str) -> Reply:
    """Let so many of the queue's jobs run at once, or begin in a second, with any number of workers.

    Takes a platform key.
    """
    limits = call.body.model_dump(exclude_unset=True)
    return _changed(call, *_allowed(lambda: queues.limit(call.session, call.principal, name, **limits)))


def _allowed(act: Any) -> Any:
    try:
        return act()
    except queues.Shared as error:
        raise Problem("forbidden", str(error)) from None


def _changed(call: Call, before: Queue, after: Queue, further: dict[str, Any] | None = None) -> Reply:
    told = {"before": _told(before), "after": _told(after), **(further or {})}
    shown = queue_document(queues.overview(call.session, call.principal, after.name))
    return Reply(shown, rings=True, detail={"count": 1, **told})


def _told(queue: Queue) -> dict[str, Instant | float | None]:
    """What the audit log is told of a queue."""
    return {"paused_at": moment_or_none(queue.paused_at), **{name: getattr(queue, name) for name in LIMITS}}
