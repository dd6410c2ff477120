"""The processes that one worker keeps for isolated handlers: made when they are needed, kept while they are of use."""

import logging
import threading
import time
from collections.abc import Sequence

from jobs.outbound import Outbound
from workers import metrics
from workers.isolation.process import HandlerProcess

IDLE_SECONDS = 60.0
LOOK_EVERY_SECONDS = 1.0


class Pool:
    """Never more processes than were in use at once, and each thread of the worker uses one at most."""

    def __init__(self, modules: Sequence[str], http: Outbound) -> None:
        self.modules = modules
        self.http = http
        self._lock = threading.Lock()
        self._idle: list[HandlerProcess] = []
        self._all: set[HandlerProcess] = set()
        self._closed = threading.Event()
        self._tidier: threading.Thread | None = None

    @property
    def closed(self) -> bool:
        """Whether the worker has stopped; what dies now was ended by it."""
        return self._closed.is_set()

    def take(self) -> HandlerProcess:
        """The process that was given back last, or a new one. Raises OSError when none can be started."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        process = HandlerProcess(
            self.modules, self.http.allowed_networks, self.http.allow_http, logging.getLogger().getEffectiveLevel()
        )
        metrics.isolated_started.inc()
        with self._lock:
            self._all.add(process)
        if self.closed:
            process.kill()
        return process

    def give_back(self, process: HandlerProcess) -> None:
        """Keep it for the next job."""
        process.fresh, process.idle_since = False, time.monotonic()
        with self._lock:
            self._idle.append(process)
            if self._tidier is None and not self.closed:
                self._tidier = threading.Thread(target=self._tidy, name="isolation-tidier", daemon=True)
                self._tidier.start()
        if self.closed:
            self._dismiss([process])

    def end(self, process: HandlerProcess) -> int:
        """End it at once; returns how it ended. For the thread that took it."""
        status = process.kill()
        process.close()
        with self._lock:
            self._all.discard(process)
        return status

    def close(self) -> None:
        """End all of them, those at work too. None is left when this returns."""
        self._closed.set()
        with self._lock:
            idle, tidier = self._idle, self._tidier
            self._idle = []
        self._dismiss(idle)
        with self._lock:
            at_work = list(self._all)
        for process in at_work:
            process.kill()  # the thread that took it sees it die, and lets go of the rest
        if tidier is not None:
            tidier.join(LOOK_EVERY_SECONDS)

    def _tidy(self) -> None:
        """End what has been idle for long and bury what died meanwhile, until there is nothing left to look at."""
        while not self._closed.wait(LOOK_EVERY_SECONDS):
            oldest = time.monotonic() - IDLE_SECONDS
            with self._lock:
                useless = [process for process in self._idle if process.idle_since <= oldest or process.died()]
                self._idle = [process for process in self._idle if process not in useless]
                if over := not self._idle:
                    self._tidier = None
            self._dismiss(useless)
            if over:
                return

    def _dismiss(self, processes: Sequence[HandlerProcess]) -> None:
        for process in processes:
            process.hang_up()
        for process in processes:
            process.ends_by_itself()
            self.end(process)
