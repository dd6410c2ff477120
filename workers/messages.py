"""What travels through the broker: "start these jobs now", by id and lease, and nothing else.

A message is `{"run": [["<job id>", <lease>], ...]}`. Everything a worker needs it reads from the rows, so
a lost, doubled or forged message can cost time but never change a job.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import orjson
from dramatiq import Message

from models.job import Ref
from models.undeliverable import UndeliverableReason

ACTOR = "run"
MOST_REFS = 100
_LARGEST_BODY = 64 * 1024
_LARGEST_LEASE = 2**63 - 1


class BadMessage(ValueError):  # noqa: N818
    """A message that is not one of ours; the text says what is wrong with it, and `reason` of which kind that is."""

    def __init__(self, message: str, reason: UndeliverableReason = UndeliverableReason.FOREIGN) -> None:
        super().__init__(message)
        self.reason = reason


def encode(refs: Sequence[Ref]) -> bytes:
    """The body of a message that starts these jobs."""
    return orjson.dumps({ACTOR: [[ref.id.hex, ref.lease] for ref in refs]})


def decode(body: bytes) -> list[Ref]:
    """The jobs that a body names, 1 to 100; raises BadMessage for anything that `encode` cannot have made."""
    if len(body) > _LARGEST_BODY:
        raise BadMessage(
            f"the body has {len(body)} bytes, at most {_LARGEST_BODY} are read", UndeliverableReason.TOO_LARGE
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadMessage(f"the body is no JSON: {error}", UndeliverableReason.UNDECODABLE) from None
    match document:
        case {"run": [_, *_] as items} if len(document) == 1 and len(items) <= MOST_REFS:
            return [_ref(item) for item in items]
        case {"actor_name": str(actor)}:
            raise BadMessage(
                f"it is for an actor {actor!r}, and ours is no actor"[:200], UndeliverableReason.UNKNOWN_ACTOR
            )
    raise BadMessage(f'the body is not {{"run": [[id, lease], ...]}} with 1 to {MOST_REFS} jobs')


def dramatiq_message(queue: str, refs: Sequence[Ref]) -> Message[None]:
    """The message as Dramatiq's worker passes it to our one actor."""
    return Message(
        queue_name=queue, actor_name=ACTOR, args=(list(refs),), kwargs={}, options={}, message_id=str(uuid4())
    )


def _ref(item: Any) -> Ref:
    match item:
        case [str(job_id), int(lease)] if 0 < lease <= _LARGEST_LEASE and not isinstance(lease, bool):
            try:
                return Ref(UUID(job_id), lease)
            except ValueError:
                pass
    raise BadMessage(f"{item!r} is no [job id, lease]"[:200])
