"""The doors to messages that RabbitMQ could not deliver and that start no job: read and discard them."""

import base64
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Blueprint
from pydantic import Field, with_config
from typing_extensions import TypedDict

from api import examples
from api.documents import Id, Instant, shown
from api.endpoint import Call, Reply, endpoint
from api.lists import ListQuery, page
from api.submission import Word
from jobs import undeliverable
from jobs.scopes import Scope
from models.documents import moment, moment_or_none
from models.undeliverable import Undeliverable, UndeliverableReason

blueprint = Blueprint("undeliverable", __name__, url_prefix="/v1/undeliverable")

_LONGEST_CHARACTER = 4
"""Bytes of one in UTF-8, of which the end of a body that is cut off may lack some."""


@with_config(shown(examples.UNDELIVERABLE))
class UndeliverableDocument(TypedDict):
    """A message that RabbitMQ put aside and that starts no job."""

    id: Id
    queue: Annotated[str, Field(description="The queue of jobs that it came to.")]
    reason: UndeliverableReason
    detail: Annotated[str, Field(description="What is wrong with it, for people.")]
    body_bytes: Annotated[int, Field(description="How long its body was.")]
    dead_lettered_at: Annotated[Instant | None, Field(description="When RabbitMQ put it aside, to the second.")]
    collected_at: Annotated[Instant, Field(description="When it was taken from RabbitMQ.")]


@with_config(shown(examples.WHOLE_UNDELIVERABLE))
class WholeUndeliverableDocument(UndeliverableDocument):
    """A message that RabbitMQ put aside, with all that is kept of it."""

    body: Annotated[str, Field(description="As it came, or the first 64 KiB of it.")]
    body_encoding: Annotated[Literal["utf-8", "base64"], Field(description="`base64` where the body is no text.")]
    truncated: Annotated[bool, Field(description="Whether the body was longer than what is kept of it.")]
    headers: Annotated[dict[str, Any], Field(description="RabbitMQ's `x-death` tells where it has been.")]
    properties: Annotated[dict[str, Any], Field(description="Those of AMQP that its publisher set, as `app_id`.")]


class UndeliverableQuery(ListQuery):
    """What GET /v1/undeliverable takes."""

    queue: Word | None = None
    reason: UndeliverableReason | None = None


@endpoint(blueprint, "GET", "", scope=Scope.DEAD_LETTERS_READ, query=UndeliverableQuery, lists=UndeliverableDocument)
def list_undeliverable(call: Call) -> Reply:
    """Messages that RabbitMQ could not deliver and that start no job, newest first.

    They are of no tenant: a platform key sees them, and to a tenant's key there are none.
    """
    asked = call.query
    return page(
        call,
        "undeliverable messages",
        lambda before, limit: undeliverable.found(
            call.session, call.principal, asked.queue, asked.reason, before, limit
        ),
        lambda message: message.id,
        undeliverable_document,
    )


@endpoint(blueprint, "GET", "/<message_id>", scope=Scope.DEAD_LETTERS_READ, reply=WholeUndeliverableDocument)
def get_undeliverable(call: Call, message_id: str) -> Reply:
    """A message that RabbitMQ could not deliver, with its body, headers and properties."""
    return Reply(whole_undeliverable_document(undeliverable.find(call.session, call.principal, _uuid(message_id))))


@endpoint(blueprint, "DELETE", "/<message_id>", scope=Scope.DEAD_LETTERS_WRITE, status=204)
def discard_undeliverable(call: Call, message_id: str) -> Reply:
    """Delete a message for good; nothing else is kept of it than the entry in the audit log."""
    message = call.once(lambda: undeliverable.find(call.session, call.principal, _uuid(message_id)))
    undeliverable.discard(call.session, message, again=call.tries > 1)
    return Reply(None, 204, detail={"count": 1, "before": undeliverable_document(message), "after": None})


def undeliverable_document(message: Undeliverable) -> UndeliverableDocument:
    """A message as a list tells of it."""
    return {
        "id": str(message.id),
        "queue": message.queue,
        "reason": message.reason,
        "detail": message.detail,
        "body_bytes": message.body_bytes,
        "dead_lettered_at": moment_or_none(message.dead_lettered_at),
        "collected_at": moment(message.collected_at),
    }


def whole_undeliverable_document(message: Undeliverable) -> WholeUndeliverableDocument:
    """A message with all that is kept of it."""
    truncated = message.body_bytes > len(message.body)
    text = _text(message.body, truncated=truncated)
    return {
        **undeliverable_document(message),
        "body": base64.b64encode(message.body).decode() if text is None else text,
        "body_encoding": "base64" if text is None else "utf-8",
        "truncated": truncated,
        "headers": message.headers,
        "properties": message.properties,
    }


def _text(body: bytes, *, truncated: bool) -> str | None:
    """The body if it is UTF-8, but for a last character that was cut off with the rest."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        cut_off = truncated and error.start > len(body) - _LONGEST_CHARACTER
        return body[: error.start].decode() if cut_off else None


def _uuid(text: str) -> UUID:
    """A message's id from a path; what is no id names none."""
    try:
        message_id = UUID(text)
    except ValueError:
        message_id = None
    if message_id is None or str(message_id) != text.lower():
        raise undeliverable.NoSuchMessage(f"There is no undeliverable message {text[:64]}.")
    return message_id
