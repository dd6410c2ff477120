"""Why a job is where it is: each case from what is known of it, and what decides when several hold."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from jobs.explain import explain
from jobs.reasons import Reason, Why
from models.gate import Gate
from models.ids import new_id
from models.job import Job, JobEvent
from models.lineup import InHand, Waiting
from models.queue import Queue
from models.standing import Ahead, Standing
from models.states import Move, State
from models.worker import Worker

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)
TENANT = new_id()
WIDTH = 4
ERROR = {"type": "KeyError", "message": "no column 17", "code": "exception", "trace": "secret lines"}


def earlier(**since: float) -> datetime:
    return NOW - timedelta(**since)


def gate(unanswered: int = 0, closed_until: datetime | None = None) -> Gate:
    return Gate(new_id(), TENANT, "https://example.com", unanswered, None, closed_until, NOW, NOW)


def job(state: State = State.QUEUED, **columns: Any) -> Job:
    told: dict[str, Any] = {
        "id": new_id(), "tenant_id": TENANT, "type": "demo.echo", "queue": "media", "state": state, "priority": 0,
        "args": None, "result": None, "error": None, "progress_percent": None, "progress_message": None, "attempt": 1,
        "max_attempts": 5, "lost": 0, "timeout_seconds": 300, "lease": 2, "created_at": earlier(hours=1),
        "due_at": earlier(minutes=1), "dispatched_at": None, "started_at": None, "finished_at": None,
        "cancel_requested_at": None, "tags": {}, "unique_key": None, "idempotency_key": None, "worker_id": None,
        "schedule_id": None,
    }  # fmt: skip
    return Job(**(told | columns))


def worker(state: str = "live", busy: int = 0, **columns: Any) -> Worker:
    told: dict[str, Any] = {
        "id": new_id(), "host": "worker-1", "pid": 7, "queues": ("media",), "threads": 4, "busy": busy, "version": "1",
        "started_at": earlier(hours=2), "heartbeat_at": earlier(seconds=3), "state": state,
    }  # fmt: skip
    return Worker(**(told | columns))


def event(move: Move, state: State, *, actor: str = "worker:w1", reason: str | None = None, error: Any = None) -> Any:
    return JobEvent(new_id(), earlier(seconds=30), move, state, 2, 2, actor, reason, error)


def known(one: Job | None = None, **facts: Any) -> Standing:
    """A due job that nothing holds up, but for these facts."""
    told: dict[str, Any] = {
        "lease_expires_at": None,
        "workers": [worker()],
        "in_hand": InHand(0, 0, NOW),
        "ahead": Ahead(0, 0, 0),
    }
    return Standing(one or job(), NOW, **(told | facts))


def tenants(*weights: int) -> list[Waiting]:
    """The job's own first."""
    ids = [new_id() if at else TENANT for at in range(len(weights))]
    return [Waiting(one, one, weight, NOW, due=True) for one, weight in zip(ids, weights, strict=True)]


PAUSED = Queue("media", paused_at=earlier(hours=3), paused_by="key:ops1")
LATER = NOW + timedelta(minutes=5)
CASES: dict[str, tuple[Standing, Why, str]] = {
    "for later": (known(job(due_at=LATER)), Why.WAITS_FOR_TIME, "submitted for a later time"),
    "to be retried": (
        known(job(due_at=LATER), events=[event(Move.RETRY, State.QUEUED, error=ERROR)]),
        Why.WAITS_FOR_RETRY,
        "Attempt 2 of 5 failed",
    ),
    "snoozed": (
        known(job(due_at=LATER), events=[event(Move.SNOOZE, State.QUEUED, reason="the shop is closed")]),
        Why.PUT_OFF,
        "the shop is closed",
    ),
    "snoozed without a word": (
        known(job(due_at=LATER), events=[event(Move.SNOOZE, State.QUEUED)]),
        Why.PUT_OFF,
        "its handler asked for that",
    ),
    "paused": (known(queue=PAUSED), Why.QUEUE_PAUSED, "Its queue media is paused, by key:ops1."),
    "no dispatcher": (known(leads=False), Why.NO_DISPATCHER, "No dispatcher leads"),
    "no worker": (known(workers=[]), Why.NO_WORKER, "No live worker serves its queue media."),
    "none that takes jobs": (
        known(workers=[worker("connecting"), worker("silent"), worker("connecting")]),
        Why.NO_WORKER,
        "of those that did, 2 without RabbitMQ, 1 silent",
    ),
    "as many as may run": (
        known(queue=Queue("media", max_running=3), in_hand=InHand(1, 2, NOW)),
        Why.MAX_RUNNING,
        "as many jobs as it may: 3",
    ),
    "as many as a second takes": (
        known(queue=Queue("media", max_per_second=0.5, paced_until=earlier(seconds=1))),
        Why.MAX_PER_SECOND,
        "no more than 0.5 jobs a second",
    ),
    "behind higher priorities": (
        known(ahead=Ahead(2, 0, 0)),
        Why.BEHIND_OTHERS,
        "2 due jobs of its queue go before it: 2 of a higher priority.",
    ),
    "behind one": (
        known(ahead=Ahead(0, 1, 1)),
        Why.BEHIND_OTHERS,
        "1 due job of its queue goes before it: 1 due for longer.",
    ),
    "behind very many": (
        known(ahead=Ahead(3, 1001, 1001)),
        Why.BEHIND_OTHERS,
        "more than 1,000 due jobs of its queue go before it: 3 of a higher priority, more than 1,000 due for longer.",
    ),
    "by turns": (
        known(ahead=Ahead(0, 900, 7), tenants=tenants(1, 3)),
        Why.FAIR_SHARE,
        "2 tenants share its queue, and its own gets 1 of 4 turns: 7 of its jobs go before.",
    ),
    "held, since nobody answers": (
        known(gate=gate(unanswered=6, closed_until=LATER)),
        Why.RECEIVER_HELD,
        "Its receiver https://example.com gave no answer 6 times in a row: deliveries are held.",
    ),
    "tried, since nobody answered": (
        known(gate=gate(unanswered=6, closed_until=earlier(seconds=1)), passing=1),
        Why.RECEIVER_BUSY,
        "under way as may be: 1.",
    ),
    "one of many that do not answer": (
        known(gate=gate(unanswered=1), at_silent=2, workers=[worker(threads=8), worker(threads=64, state="silent")]),
        Why.RECEIVER_BUSY,
        "Its receiver gave no answer, and as many deliveries to such are under way as may be: 2.",
    ),
    "the next of those that do not answer": (
        known(gate=gate(unanswered=1), at_silent=1, workers=[worker(threads=8)]),
        Why.NEXT,
        "It is next",
    ),
    "as many as a receiver gets": (
        known(gate=gate(), passing=WIDTH),
        Why.RECEIVER_BUSY,
        "under way as may be: 4.",
    ),
    "one fewer than a receiver gets": (known(gate=gate(), passing=WIDTH - 1), Why.NEXT, "It is next"),
    "every thread busy": (known(workers=[worker(busy=4)]), Why.THREADS_BUSY, "All 4 threads"),
    "next": (known(), Why.NEXT, "It is next"),
    "handed out": (
        known(job(State.DISPATCHED, dispatched_at=earlier(seconds=1)), lease_expires_at=LATER),
        Why.DISPATCHED,
        "the next free thread",
    ),
    "handed out in vain": (
        known(job(State.DISPATCHED, dispatched_at=earlier(seconds=61)), lease_expires_at=earlier(seconds=1)),
        Why.CLAIM_EXPIRED,
        "takes it back",
    ),
    "handed out, and to run alone": (
        known(job(State.DISPATCHED, dispatched_at=earlier(seconds=1), lost=2), lease_expires_at=LATER),
        Why.WAITS_TO_RUN_ALONE,
        "died under it 2 times",
    ),
    "handed out, and nobody there": (
        known(job(State.DISPATCHED, dispatched_at=earlier(seconds=1)), lease_expires_at=LATER, workers=[]),
        Why.NO_WORKER,
        "No live worker",
    ),
    "running": (
        known(job(State.RUNNING, started_at=earlier(seconds=9), worker_id=new_id()), by=worker()),
        Why.RUNNING,
        "It runs on worker-1: attempt 1 of 5.",
    ),
    "asked to stop": (
        known(
            job(State.RUNNING, started_at=earlier(seconds=9), worker_id=new_id(), cancel_requested_at=NOW),
            by=worker(),
            events=[event(Move.CANCEL, State.RUNNING, actor="key:ops1")],
        ),
        Why.CANCEL_REQUESTED,
        "asked to stop, by key:ops1",
    ),
    "left by its worker": (
        known(job(State.RUNNING, started_at=earlier(seconds=90), worker_id=new_id()), by=worker("silent")),
        Why.WORKER_LOST,
        "not heard of any more",
    ),
    "left by a worker that nobody knows": (
        known(job(State.RUNNING, started_at=earlier(days=9), worker_id=new_id())),
        Why.WORKER_LOST,
        "not heard of any more",
    ),
    "succeeded": (known(job(State.SUCCEEDED, finished_at=NOW)), Why.SUCCEEDED, "at attempt 1 of 5"),
    "dead of its last attempt": (
        known(
            job(State.DEAD, finished_at=NOW, error=ERROR),
            events=[event(Move.BURY, State.DEAD, reason="attempts exhausted", error=ERROR)],
        ),
        Why.DEAD,
        "It is dead: its last attempt failed as the others had. KeyError: no column 17",
    ),
    "dead for good": (
        known(
            job(State.DEAD, finished_at=NOW, error=ERROR),
            events=[event(Move.EDIT, State.DEAD), event(Move.BURY, State.DEAD, reason="permanent error")],
        ),
        Why.DEAD,
        "in a way that no retry mends",
    ),
    "dead with its worker": (
        known(
            job(State.DEAD, finished_at=NOW, lost=3, error={"type": "WorkerLost", "code": "lost"}),
            events=[event(Move.RESCUE, State.DEAD, reason="its process exited with status 7")],
        ),
        Why.DEAD,
        "Its worker died under it 3 times; the last time, its process exited with status 7.",
    ),
    "dead of what is forgotten": (known(job(State.DEAD, finished_at=NOW)), Why.DEAD, "its last attempt failed."),
    "cancelled": (
        known(
            job(State.CANCELLED, finished_at=NOW),
            events=[event(Move.STOP, State.CANCELLED), event(Move.CANCEL, State.RUNNING, actor="key:ops1")],
        ),
        Why.CANCELLED,
        "cancelled, by key:ops1",
    ),
    "discarded": (
        known(job(State.DISCARDED, finished_at=NOW), events=[event(Move.DISCARD, State.DISCARDED, actor="key:ops1")]),
        Why.DISCARDED,
        "discarded by key:ops1",
    ),
}


def reasons(standing: Standing, *, broker_away: bool = False) -> Sequence[Reason]:
    return explain(standing, broker_away=broker_away, gate_width=WIDTH)


@pytest.mark.parametrize(("standing", "why", "words"), CASES.values(), ids=CASES.keys())
def test_the_reason_is_the_one_that_decides(standing: Standing, why: Why, words: str):
    first = reasons(standing)[0]
    assert first.why is why
    assert words in first.message
    assert "secret lines" not in str(first)


def test_every_reason_has_a_case():
    assert {why for _, why, _ in CASES.values()} == set(Why) - {Why.BROKER_AWAY}


@pytest.mark.parametrize("state", [State.QUEUED, State.DISPATCHED])
def test_without_rabbitmq_that_is_the_reason(state: State):
    one = job(state, dispatched_at=NOW if state is State.DISPATCHED else None)
    assert reasons(known(one, workers=[worker("connecting")]), broker_away=True)[0].why is Why.BROKER_AWAY


@pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED])
def test_a_job_that_has_left_rabbitmq_behind_does_not_mind(state: State):
    one = job(state, started_at=NOW, worker_id=new_id(), finished_at=NOW)
    assert [reason.why for reason in reasons(known(one, by=worker()), broker_away=True)] == [Why(state.value)]


def test_what_would_keep_it_besides_follows_in_the_order_in_which_it_decides():
    held = known(queue=replace(PAUSED, max_running=1), leads=False, workers=[], in_hand=InHand(1, 0, NOW))
    held = replace(held, ahead=Ahead(1, 5, 2), tenants=tenants(1, 1))
    assert [reason.why for reason in reasons(held, broker_away=True)] == [
        Why.QUEUE_PAUSED,
        Why.BROKER_AWAY,
        Why.NO_DISPATCHER,
        Why.NO_WORKER,
        Why.MAX_RUNNING,
        Why.BEHIND_OTHERS,
        Why.FAIR_SHARE,
    ]


def test_a_job_that_is_not_due_tells_what_will_keep_it_then():
    later = known(job(due_at=LATER), queue=PAUSED, workers=[])
    assert [reason.why for reason in reasons(later)] == [Why.WAITS_FOR_TIME, Why.QUEUE_PAUSED, Why.NO_WORKER]


def test_a_rate_whose_next_moment_has_come_keeps_nobody():
    free = known(queue=Queue("media", max_per_second=0.5, paced_until=earlier(seconds=2)))
    assert reasons(free)[0].why is Why.NEXT


def test_who_runs_it_is_told_and_for_how_long_at_most():
    worker_id: UUID = new_id()
    one = job(State.RUNNING, started_at=earlier(seconds=9), worker_id=worker_id)
    (running,) = reasons(known(one, by=worker(id=worker_id)))
    assert (running.since, running.until) == (earlier(seconds=9), earlier(seconds=9) + timedelta(seconds=300))
    assert running.detail == {
        "worker_id": str(worker_id),
        "timeout_seconds": 300,
        "host": "worker-1",
        "pid": 7,
        "heartbeat_age_seconds": 3.0,
    }


def test_a_retry_tells_what_failed_and_when_the_next_is():
    one = known(job(due_at=LATER), events=[event(Move.RETRY, State.QUEUED, error=ERROR)])
    retry = reasons(one)[0]
    assert retry.until == LATER
    assert retry.detail["error"] == {"type": "KeyError", "message": "no column 17", "code": "exception"}
