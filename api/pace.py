"""When to look at a job again: by how long jobs of its type have taken lately, as one process of the API knows it."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median

import structlog

from api.seldom import Seldom
from models import queries
from models.database import Database
from models.errors import Unavailable
from models.job import Job

log = structlog.get_logger(__name__)

ASKED_EVERY_SECONDS = 10.0
AT_ONCE = timedelta(0)
RECENT = 500
"""The median of each type is taken of so many jobs that ended last. A type without one among them keeps its last."""
MOST_TYPES = 1000
SOONEST, LATEST = 1, 30
LATE = 4
"""A job that should have ended is looked at again after a part of the time that it is late: so seldom if it is stuck,
and never later than by that part."""


class Pace:
    """How long jobs take from their due time to their end, asked once in ten seconds at most."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._seldom = Seldom(ASKED_EVERY_SECONDS, clock)
        self._took: dict[str, float] = {}
        self._ahead = timedelta(0)

    def learn(self) -> None:
        """Ask the database, unless that was done lately. Once the answer has left: a hint is worth no one's wait.

        While the database is away, what was known stays.
        """
        if not self._seldom.may_ask("ended lately"):
            return
        try:
            ended_lately = self._database.read(lambda session: queries.ended_lately(session, RECENT), AT_ONCE)
        except Unavailable as error:
            log.info("pace_unknown", cause=str(error))
            return
        took: dict[str, list[float]] = {}
        for ended in ended_lately:
            self._ahead = ended.now - datetime.now(UTC)
            took.setdefault(ended.type, []).append(max(0.0, (ended.finished_at - ended.due_at).total_seconds()))
        kept = self._took if len(self._took) < MOST_TYPES else {}
        self._took = {**kept, **{name: median(values) for name, values in took.items()}}

    def seconds_until(self, job: Job) -> int:
        """In how many seconds to look at an unfinished job again, 1 to 30; for what is known of its type."""
        ends_at = job.due_at + timedelta(seconds=self._took.get(job.type, 0))
        return look_again(ends_at, datetime.now(UTC) + self._ahead)


def look_again(ends_at: datetime, now: datetime) -> int:
    """Whole seconds until a job should have ended, or a part of those since then, 1 to 30."""
    left = (ends_at - now).total_seconds()
    return min(LATEST, max(SOONEST, math.ceil(left if left > 0 else -left / LATE)))
