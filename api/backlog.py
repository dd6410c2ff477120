"""How far queues are behind, as one process of the API knows it."""

import math
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.orm import Session

from models import backlog

ASKED_EVERY_SECONDS = 1.0
MOST_QUEUES = 1000


class Backlog:
    """How far queues are behind, asked once a second a queue at most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at: dict[str, float] = {}
        self._age: dict[str, timedelta] = {}

    def age(self, session: Session, queue: str) -> timedelta:
        """How long the queue's oldest due job has waited."""
        if self._may_ask(queue):
            self._age[queue] = backlog.oldest_due(session, queue)
        return self._age.get(queue, timedelta(0))

    def _may_ask(self, queue: str) -> bool:
        with self._lock:
            now = self._clock()
            if now - self._asked_at.get(queue, -math.inf) < ASKED_EVERY_SECONDS:
                return False
            if len(self._asked_at) >= MOST_QUEUES:  # clients name queues as they like
                self._asked_at.clear()
                self._age.clear()
            self._asked_at[queue] = now
            return True
