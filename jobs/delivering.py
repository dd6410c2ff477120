"""The two short transactions around the call of a webhook: what is sent and with which secrets, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from jobs import receivers, signing, webhook_secrets, webhooks
from jobs.outcomes import Permanent
from jobs.receivers import Sign
from models import gate, identity, moves, queries, webhook_deliveries, webhook_endpoints
from models.gate import Gate
from models.ids import new_id
from models.job import Ref
from models.moves.telling import Receiver
from models.states import Move
from models.webhook_deliveries import Answered, NewDelivery
from models.webhook_endpoints import Endpoint

MOST_WAITS = 75
"""So often a delivery waits for a secret that cannot be opened: three days in all, as long as one is tried."""
LONGEST_WAIT = timedelta(hours=1)
GONE = 410
"""The answer of a receiver that wants nothing any more."""


class SecretLost(Exception):  # noqa: N818
    """No secret of the endpoint can be opened, so that nothing can be signed."""

    def __init__(self) -> None:
        super().__init__(
            "No secret of this webhook can be opened. Was JOBMILL_SECRET_KEY changed? Then rotate the secret."
        )


class CalledOff(Exception):  # noqa: N818
    """The endpoint was deleted meanwhile, so that nobody is to be told any more."""

    def __init__(self) -> None:
        super().__init__("The webhook endpoint was deleted.")


@dataclass(frozen=True)
class Parcel:
    """What an attempt sends: this body to this URL, signed by these secrets."""

    receiver: Receiver
    event_id: UUID
    body: bytes = field(repr=False)
    secrets: Sequence[str] = field(repr=False)

    @property
    def message_id(self) -> str:
        """The event's id as receivers see it, the same over every retry and redelivery."""
        return f"evt_{self.event_id.hex}"


def prepare(session: Session, pepper: bytes, delivery_id: UUID) -> Parcel:
    """What to send for a delivery. Raises Permanent if it cannot be sent any more, CalledOff, SecretLost.

    Raises WrongSecretKey where a secret would have to be made.
    """
    kept = webhook_deliveries.parcel(session, delivery_id)
    if kept is None:
        raise Permanent("There is no webhook delivery of this job's id.", "no-such-delivery")
    receiver = Receiver(kept.tenant_id, _url(kept, _endpoint(session, kept)), kept.endpoint_id)
    return Parcel(receiver, kept.event_id, kept.body, _secrets(session, pepper, kept))


def call_off(session: Session, ref: Ref, why: str) -> None:
    """Ask for the delivery's own job to be cancelled; its handler stops then. Nothing if the job has moved on."""
    if webhook_deliveries.keep_answer(session, ref, Answered(0, failure=why)):
        moves.cancel(session, [ref.id], f"job:{ref.id}")


def give_up(session: Session, ref: Ref, why: str) -> None:
    """Keep why nothing is sent any more, instead of what came of the attempt before."""
    webhook_deliveries.keep_answer(session, ref, Answered(0, failure=why))


def put_off(session: Session, ref: Ref, why: str) -> timedelta | None:
    """Keep why nothing can be sent now; gives how long to wait, None if it has waited as often as it may."""
    webhook_deliveries.keep_answer(session, ref, Answered(0, failure=why))
    return until_mended(queries.moves_because(session, ref.id, Move.SNOOZE, why))


def until_mended(times: int) -> timedelta | None:
    """How long to wait for an operator after so many times: a minute at first, twice as long each time, then hours."""
    if times >= MOST_WAITS:
        return None
    return min(timedelta(minutes=1) * (1 << min(times, 6)), LONGEST_WAIT)


def keep(session: Session, ref: Ref, receiver: Receiver, answered: Answered, sign: Sign) -> None:
    """Keep what came of an attempt, and draw the conclusions for its receiver; nothing if the job has moved on."""
    if not webhook_deliveries.keep_answer(session, ref, answered):
        return
    if sign is Sign.SUCCESS:
        # Of a receiver that does well nothing is written: its deliveries would wait for each other's commits.
        known = gate.find(session, receiver.gate.id)
        if known is None or receivers.after(known, sign) == known:
            return
    before = gate.hold(session, receiver.gate)
    if not _still_leads_there(session, receiver):
        return
    after = receivers.after(before, sign)
    gate.change(session, after)
    if receiver.endpoint_id is not None and (reason := _why_to_disable(answered, after)):
        webhooks.disable(session, receiver.endpoint_id, f"job:{ref.id}", reason)


def _still_leads_there(session: Session, receiver: Receiver) -> bool:
    """Whether what was called is what the endpoint names now; while its gate is held, nobody changes that."""
    if receiver.endpoint_id is None:
        return True
    endpoint = webhook_endpoints.find(session, receiver.endpoint_id, None)
    return endpoint is not None and endpoint.url == receiver.url


def _why_to_disable(answered: Answered, found: Gate) -> str | None:
    if answered.status_code == GONE:
        return "It answered 410 Gone."
    if receivers.given_up(found):
        return f"Nothing but failures for {receivers.GIVEN_UP_AFTER.days} days."
    return None


def _endpoint(session: Session, kept: NewDelivery) -> Endpoint | None:
    if kept.endpoint_id is None:
        return None
    endpoint = webhook_endpoints.find(session, kept.endpoint_id, None)
    if endpoint is None:
        raise CalledOff
    if not endpoint.enabled and kept.event != webhooks.TEST:
        reason = f"The webhook endpoint is disabled: {endpoint.disabled_reason or 'it was never enabled.'}"
        raise Permanent(reason, "endpoint-disabled")
    return endpoint


def _url(kept: NewDelivery, endpoint: Endpoint | None) -> str:
    if endpoint is not None:
        return endpoint.url
    if kept.url is None:
        raise Permanent("The delivery has neither an endpoint nor a URL.", "no-such-endpoint")
    return kept.url


def _secrets(session: Session, pepper: bytes, kept: NewDelivery) -> list[str]:
    """The secrets that sign now. For URLs that come with jobs a tenant gets its first when it is needed."""
    sealed = webhook_endpoints.secrets(session, kept.tenant_id, kept.endpoint_id)
    if not sealed and kept.endpoint_id is None:
        identity.hold_tenant(session, kept.tenant_id)
        sealed = webhook_endpoints.secrets(session, kept.tenant_id, None)  # somebody may have made it just now
    if not sealed and kept.endpoint_id is None:
        first = signing.new_secret()
        webhook_secrets.add_secret(session, pepper, kept.tenant_id, None, first, new_id())
        return [first]
    opened = [secret for one in sealed if (secret := webhook_secrets.opened(pepper, one)) is not None]
    if not opened:
        raise SecretLost
    return opened
