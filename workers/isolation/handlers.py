"""Runs the attempts of job types that ask for `isolation="process"`: what the executor knows of all this."""

from datetime import timedelta

import structlog

from jobs.attempt import outcome_of
from jobs.outbound import Outbound
from jobs.outcomes import Failed, GivenBack, Json, Outcome, Snoozed
from jobs.registry import JobType, Registry
from workers import metrics
from workers.isolation.conversation import Conversation, Died
from workers.isolation.deaths import failure_of, failure_of_nonsense
from workers.isolation.frames import Garbled
from workers.isolation.pool import Pool
from workers.isolation.process import HandlerProcess
from workers.memory import killed_since, out_of_memory_kills
from workers.running import Run

log = structlog.get_logger(__name__)

WAIT_FOR_ROOM = timedelta(seconds=10)
"""Until a job is tried again for which this machine could not start a process."""


class IsolatedHandlers:
    """One worker's; call `close` when it stops."""

    def __init__(self, registry: Registry, http: Outbound) -> None:
        self.pool = Pool(registry.modules, http)

    def attempt(self, job_type: JobType, args: Json, run: Run) -> Outcome:
        """Run the handler once, in a process; its death is this attempt's failure and nobody else's."""
        while True:
            try:
                process = self.pool.take()
            except OSError as error:
                return Snoozed(WAIT_FOR_ROOM, f"No process could be started for it: {error}")
            outcome = self._attempt_in(process, job_type, args, run)
            if outcome is not None:
                return outcome

    def close(self) -> None:
        """End every process; attempts that still run are given back."""
        self.pool.close()

    def _attempt_in(self, process: HandlerProcess, job_type: JobType, args: Json, run: Run) -> Outcome | None:
        """None when a process that had been kept died before it took the job up: that was no attempt."""
        talk, kills_before = Conversation(process, run), out_of_memory_kills()
        keep = False
        try:
            outcome = talk.hold(job_type, args)
            keep = outcome is not None and not talk.worn and talk.asked is None
        except Died:
            return self._after_death(process, talk, kills_before)
        except Garbled as error:
            # An interrupt may have broken off what it was saying.
            outcome = None if talk.asked else self._crashed(failure_of_nonsense(str(error)))
        finally:
            self.pool.give_back(process) if keep else self.pool.end(process)
        return outcome or _interrupted(talk)

    def _after_death(self, process: HandlerProcess, talk: Conversation, kills_before: int | None) -> Outcome | None:
        by_itself = process.ends_by_itself()  # it may have hung up a moment before it is gone
        status = self.pool.end(process)
        if talk.asked is not None:
            return _interrupted(talk)
        if self.pool.closed:
            return GivenBack()
        if not talk.begun and not process.fresh:
            return None
        if not by_itself:
            return self._crashed(failure_of_nonsense("it closed the connection"))
        ran_out = killed_since(kills_before, out_of_memory_kills())
        return self._crashed(failure_of(status, memory_ran_out=ran_out))

    def _crashed(self, failed: Failed) -> Outcome:
        metrics.isolated_crashed.labels(failed.failure.code).inc()
        log.warning("handler_process_died", code=failed.failure.code, message=failed.failure.message)
        return failed


def _interrupted(talk: Conversation) -> Outcome:
    """What an attempt came to whose process had to be killed, or died when it was told to stop."""
    assert talk.asked is not None  # noqa: S101 - patience ends for an interrupt only
    return outcome_of(talk.asked())
