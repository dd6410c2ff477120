"""Why a job is where it is: pure functions from what is known of it to the reasons, the one that decides first.

A job may be held up by several things at once. The first of them is what keeps it now; when that is gone, so may be
the others, or not.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from jobs.outcomes import Json
from jobs.reasons import Reason, Why
from models.gate import most_at_silent
from models.job import JobEvent
from models.standing import MOST_AHEAD, Ahead, Standing
from models.states import LOSSES_UNTIL_ALONE, Move, State
from models.worker import DEAD_AFTER


def explain(known: Standing, *, broker_away: bool, gate_width: int) -> list[Reason]:
    """The reasons, at least one; `broker_away` says that RabbitMQ does not answer.

    So many jobs as `gate_width` pass one gate at once.
    """
    match known.job.state:
        case State.QUEUED:
            return list(_queued(known, broker_away=broker_away, gate_width=gate_width))
        case State.DISPATCHED:
            return list(_dispatched(known, broker_away=broker_away))
        case State.RUNNING:
            return list(_running(known))
    return [_final(known)]


# Waiting.


def _queued(known: Standing, *, broker_away: bool, gate_width: int) -> Iterator[Reason]:
    if known.waits_for():
        yield _not_due(known)
        yield from _held_up(known, broker_away=broker_away)
        return
    found = [
        *_held_up(known, broker_away=broker_away),
        *_limited(known),
        *_at_gate(known, gate_width),
        *_in_line(known),
    ]
    yield from found or [Reason(Why.NEXT, "It is next: the dispatcher hands it out within a moment.")]


def _not_due(known: Standing) -> Reason:
    job, last = known.job, next(iter(known.events), None)
    if last is not None and last.move == Move.RETRY:
        message = f"Attempt {last.attempt} of {job.max_attempts} failed, and the next waits for its time."
        detail: dict[str, Json] = {
            "attempt": last.attempt,
            "max_attempts": job.max_attempts,
            "error": _error(last.error),
        }
        return Reason(Why.WAITS_FOR_RETRY, message, last.at, job.due_at, detail)
    if last is not None and last.move == Move.SNOOZE:
        message = f"It was put off: {last.reason or 'its handler asked for that'}."
        return Reason(Why.PUT_OFF, message, last.at, job.due_at, {"by": last.actor, "reason": last.reason})
    return Reason(Why.WAITS_FOR_TIME, "It was submitted for a later time.", job.created_at, job.due_at)


def _held_up(known: Standing, *, broker_away: bool) -> Iterator[Reason]:
    """What keeps every job of the queue."""
    said = known.queue
    if said is not None and said.paused_at is not None:
        message = f"Its queue {said.name} is paused{f', by {said.paused_by}' if said.paused_by else ''}."
        yield Reason(Why.QUEUE_PAUSED, message, said.paused_at, detail={"queue": said.name, "by": said.paused_by})
    if broker_away:
        yield Reason(Why.BROKER_AWAY, "RabbitMQ does not answer; jobs are handed out when it does again.")
    if not known.leads:
        yield Reason(Why.NO_DISPATCHER, "No dispatcher leads; one that starts, or stands by, takes over by itself.")
    if not any(worker.state == "live" for worker in known.workers):
        yield _no_worker(known)


def _no_worker(known: Standing) -> Reason:
    states = [worker.state for worker in known.workers]
    others = {state: states.count(state) for state in sorted(set(states))}
    told = ", ".join(f"{number} {_IN_WORDS[state]}" for state, number in others.items())
    message = f"No live worker serves its queue {known.job.queue}{f'; of those that did, {told}' if told else ''}."
    return Reason(Why.NO_WORKER, message, detail={"queue": known.job.queue, "workers": dict(others)})


_IN_WORDS = {"connecting": "without RabbitMQ", "draining": "stopping", "silent": "silent"}


def _limited(known: Standing) -> Iterator[Reason]:
    said, in_hand = known.queue, known.in_hand
    if said is None or in_hand is None:
        return
    at_work = in_hand.on_broker + in_hand.running
    if said.max_running is not None and at_work >= said.max_running:
        message = f"Its queue {said.name} runs as many jobs as it may: {said.max_running}."
        detail: dict[str, Json] = {"max_running": said.max_running, "running": at_work}
        yield Reason(Why.MAX_RUNNING, message, detail=detail)
    if said.max_per_second is not None and said.paced_until is not None:
        free_at = said.paced_until + timedelta(seconds=1 / said.max_per_second)
        if free_at > known.now:
            message = f"Its queue {said.name} begins no more than {said.max_per_second:g} jobs a second."
            yield Reason(Why.MAX_PER_SECOND, message, until=free_at, detail={"max_per_second": said.max_per_second})


def _at_gate(known: Standing, width: int) -> Iterator[Reason]:
    gate, passing = known.gate, known.passing
    if gate is not None and gate.closed:
        message = f"Its receiver {gate.leads_to} gave no answer {gate.unanswered} times in a row: deliveries are held."
        detail: dict[str, Json] = {"receiver": gate.leads_to, "unanswered": gate.unanswered}
        yield Reason(Why.RECEIVER_HELD, message, until=gate.closed_until, detail=detail)
    silent = gate is not None and gate.unanswered > 0
    # While a receiver gives no answer, one delivery after the other tries it.
    may_pass = 1 if silent else width
    if passing >= may_pass:
        message = f"As many deliveries to its receiver are under way as may be: {may_pass}."
        yield Reason(Why.RECEIVER_BUSY, message, detail={"under_way": passing, "may_be": may_pass})
    elif silent:
        yield from _among_silent(known)


def _among_silent(known: Standing) -> Iterator[Reason]:
    """All receivers that give no answer may hold a part of the threads only, lest the others' deliveries be late."""
    may_be = most_at_silent(sum(worker.threads for worker in known.workers if worker.state == "live"))
    if known.at_silent >= may_be:
        message = f"Its receiver gave no answer, and as many deliveries to such are under way as may be: {may_be}."
        yield Reason(Why.RECEIVER_BUSY, message, detail={"under_way": known.at_silent, "may_be": may_be})


def _in_line(known: Standing) -> Iterator[Reason]:
    ahead = known.ahead
    if ahead is not None and (ahead.higher or (ahead.same and len(known.tenants) < 2)):  # noqa: PLR2004 - to share
        yield _behind(ahead)
    if ahead is not None and ahead.same and len(known.tenants) > 1:
        yield _fair_share(known, ahead)
    yield from _busy(known)


def _busy(known: Standing) -> Iterator[Reason]:
    live = [worker for worker in known.workers if worker.state == "live"]
    threads, busy = sum(worker.threads for worker in live), sum(worker.busy for worker in live)
    if live and busy >= threads:
        message = f"All {threads} threads of the workers of its queue are busy."
        yield Reason(Why.THREADS_BUSY, message, detail={"threads": threads, "busy": busy})


def _behind(ahead: Ahead) -> Reason:
    number = min(ahead.higher + ahead.same, MOST_AHEAD + 1)
    parts = [
        f"{_bounded(count)} {of_what}"
        for count, of_what in ((ahead.higher, "of a higher priority"), (ahead.same, "due for longer"))
        if count
    ]
    jobs = "due job of its queue goes" if number == 1 else "due jobs of its queue go"
    message = f"{_bounded(number)} {jobs} before it: {', '.join(parts)}."
    detail = {"higher_priority": ahead.higher, "due_longer": ahead.same, **_position(number)}
    return Reason(Why.BEHIND_OTHERS, message, detail=detail)


def _fair_share(known: Standing, ahead: Ahead) -> Reason:
    total = sum(tenant.weight for tenant in known.tenants)
    weight = next((tenant.weight for tenant in known.tenants if tenant.share_id == known.job.tenant_id), 1)
    message = (
        f"{len(known.tenants)} tenants share its queue, and its own gets {weight} of {total} turns: "
        f"{_bounded(ahead.own)} of its jobs {'goes' if ahead.own == 1 else 'go'} before."
    )
    detail: dict[str, Json] = {"tenants": len(known.tenants), "weight": weight, "weights": total}
    return Reason(Why.FAIR_SHARE, message, detail=detail | _position(ahead.own))


def _bounded(number: int) -> str:
    return f"more than {MOST_AHEAD:,}" if number > MOST_AHEAD else f"{number:,}"


def _position(number: int) -> dict[str, Json]:
    """How many go before it, and whether there are more than were counted."""
    return {"ahead": min(number, MOST_AHEAD), "more": number > MOST_AHEAD}


# Handed out.


def _dispatched(known: Standing, *, broker_away: bool) -> Iterator[Reason]:
    job, until = known.job, known.lease_expires_at
    yield from _held_up(known, broker_away=broker_away)
    if until is not None and until <= known.now:
        message = "It was handed out, and nobody began it in time: the dispatcher takes it back within a moment."
        yield Reason(Why.CLAIM_EXPIRED, message, job.dispatched_at, until)
    elif job.lost >= LOSSES_UNTIL_ALONE:
        message = f"Its worker died under it {job.lost} times: it is handed out, and waits for a process to itself."
        yield Reason(Why.WAITS_TO_RUN_ALONE, message, job.dispatched_at, until, {"lost": job.lost})
    else:
        yield Reason(Why.DISPATCHED, "It is handed out, for the next free thread to begin.", job.dispatched_at, until)
    yield from _busy(known)


def _running(known: Standing) -> Iterator[Reason]:
    job, by = known.job, known.by
    if by is None or by.state in {"silent", "stopped"}:
        heard_at = by.heartbeat_at if by else None
        until = heard_at + DEAD_AFTER if heard_at else None
        message = "The worker that ran it is not heard of any more: the job is taken back, and queued again."
        yield Reason(Why.WORKER_LOST, message, heard_at, until, _by(known))
    if job.cancel_requested_at is not None:
        message = f"Its handler was asked to stop, by {_actor(known, Move.CANCEL)}, and has not let go yet."
        yield Reason(Why.CANCEL_REQUESTED, message, job.cancel_requested_at, _time_limit(known), _by(known))
    where = f" on {by.host}" if by else ""
    message = f"It runs{where}: attempt {job.attempt} of {job.max_attempts}."
    yield Reason(Why.RUNNING, message, job.started_at, _time_limit(known), _by(known))


def _time_limit(known: Standing) -> datetime | None:
    began = known.job.started_at
    return began and began + timedelta(seconds=known.job.timeout_seconds)


def _by(known: Standing) -> dict[str, Json]:
    told: dict[str, Json] = {"worker_id": str(known.job.worker_id), "timeout_seconds": known.job.timeout_seconds}
    if known.by is None:
        return told
    age = max(0.0, (known.now - known.by.heartbeat_at).total_seconds())
    return told | {"host": known.by.host, "pid": known.by.pid, "heartbeat_age_seconds": round(age, 1)}


# Over.


def _final(known: Standing) -> Reason:
    job = known.job
    match job.state:
        case State.SUCCEEDED:
            message = f"It succeeded, at attempt {job.attempt} of {job.max_attempts}."
            return Reason(Why.SUCCEEDED, message, job.finished_at, detail={"attempt": job.attempt})
        case State.DEAD:
            return _dead(known)
        case State.CANCELLED:
            message = f"It was cancelled, by {_actor(known, Move.CANCEL)}."
            return Reason(Why.CANCELLED, message, job.finished_at, detail={"by": _actor(known, Move.CANCEL)})
    message = f"It was a dead letter, and was discarded by {_actor(known, Move.DISCARD)}."
    detail = {"by": _actor(known, Move.DISCARD), "error": _error(job.error)}
    return Reason(Why.DISCARDED, message, job.finished_at, detail=detail)


_ENDS = {
    "attempts exhausted": "its last attempt failed as the others had",
    "permanent error": "it failed in a way that no retry mends",
}


def _dead(known: Standing) -> Reason:
    job = known.job
    end = _last(known.events, Move.BURY, Move.RESCUE)
    error, reason = _error(job.error), end.reason if end else None
    if end is not None and end.move == Move.RESCUE:
        message = f"Its worker died under it {job.lost} times; the last time, {reason}."
    else:
        what = ": ".join(str(error[part]) for part in ("type", "message") if error.get(part))
        message = f"It is dead: {_ENDS.get(reason or '', reason) or 'its last attempt failed'}. {what}".strip()
    detail: dict[str, Json] = {"reason": reason, "attempt": job.attempt, "lost": job.lost, "error": error}
    return Reason(Why.DEAD, message, job.finished_at, detail=detail)


def _actor(known: Standing, move: Move) -> str:
    event = _last(known.events, move)
    return event.actor if event else "somebody"


def _last(events: Sequence[JobEvent], *moves: Move) -> JobEvent | None:
    return next((event for event in events if event.move in moves), None)


def _error(error: Json) -> dict[str, Json]:
    told = error if isinstance(error, dict) else {}
    return {name: told.get(name) for name in ("type", "message", "code")}
