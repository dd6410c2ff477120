"""Who may dispatch: one leader, kept by a lease row. It saves work; what keeps jobs safe is the guard of each move."""

import time
from datetime import timedelta
from uuid import UUID

import structlog

from models import worker
from models.database import Database

log = structlog.get_logger(__name__)

LEASE = "dispatcher"
TERM = timedelta(seconds=5)
"""So long nobody dispatches after a leader was killed or stood still. A renewal may take half of it and costs nothing;
one that hangs for longer, as on a frozen backend, costs a second or two without a leader, and no job (see
docs/decisions/leader-by-lease.md)."""
RENEW_EVERY = timedelta(seconds=1)
TRY_EVERY = timedelta(seconds=0.5)
"""A standby's pace: for so long nobody leads after a leader has resigned, and no job may wait for a second by that."""


class Leadership:
    """Takes the lease when it is free and renews it; `held` says whether this process may act."""

    name = "leadership"

    def __init__(self, database: Database, holder: UUID) -> None:
        self.database = database
        self.holder = holder
        self._held_until = 0.0
        self._leads = False  # as it was told last: a leader that stood still for its whole term did not hear of it

    @property
    def held(self) -> bool:
        """Whether the lease is surely still ours: counted from before it was asked for."""
        return time.monotonic() < self._held_until

    def run_once(self) -> float:
        """Take or renew the lease."""
        asked_at = time.monotonic()
        with self.database.heart() as session:
            leads = worker.lead(session, LEASE, self.holder, TERM)
        self._held_until = asked_at + TERM.total_seconds() if leads else 0.0
        if leads != self._leads:
            self._leads = leads
            log.info("leadership_changed", leads=leads)
        took = time.monotonic() - asked_at
        return max(0.0, (RENEW_EVERY if leads else TRY_EVERY).total_seconds() - took)

    def resign(self) -> None:
        """Let a standby take over at once."""
        self._held_until = 0.0
        with self.database.heart() as session:
            worker.resign(session, LEASE, self.holder)
