"""How far queues are behind, as one process of the API knows it."""

import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.orm import Session

from api.seldom import Seldom
from models import backlog

ASKED_EVERY_SECONDS = 1.0
MOST_QUEUES = 1000


class Backlog:
    """How far queues are behind, asked once a second a queue at most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._seldom = Seldom(ASKED_EVERY_SECONDS, clock)
        self._age: dict[str, timedelta] = {}

    def age(self, session: Session, queue: str) -> timedelta:
        """How long the queue's oldest due job has waited."""
        if self._seldom.may_ask(queue) or queue not in self._age:
            age = backlog.oldest_due(session, queue)
            if len(self._age) >= MOST_QUEUES:  # clients name queues as they like
                self._age.clear()
            self._age[queue] = age
            return age
        return self._age.get(queue, timedelta(0))
