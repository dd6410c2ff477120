"""Doing jobs: start them, run their handlers, and record what came of it, each under its lease.

Dramatiq acknowledges whatever an actor leaves behind, exceptions included; so `run` raises nothing, and
a job that could not be started or recorded stays a row that the dispatcher will find.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from jobs.attempt import attempt, outcome_of
from jobs.context import Context, Pepper, no_pepper
from jobs.outbound import Outbound
from jobs.outcomes import Failed, Failure, Interrupt, Json, Outcome, Stopped, Succeeded
from jobs.registry import Isolation, JobType, Registry, UnknownJobType
from jobs.retry import Exponential, jitter
from models import moves, queries
from models.crashpoints import crashpoint
from models.database import Database
from models.doorbell import Doorbell
from models.job import Ref
from models.metrics import lost_answers
from models.moves import Started
from models.states import Move
from workers import metrics
from workers.alone import Alone
from workers.desk import DatabaseDesk
from workers.durations import Durations
from workers.flow import Flow
from workers.isolation.conversation import Hearing
from workers.isolation.handlers import IsolatedHandlers
from workers.log_fields import about
from workers.recorder import Recorder, Ticket
from workers.running import InHand, Run
from workers.slate import Slate
from workers.turn import Turn

log = structlog.get_logger(__name__)

_MAKES_WORK = {Move.RETRY, Move.SNOOZE, Move.INTERRUPT, Move.BURY, Move.STOP}
"""After these the job has a new due time, or there may be webhooks; the dispatcher should know before its next poll."""


class Executor:
    """Runs the jobs that messages name, for one worker process."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        worker_id: UUID,
        http: Outbound,
        doorbell: Doorbell,
        flow: Flow,
        *,
        pepper: Pepper = no_pepper,
        slate: Slate | None = None,
    ) -> None:
        self.database = database
        self.registry = registry
        self.worker_id = worker_id
        self.http = http
        self.doorbell = doorbell
        self.pepper = pepper
        self.in_hand = InHand(slate)
        self.durations = Durations()
        self.isolated = IsolatedHandlers(registry, http)
        self.recorder = Recorder(database, f"worker:{worker_id}", doorbell.ring)
        self.alone = Alone(database, flow, worker_id, self.recorder.actor)

    def run(self, refs: Sequence[Ref]) -> bool:
        """Start and do the jobs of one message, in turn; False if there is none of them. Never raises."""
        fresh = self.in_hand.take(refs)
        metrics.duplicates.inc(len(refs) - len(fresh))
        crashpoint("worker.before_start")
        try:
            started = self._start(fresh)
            self._run(started)  # before anything that can fail: they are begun, and given up would count as lost
            others = _not_among(started, fresh)
            solitary = self.alone.needed_by(others)
            metrics.stale.labels(Move.START).inc(len(others) - len(solitary))
            for ref in solitary:
                self._run_alone(ref)
            return len(others) < len(refs) or bool(solitary) or self._any_is_there(others)
        except BaseException:
            log.exception("message_failed", jobs=[str(ref.id) for ref in fresh])
        finally:
            self.in_hand.let_go(fresh)
        return True

    def _any_is_there(self, refs: Sequence[Ref]) -> bool:
        return bool(self.database.read(lambda session: queries.present(session, [ref.id for ref in refs])))

    def _run_alone(self, ref: Ref) -> None:
        with self.alone.process(ref) as refusal:
            if refusal is None:
                started = self._start([ref], alone=True)
                metrics.stale.labels(Move.START).inc(1 - len(started))
                return self._run(started)
        self.alone.put_off(ref, refusal, jitter())
        return self.doorbell.ring()

    def _run(self, started: Sequence[Started]) -> None:
        tickets = []
        with self.in_hand.turn(Turn(started)) as turn:
            for job in turn:
                with about(job):
                    tickets.append(self._do_safely(job))
                self.recorder.hurry()
            self.recorder.settle(tickets)
        crashpoint("worker.after_commit")
        self._tell_all(tickets)

    def _start(self, refs: Sequence[Ref], *, alone: bool = False) -> list[Started]:
        if not refs:
            return []
        try:
            started = self.database.run_single(lambda session: self._start_or_find(session, refs, alone=alone))
        except BaseException:
            self.in_hand.doubt(refs)
            raise
        metrics.moves.labels(Move.START).inc(len(started))
        by_ref = {job.ref: job for job in started}
        return [by_ref[ref] for ref in refs if ref in by_ref]  # by priority, as the dispatcher put them

    def _start_or_find(self, session: Session, refs: Sequence[Ref], *, alone: bool = False) -> list[Started]:
        started = moves.start(session, refs, self.worker_id, alone=alone)
        missing = _not_among(started, refs)
        # A COMMIT whose answer was lost leaves jobs running that nobody runs: they are ours, and are done now.
        found = queries.started_by(session, missing, self.worker_id) if missing else []
        lost_answers.labels(Move.START).inc(len(found))
        return started + found

    def _do_safely(self, job: Started) -> Ticket:
        """Do one job, whose mishap is not to cost the others of its message their turn."""
        try:
            return self._do(job)
        except Exception as error:  # noqa: BLE001
            return Ticket(job).settle(mishap=error)

    def _do(self, job: Started) -> Ticket:
        crashpoint("worker.after_start")
        job_type = self._type(job)
        desk = DatabaseDesk(self.database, job.ref)
        outcome = self._timed(job_type, job, desk) if job_type else _unknown_type(job)
        crashpoint("worker.after_handler")
        return self.recorder.record(job, outcome, job_type.retry if job_type else Exponential(), desk)

    def _timed(self, job_type: JobType, job: Started, desk: DatabaseDesk) -> Outcome:
        began = time.monotonic()
        outcome = self._attempt(job_type, job, desk)
        seconds = time.monotonic() - began
        metrics.handler_seconds_of(job.type).observe(seconds)
        self.durations.ran(job.type, seconds)
        return outcome

    def _type(self, job: Started) -> JobType | None:
        try:
            return self.registry.get(job.type)
        except UnknownJobType:
            return None

    def _attempt(self, job_type: JobType, job: Started, desk: DatabaseDesk) -> Outcome:
        run = Run(job.ref, self._context(job, desk), deadline=time.monotonic() + job.timeout_seconds)
        run.section = Hearing() if job_type.isolation is Isolation.PROCESS else run.section
        self.in_hand.began(run)
        outcome: Outcome | None = None
        try:
            try:
                run.section.enter()
                outcome = self._run_handler(job_type, job.args, run)
            finally:
                run.section.leave()
        except Interrupt as interrupt:
            run.section.leave()
            # It struck after the handler was done: what the handler did counts.
            outcome = outcome or outcome_of(interrupt)
        finally:
            self.in_hand.ended(run)
        return _with_progress(_unasked(outcome, run), run)

    def _run_handler(self, job_type: JobType, args: Json, run: Run) -> Outcome:
        if job_type.isolation is Isolation.PROCESS:
            return self.isolated.attempt(job_type, args, run)
        return attempt(job_type, args, run.context)

    def _context(self, job: Started, desk: DatabaseDesk) -> Context:
        return Context(
            job_id=job.id,
            job_type=job.type,
            tenant=job.tenant_id,
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            lease=job.lease,
            tags=job.tags,
            timeout=timedelta(seconds=job.timeout_seconds),
            last_checkpoint=job.checkpoint,
            log=_log_of(job.type),
            http=self.http,
            desk=desk,
            traceparent=job.traceparent,
            tracestate=job.tracestate,
            pepper=self.pepper,
        )

    def _tell_all(self, tickets: Sequence[Ticket]) -> None:
        """Count what came of a message's jobs, and log what is worth a line."""
        for move, many in Counter(ticket.move for ticket in tickets if ticket.move is not None).items():
            metrics.moves.labels(move).inc(many)
        if any(ticket.move in _MAKES_WORK for ticket in tickets):
            self.doorbell.ring()
        talkative = log.is_enabled_for(logging.INFO)
        for ticket in tickets:
            if talkative or ticket.move is None:
                with about(ticket.job):
                    _log(ticket)


def _not_among(started: Sequence[Started], refs: Sequence[Ref]) -> list[Ref]:
    """Those of the refs that were not started; mostly all were."""
    if len(started) == len(refs):
        return []
    begun = {job.ref for job in started}
    return [ref for ref in refs if ref not in begun]


@cache
def _log_of(job_type: str) -> Any:
    return structlog.get_logger(f"jobs.{job_type}")


def _log(ticket: Ticket) -> None:
    job = ticket.job
    if ticket.mishap is not None:
        log.error("job_not_recorded", attempt=job.attempt, lease=job.lease, exc_info=ticket.mishap)
    elif ticket.move is None:
        metrics.stale.labels("finish").inc()
        log.warning("job_was_stale", attempt=job.attempt, lease=job.lease)
    else:
        log.info("job_moved", move=ticket.move, attempt=job.attempt)


def _unknown_type(job: Started) -> Outcome:
    # Not for good: during a rolling deploy another worker may know the type already.
    message = f"This worker knows no job type {job.type!r}; is its module in the worker's JOBMILL_JOBS?"
    return Failed(Failure("UnknownJobType", message, "unknown-type"))


def _with_progress(outcome: Outcome, run: Run) -> Outcome:
    """What a quick handler said last, the watchdog has not written yet."""
    last = run.context.latest_progress
    if isinstance(outcome, Succeeded) and last is not None:
        return replace(outcome, percent=last.percent, message=last.message)
    return outcome


def _unasked(outcome: Outcome, run: Run) -> Outcome:
    """A handler may stop for a cancellation only when there was one."""
    if isinstance(outcome, Stopped) and not run.context.cancelled:
        return Failed(
            Failure("CancelRequested", "The handler stopped as if cancelled, which nobody asked.", "exception")
        )
    return outcome
