"""Telling many clients at once what becomes of their jobs: one thread asks for all of them in one query."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

import structlog

from models import queries
from models.database import Database
from models.errors import Unavailable
from models.job import Job

log = structlog.get_logger(__name__)

EVERY_SECONDS = 0.1
"""How often the watched jobs are asked for. Half of it is what a client waits longer than its job took, on average."""


class Full(Exception):  # noqa: N818
    """As many clients wait in this process as may."""


class Watch:
    """One client's watch over a job. It holds the newest state only: who is slow to look misses what was between."""

    def __init__(self, job: Job) -> None:
        self.job: Job | None = job
        self.over = False
        self._changed = threading.Event()

    def tell(self, job: Job | None, *, over: bool = False) -> None:
        """Say how the job is now; None: it is there no more. With `over` nothing will be said any more."""
        self.job, self.over = job, over or job is None
        self._changed.set()

    def next(self, seconds: float) -> bool:
        """Wait until something was told; False if that took longer."""
        told = self._changed.wait(seconds)
        self._changed.clear()
        return told


class Watcher:
    """The watches of one process, and the thread that looks after them while there are any."""

    def __init__(self, database: Database, most: int) -> None:
        self._database = database
        self._most = most
        self._watches: set[Watch] = set()
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, job: Job) -> Iterator[Watch]:
        """Watch a job that was just read. Raises Full."""
        mine = Watch(job)
        with self._lock:
            if len(self._watches) >= self._most or self._stopping:
                raise Full
            self._watches.add(mine)
            self._wanted.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
                self._thread.start()
        try:
            yield mine
        finally:
            with self._lock:
                self._watches.discard(mine)

    def stop(self) -> None:
        """Let everybody go with what is known, and take nobody more."""
        # Nothing but this: a signal's handler calls it, which may be interrupted by the next while it held a lock.
        self._stopping = True

    def _run(self) -> None:
        while self._wanted.wait() and not self._stopping:
            self._look(self._present())
            time.sleep(EVERY_SECONDS)
        for watch in self._present():
            watch.tell(watch.job, over=True)

    def _present(self) -> list[Watch]:
        with self._lock:
            if not self._watches:
                self._wanted.clear()
            return list(self._watches)

    def _look(self, watches: Sequence[Watch]) -> None:
        try:
            with suppress(Unavailable):  # it is asked again soon, and nobody waits for longer than he said
                self._tell(watches)
        except Exception as error:
            log.exception("watcher_failed", exc_info=error)

    def _tell(self, watches: Sequence[Watch]) -> None:
        known = {watch: watch.job for watch in watches}
        ids = {job.id for job in known.values() if job}
        if not ids:
            return
        with self._database.reading() as session:
            signs = queries.signs(session, list(ids))
            changed = {job.id for job in known.values() if job and signs.get(job.id) != queries.sign_of(job)}
            now: dict[UUID, Any] = queries.find_by_ids(session, None, list(changed)) if changed else {}
        for watch, job in known.items():
            if job and job.id in changed:
                watch.tell(now.get(job.id))
