"""The job type that delivers a webhook: one signed request, tried again for some days until it is answered with 2xx."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from jobs import delivering, metrics, signing
from jobs.builtin.http_outcomes import ANY_SUCCESS, retry_after
from jobs.context import Context
from jobs.delivering import Parcel
from jobs.masking import MASK, masked
from jobs.outbound_errors import OutboundError, RequestInvalid
from jobs.outcomes import CancelRequested, Permanent, RetryLater, Snooze
from jobs.receivers import Sign
from jobs.registry import job
from jobs.retry import Steps, jitter
from jobs.scopes import Scope
from jobs.secret_key import WrongSecretKey
from jobs.serialise import clean_text
from models.crashpoints import crashpoint
from models.job import GATED_QUEUE, Ref
from models.webhook_deliveries import MOST_ANSWER_BYTES, MOST_ATTEMPTS, TIMEOUT_SECONDS, TYPE, Answered

if TYPE_CHECKING:  # its libraries are slow to import, and an API process never calls out
    from jobs.outbound import Answer

DEADLINE_SECONDS = 15.0
"""An answer that is not whole by then is none."""
SHORTEST_PIECE = 8
"""Shorter pieces of a signature are in many texts."""

WAITS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
SCHEDULE = Steps(WAITS)


class Told(BaseModel):
    """What the delivery is about, for whoever reads the job; what is sent stands in the delivery of the job's id."""

    model_config = ConfigDict(extra="forbid")

    event: str
    endpoint_id: str | None = None
    job_id: str | None = None


class Delivered(BaseModel):
    """The receiver's answer, in short."""

    status_code: int
    duration_ms: int


class NotDelivered(Exception):  # noqa: N818 - reads as the sentence it is
    """The receiver did not answer with success; the retry policy applies."""


@job(
    TYPE,
    queue=GATED_QUEUE,
    max_attempts=MOST_ATTEMPTS,
    timeout=timedelta(seconds=TIMEOUT_SECONDS),
    retry=SCHEDULE,
    internal=Scope.WEBHOOKS_WRITE,
)
def deliver(_args: Told, context: Context) -> Delivered:
    """Tells a receiver of an event by a signed request (Standard Webhooks), and again until it answers 2xx."""
    parcel = _parcel(context)
    ref, began = Ref(context.job_id, context.lease), time.monotonic()
    signed = signing.headers(parcel.secrets, parcel.message_id, int(time.time()), parcel.body)
    try:
        answer = _call(context, parcel, signed)
    except (OutboundError, Permanent) as error:
        told = Answered(_milliseconds(began), failure=clean_text(str(error)))
        sign = Sign.FAILURE if isinstance(error, Permanent) else Sign.SILENCE
        _count(sign, told)
        context.desk.run(lambda session: delivering.keep(session, ref, parcel.receiver, told, sign))
        raise
    crashpoint("webhook.after_call")
    heard = Answered(_milliseconds(began), answer.status, _text(answer, signed))
    _count(Sign.SUCCESS if answer.status in ANY_SUCCESS else Sign.FAILURE, heard)
    if answer.status in ANY_SUCCESS:
        delivering.keep(context.session, ref, parcel.receiver, heard, Sign.SUCCESS)
        return Delivered(status_code=answer.status, duration_ms=heard.duration_ms)
    raise _refused(context, parcel, answer, heard)


def _parcel(context: Context) -> Parcel:
    """What to send. If nobody is to be told any more, the job is cancelled: it failed at nothing.

    A secret that cannot be opened is not the receiver's fault and costs no attempt; an operator has to mend it.
    """
    ref = Ref(context.job_id, context.lease)
    try:
        return context.desk.run(lambda session: delivering.prepare(session, context.pepper(session), context.job_id))
    except delivering.CalledOff as error:
        why = str(error)
        context.desk.run(lambda session: delivering.call_off(session, ref, why))
        context.cancel()  # as the watchdog would in a moment
        raise CancelRequested from None
    except (delivering.SecretLost, WrongSecretKey) as error:
        why = str(error)
        wait = context.desk.run(lambda session: delivering.put_off(session, ref, why))
        raise (Permanent(why, "secret-lost") if wait is None else Snooze(wait, why)) from None
    except Permanent as error:
        why = error.reason
        context.desk.run(lambda session: delivering.give_up(session, ref, why))
        raise


def _call(context: Context, parcel: Parcel, signed: dict[str, str]) -> "Answer":
    headers = {"content-type": "application/json", "user-agent": _user_agent(), **signed}
    try:
        return context.http.request(
            "POST",
            parcel.receiver.url,
            headers=headers,
            content=parcel.body,
            deadline_seconds=DEADLINE_SECONDS,
            most_bytes=MOST_ANSWER_BYTES,
        )
    except RequestInvalid as error:
        # An address that is refused is tried again: it may be another next time, and so may the settings.
        raise Permanent(str(error), "request-invalid") from None


def _refused(context: Context, parcel: Parcel, answer: "Answer", heard: Answered) -> Exception:
    """Keep an answer that is no success; gives what says how the delivery goes on."""
    ref = Ref(context.job_id, context.lease)
    context.desk.run(lambda session: delivering.keep(session, ref, parcel.receiver, heard, Sign.FAILURE))
    if answer.status == delivering.GONE:
        return Permanent("The receiver answered 410: it is gone for good.", "receiver-gone")
    reason = f"The receiver answered {answer.status}; expected any 2xx."
    asked = retry_after(answer.headers.get("retry-after", ""), datetime.now(UTC))
    # Not sooner than by the schedule: a receiver that always says "in a second" would use up all attempts in ten.
    usual = SCHEDULE.delay(context.attempt, jitter())
    return NotDelivered(reason) if asked is None or asked <= usual else RetryLater(asked, reason)


def _text(answer: "Answer", signed: dict[str, str]) -> str:
    """The head of the answer as text. A receiver that repeats what it knows shall not make us keep a secret."""
    text = answer.body.decode("utf-8", "replace")
    for signature in signed["webhook-signature"].split():
        text = _without(text, signature.removeprefix("v1,"))
    return clean_text(masked(text))


def _without(text: str, signature: str) -> str:
    """The text without a signature, also where its signs are escaped, or where only a part of it is repeated."""
    text = text.replace(signature, MASK)
    for piece in re.findall(rf"[A-Za-z0-9]{{{SHORTEST_PIECE},}}", signature):
        text = text.replace(piece, MASK)
        if cut := next((n for n in range(len(piece) - 1, SHORTEST_PIECE - 1, -1) if text.endswith(piece[:n])), 0):
            text = text[:-cut] + MASK
    return text


def _count(sign: Sign, answered: Answered) -> None:
    metrics.webhook_attempts.labels(sign).inc()
    metrics.webhook_seconds.observe(answered.duration_ms / 1000)


def _milliseconds(since: float) -> int:
    return round(1000 * (time.monotonic() - since))


@cache
def _user_agent() -> str:
    return f"Jobmill/{version('jobmill')}"
