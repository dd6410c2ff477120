"""One process of a worker: Dramatiq's worker on our broker, the executor behind its one actor, and the way it stops."""

import math
import os
import socket
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty
from typing import Any
from uuid import UUID

import dramatiq
import structlog
from sqlalchemy.orm import Session

from jobs.context import Pepper, no_pepper
from jobs.outbound import Outbound
from jobs.outcomes import Draining, LeaseLost
from jobs.registry import Registry
from models import moves, worker
from models.database import Database
from models.doorbell import Doorbell
from models.ids import new_id
from models.moves import Ending, Started
from workers import metrics
from workers.duties.rescue import take_back
from workers.executor import Executor
from workers.flow import Flow
from workers.messages import ACTOR
from workers.of_no_job import OfNoJob, putting_aside
from workers.report import Report, Running
from workers.slate import Slate
from workers.watchdog import Watchdog

log = structlog.get_logger(__name__)

IDLE_MILLISECONDS = 1000
LAST_WORDS = timedelta(seconds=5)
"""How long an interrupted handler gets to let go before its job is taken from it."""
UNTIL_CANCELLED = timedelta(seconds=3)
"""How long the consumers get to tell the broker that they take nothing more; they look once a second."""


@dataclass(frozen=True)
class WorkerPlan:
    """What a worker process shall do; `queues` are names in the broker, `names` those of the jobs' queues."""

    names: tuple[str, ...]
    queues: tuple[str, ...]
    threads: int
    version: str


@dataclass(frozen=True)
class Watched:
    """What a process has from the parent that watches over it, and writes its heartbeats until `orphaned` is set."""

    worker_id: UUID
    parent_pid: int
    orphaned: threading.Event
    slate: Slate


class WorkerProcess:
    """Takes messages from start() until stop(). Without a parent it writes its own heartbeats."""

    def __init__(
        self,
        database: Database,
        broker: Any,
        registry: Registry,
        http: Outbound,
        doorbell: Doorbell,
        plan: WorkerPlan,
        *,
        watched: Watched | None = None,
        pepper: Pepper = no_pepper,
    ) -> None:
        self.database = database
        self.broker = broker
        self.doorbell = doorbell
        self.plan = plan
        self.watched = watched
        self.id: UUID = watched.worker_id if watched else new_id()
        self.draining = False
        self.flow = broker.flow = Flow(plan.threads)
        slate = watched.slate if watched else None
        self.executor = Executor(database, registry, self.id, http, doorbell, self.flow, pepper=pepper, slate=slate)
        self.watchdog = Watchdog(
            database,
            self.id,
            self.executor.in_hand,
            self.executor.durations,
            self.executor.recorder,
            self._register,
            consuming=self.consuming,
            beats=self._beats,
        )
        self.dramatiq = dramatiq.Worker(
            broker, queues=set(plan.queues), worker_threads=plan.threads, worker_timeout=IDLE_MILLISECONDS
        )
        # Our brokers share this number among all queues: a message is taken when a thread is free for it.
        self.dramatiq.queue_prefetch = plan.threads

    def start(self) -> None:
        """Say that this worker is here, and begin to take messages. Raises Unavailable."""
        with self.database.transaction() as session:
            self._register(session)
        try:
            self._take_messages()
        except BaseException:
            self._tell(worker.mark_stopped, [self.id])
            raise
        self.watchdog.start()
        log.info("worker_started", worker_id=str(self.id), queues=self.plan.names, threads=self.plan.threads)

    def _take_messages(self) -> None:
        dramatiq.actor(broker=self.broker, actor_name=ACTOR, queue_name=self.plan.queues[0], throws=OfNoJob)(
            putting_aside(self.executor.run)
        )
        for queue in self.plan.queues[1:]:
            self.broker.declare_queue(queue)
        self.dramatiq.start()

    def announce_stop(self) -> None:
        """Say that it is to stop soon: should it be ended before it has, that was no job's doing."""
        self._tell(worker.mark_draining, self.id)

    def stop(self, grace_seconds: float) -> None:
        """Take nothing new, give back what was not begun, finish what was; interrupt what takes too long."""
        log.info("worker_draining", worker_id=str(self.id), in_hand=len(self.executor.in_hand.runs()))
        self.draining = True
        self.broker.drain()
        self.flow.drain()
        self.announce_stop()
        self._give_back_prefetched()
        if not self.executor.in_hand.wait_until_empty(grace_seconds):
            self._interrupt_the_rest()
        self._give_back(self._take_waiting())
        self.watchdog.stop()
        self.executor.isolated.close()
        self.dramatiq.stop(timeout=int(LAST_WORDS.total_seconds() * 1000))
        # Whatever is still said to run here, no one would ask for again once the worker is known to be gone.
        back = self._tell(take_back, [self.id], [self.id], f"worker:{self.id}", "its worker stopped")
        if back is not None:
            back.count()
        if back:
            self.doorbell.ring()
        self.broker.close()
        log.info("worker_stopped", worker_id=str(self.id))

    def consuming(self) -> bool:
        """Whether the broker may send it messages, on one of its queues at least."""
        consumers = [thread.consumer for thread in self.dramatiq.consumers.values()]
        return not self.draining and any(map(_is_connected, consumers))

    def report(self) -> Report:
        """How it is, for its parent."""
        runs, now = self.executor.in_hand.runs(), time.monotonic()
        running = tuple(Running(run.ref, run.overdue_from(now)) for run in runs)
        return Report(ready=True, consuming=self.consuming(), draining=self.draining, busy=len(runs), running=running)

    def _beats(self) -> bool:
        return self.watched is None or self.watched.orphaned.is_set()

    def _register(self, session: Session) -> None:
        worker.register(
            session,
            self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self.plan.names,
            threads=self.plan.threads,
            version=self.plan.version,
            parent_pid=self.watched.parent_pid if self.watched else None,
            consuming=False,
        )

    def _give_back_prefetched(self) -> None:
        """Return messages that wait for a thread to the broker, once it sends no more of them."""
        for thread in self.dramatiq.workers:
            thread.stop()
        consumers = [thread.consumer for thread in self.dramatiq.consumers.values()]
        deadline = time.monotonic() + UNTIL_CANCELLED.total_seconds()
        while not all(getattr(consumer, "cancelled", True) for consumer in consumers) and time.monotonic() < deadline:
            time.sleep(0.02)
        waiting = self.dramatiq.work_queue
        while not waiting.empty():
            try:
                message = waiting.get_nowait().message
            except Empty:  # a thread that had not heard yet was quicker
                break
            consumer = self.dramatiq.consumers[message.queue_name].consumer
            if consumer is not None:
                consumer.requeue([message])
            waiting.task_done()

    def _interrupt_the_rest(self) -> None:
        in_hand = self.executor.in_hand
        waiting = self._take_waiting()  # first, or the next of its message would begin where one is interrupted
        for run in in_hand.runs():
            run.section.interrupt(Draining)
            metrics.interrupts.labels(Draining.__name__).inc()
        self._give_back(waiting)  # last: one of those may hold what the database needs for it
        if in_hand.wait_until_empty(LAST_WORDS.total_seconds()):
            return
        self._give_back(self._take_waiting())  # of a message whose start was still under way before
        # A handler inside a C call hears nothing. Its job goes back to the queue without it, and should it
        # wake before the process ends, its lease is no longer good.
        endings = [
            Ending(run.ref, reason="the worker stopped and the handler did not let go") for run in in_hand.runs()
        ]
        if self._tell(moves.interrupt, endings, f"worker:{self.id}"):
            self.doorbell.ring()
        for run in in_hand.runs():
            run.section.interrupt(LeaseLost)

    def _take_waiting(self) -> list[Started]:
        """What was started with others of its message, and has not begun: it does not, from now on."""
        return [job for turn in self.executor.in_hand.turns() for job in turn.take_waiting(math.inf)]

    def _give_back(self, waiting: list[Started]) -> None:
        try:
            self.watchdog.give_back_all(waiting)
        except Exception:
            log.warning("worker_could_not_tell", worker_id=str(self.id), exc_info=True)

    def _tell(self, statement: Any, *arguments: Any) -> Any:
        """What one statement on the way out gives; None if it fails: what is not said the dispatcher finds out."""
        try:
            return self.database.run(lambda session: statement(session, *arguments), timedelta(seconds=3))
        except Exception:
            log.warning("worker_could_not_tell", worker_id=str(self.id), exc_info=True)
            return None


def _is_connected(consumer: Any) -> bool:
    """Whether a consumer was made, and if it has a connection to lose, has not lost it."""
    connection = getattr(consumer, "connection", None)
    return consumer is not None and (connection is None or bool(connection.is_open))
