"""What is to become of messages that RabbitMQ put aside, and the one transaction that makes it so.

A message is acknowledged after the commit. One that comes again, because the dispatcher died between the two, is
known by the digest of all that is in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from models import moves, queries, undeliverable
from models.job import Ref
from models.undeliverable import MOST_BODY_BYTES, Undeliverable, UndeliverableReason
from workers.dead_queues import Arrival
from workers.messages import BadMessage, decode

_LIMIT_REACHED = "delivery_limit"


@dataclass(frozen=True)
class Judged:
    """What a message says: the jobs it names, or else why it starts none."""

    arrival: Arrival
    refs: tuple[Ref, ...]
    reason: UndeliverableReason
    detail: str

    def names_any(self, ids: Iterable[UUID]) -> bool:
        """Whether it is about one of these jobs."""
        return not {ref.id for ref in self.refs}.isdisjoint(ids)

    def kept_already(self, digests: Iterable[bytes]) -> bool:
        """Whether it comes again and is among these; what was never handed out before is new, whatever it is like."""
        return self.arrival.redelivered and self.arrival.digest in digests

    def row(self, message_id: UUID) -> Undeliverable:
        """It as it is kept."""
        arrival = self.arrival
        return Undeliverable(
            id=message_id,
            queue=arrival.queue,
            reason=self.reason,
            detail=self.detail,
            body=arrival.body[:MOST_BODY_BYTES],
            body_bytes=len(arrival.body),
            headers=arrival.headers,
            properties=arrival.properties,
            dead_lettered_at=arrival.dead_lettered_at,
            digest=arrival.digest,
        )


@dataclass(frozen=True)
class Collected:
    """What became of a batch: claims released and found stale; messages kept, kept before, and deleted for newer."""

    released: int
    stale: int
    undeliverable: int
    again: int
    forgotten: int


def judged(arrival: Arrival) -> Judged:
    """The message read. Of one that names jobs, the reason is for the case that none of them is there."""
    try:
        refs = tuple(decode(arrival.body))
    except BadMessage as error:
        return Judged(arrival, (), error.reason, str(error))
    if arrival.why == _LIMIT_REACHED:
        detail = "RabbitMQ handed it out as often as it may, and no job that it names is there"
        return Judged(arrival, refs, UndeliverableReason.DELIVERY_LIMIT, detail)
    return Judged(arrival, refs, UndeliverableReason.UNKNOWN_JOB, "no job that it names is there")


def collect(session: Session, batch: Sequence[tuple[Judged, UUID]]) -> Collected:
    """Release the claims of living jobs, if they are still as the message says, and keep what is of no job."""
    there = queries.present(session, list({ref.id for message, _ in batch for ref in message.refs}))
    living = [message for message, _ in batch if message.names_any(there)]
    refs = list(dict.fromkeys(ref for message in living for ref in message.refs))
    released = len(moves.release(session, refs)) if refs else 0
    others = [(message, message_id) for message, message_id in batch if not message.names_any(there)]
    digests = undeliverable.known(session, [message.arrival.digest for message, _ in others])
    kept = [message.row(message_id) for message, message_id in others if not message.kept_already(digests)]
    undeliverable.keep(session, kept)
    kinds = {(row.queue, row.reason) for row in kept}
    forgotten = sum(undeliverable.forget_oldest(session, queue, reason) for queue, reason in sorted(kinds))
    return Collected(released, len(refs) - released, len(kept), len(others) - len(kept), forgotten)
