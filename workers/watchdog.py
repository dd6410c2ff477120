"""The threads that watch over a worker's handlers.

One keeps time and waits for nothing. The other talks with the database: cancellations, lost leases, progress, and
the heartbeat where no parent writes it.
"""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from jobs.outcomes import CancelRequested, Interrupt, LeaseLost, TimedOut
from models import durations, moves, queries, reports, worker
from models.database import Database
from models.errors import Unavailable
from models.moves import Ending, Started
from models.queries import Signal
from models.reports import Report
from models.states import Move
from workers import metrics
from workers.durations import Durations
from workers.duties.rescue import lost
from workers.recorder import Recorder
from workers.running import InHand, Run

log = structlog.get_logger(__name__)

TICK = timedelta(seconds=0.5)
FIRST_TICKS = timedelta(seconds=0.05)
"""Until the worker consumes, which is news that the dispatcher waits for."""
CANCEL_GRACE = timedelta(seconds=2)
"""How long a handler may take to notice `context.cancelled` by itself before it is interrupted."""
LONGEST_TURN = timedelta(seconds=0.5)
"""How long the other jobs of a message wait for the one that runs, before they are given back."""
MOST_TAKEN_BACK = 500
UNBEGUN = "it was started and not begun"


class Watchdog:
    """Watches the handlers of one worker process.

    It writes what `durations` has of news, has `recorder` record what waits too long for it, `register` makes the
    worker's row again should it be gone, `consuming` tells whether the worker takes messages, and `beats` whether it
    writes its own heartbeat.
    """

    def __init__(
        self,
        database: Database,
        worker_id: UUID,
        in_hand: InHand,
        durations: Durations,
        recorder: Recorder,
        register: Callable[[Session], None],
        *,
        consuming: Callable[[], bool] = lambda: True,
        beats: Callable[[], bool] = lambda: True,
    ) -> None:
        self.database = database
        self.worker_id = worker_id
        self.in_hand = in_hand
        self.durations = durations
        self.recorder = recorder
        self.register = register
        self.consuming = consuming
        self.beats = beats
        self.said_consuming = False
        self.beat_due = time.monotonic() + worker.HEARTBEAT_EVERY.total_seconds()
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=self._run, args=[step, bell], name=name, daemon=True)
            for name, step, bell in (
                ("timekeeper", self.keep_time, self.stopping),
                ("watchdog", self.run_once, durations.unheard),
            )
        ]

    def start(self) -> None:
        """Begin to watch."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Stop watching; what is still in hand then is no longer this worker's."""
        self.stopping.set()
        self.durations.unheard.set()
        for thread in self.threads:
            thread.join(TICK.total_seconds() * 10)

    def _run(self, step: Callable[[float], None], bell: threading.Event) -> None:
        """Make the step at each tick, and when the bell rings."""
        while True:
            rung = bell.wait((TICK if self.said_consuming else FIRST_TICKS).total_seconds())
            if self.stopping.is_set():
                return
            if rung:
                bell.clear()
            try:
                step(time.monotonic())
            except Unavailable:
                log.warning("watchdog_without_database")
            except Exception:
                log.exception("watchdog_failed")

    def keep_time(self, now: float) -> None:
        """One look at the clock for every running handler."""
        for run in self.in_hand.runs():
            if run.overdue(now):
                run.timed_out_at = run.timed_out_at or now
                _interrupt(run, TimedOut)

    def run_once(self, now: float) -> None:
        """One exchange with the database: what the handlers must know, what they said, and that the worker lives."""
        runs = self.in_hand.runs()
        if runs:
            self.recorder.hurry()
            self._give_back_waiting(now)
            self._exchange(runs, now)
        consuming = self.consuming()
        if now >= self.beat_due or consuming != self.said_consuming:
            self._beat(consuming=consuming)
            self._take_back()
            self.said_consuming = consuming
            self.beat_due = now + worker.HEARTBEAT_EVERY.total_seconds()
        self._tell_durations(now)  # last, for it may wait

    def _give_back_waiting(self, now: float) -> None:
        """Queue again what waits behind a slow job of its own message: another thread may be free."""
        for turn in self.in_hand.turns():
            waiting = turn.take_waiting(now - LONGEST_TURN.total_seconds())
            refused = self.give_back(waiting, "it waited behind a slow job")
            # Its cancellation was asked for: its turn comes, and its handler is told.
            if refused and not turn.put_back(refused):
                self._lose_sight_of(refused)

    def give_back_all(self, waiting: list[Started]) -> None:
        """Queue again what was started and shall not begin here any more. Raises Unavailable."""
        self._lose_sight_of(self.give_back(waiting, "its worker stopped before it began"))

    def give_back(self, waiting: list[Started], reason: str) -> list[Started]:
        """Queue again what was started and has not begun; gives those that are to be cancelled. Raises Unavailable."""
        if not waiting:
            return []
        endings = [Ending(job.ref, reason=reason) for job in waiting]
        try:
            with self.database.transaction() as session:
                moved = moves.interrupt(session, endings, f"worker:{self.worker_id}")
        except BaseException:
            self._lose_sight_of(waiting)  # they may be queued, and only the answer was lost
            raise
        metrics.moves.labels(Move.INTERRUPT).inc(len(moved))
        if moved:
            self.recorder.ring()
        gone = {job.ref for job in moved}
        return [job for job in waiting if job.ref not in gone]

    def _lose_sight_of(self, unbegun: list[Started]) -> None:
        """Run none of them: what their rows say is looked up with the next heartbeat."""
        refs = [job.ref for job in unbegun]
        self.in_hand.doubt(refs)
        self.in_hand.let_go(refs)

    def _exchange(self, runs: list[Run], now: float) -> None:
        """Read what the handlers must know, then write what they said: on SQLite only a write may have to wait."""
        with self.database.reading() as session:
            signals = queries.signals(session, self.worker_id)
        for run in runs:
            _heed(run, signals.get(run.ref.id), now)
        told = [run for run in runs if run.context.latest_progress is not run.written_progress]
        if told:
            self._write_progress(told)

    def _write_progress(self, runs: list[Run]) -> None:
        said = [(run, run.context.latest_progress) for run in runs]
        lines = [Report(run.ref, progress.percent, progress.message) for run, progress in said if progress]
        with self.database.transaction() as session:
            reports.write_progress(session, lines)
        for run, progress in said:
            run.written_progress = progress

    def _tell_durations(self, now: float) -> None:
        news = self.durations.news(now)
        if not news:
            return
        with self.database.single() as session:
            told = durations.tell(session, self.worker_id, news)
        if told:  # else the row is made again with a heartbeat
            self.durations.told(news, now)
            self.recorder.ring()  # a backlog of a new type waits for this: until it is known, each job travels alone

    def _beat(self, *, consuming: bool) -> None:
        if self.beats():
            with self.database.heart() as session:
                if not worker.beat(session, self.worker_id, consuming=consuming):
                    self.register(session)

    def _take_back(self) -> None:
        """Queue what the rows say we run and nobody here does: the answer to its start, or its end, was lost.

        Only what was begun may have done harm: it counts as lost, and what was not gets its attempt back.
        """
        settled = self.in_hand.lacks(self.in_hand.doubted())
        with self.database.reading() as session:
            running = queries.running_of(session, [self.worker_id], MOST_TAKEN_BACK)
        # Looked up after the rows were read: a job is in hand from before its start until after its end.
        unheld, doubted = self.in_hand.lacks(running), self.in_hand.doubted()
        reason = "its worker lost sight of it"
        begun = [Ending(ref, error=lost(reason), reason=reason) for ref in unheld if ref not in doubted]
        unbegun = [Ending(ref, reason=UNBEGUN) for ref in unheld if ref in doubted]
        moved = self._queue_again(begun, unbegun) if unheld else 0
        if moved:  # else they had just ended in the usual way
            self.recorder.ring()
            log.warning("jobs_taken_back", count=moved)
        # What was to be cancelled is not put back: the next look finds it undoubted, and a rescue cancels it.
        self.in_hand.settle_doubts(settled)

    def _queue_again(self, begun: list[Ending], unbegun: list[Ending]) -> int:
        actor = f"worker:{self.worker_id}"
        with self.database.transaction() as session:
            rescued = moves.rescue(session, begun, actor) if begun else []
            interrupted = moves.interrupt(session, unbegun, actor) if unbegun else []
        metrics.moves.labels(Move.RESCUE).inc(len(rescued))
        metrics.moves.labels(Move.INTERRUPT).inc(len(interrupted))
        return len(rescued) + len(interrupted)


def _heed(run: Run, signal: Signal | None, now: float) -> None:
    if signal is None or signal.lease != run.ref.lease:
        _interrupt(run, LeaseLost)
    elif signal.cancel_requested:
        run.context.cancel()
        run.cancel_seen_at = run.cancel_seen_at or now
        if now - run.cancel_seen_at >= CANCEL_GRACE.total_seconds():
            _interrupt(run, CancelRequested)


def _interrupt(run: Run, kind: type[Interrupt]) -> None:
    if run.section.interrupt(kind):
        metrics.interrupts.labels(kind.__name__).inc()
        told = {"job_id": str(run.ref.id), "tenant_id": str(run.context.tenant), "job_type": run.context.job_type}
        log.warning("handler_interrupted", **told, reason=kind.__name__)
