"""Who may dispatch: one leader, kept by a lease row. It saves work; what keeps jobs safe is the guard of each move."""

import math
import threading
import time
from datetime import timedelta
from uuid import UUID

import structlog

from models import lease
from models.database import Database
from models.errors import Unavailable
from models.lease import Term

log = structlog.get_logger(__name__)

LEASE = "dispatcher"
TERM = timedelta(seconds=5)
"""So long nobody dispatches after a leader was killed or stood still. A renewal may take half of it and costs nothing;
one that hangs for longer, as on a frozen backend, costs a second or two without a leader, and no job (see
docs/decisions/leader-by-lease.md)."""
RENEW_EVERY = timedelta(seconds=2)
TRY_EVERY = timedelta(seconds=0.5)
"""A standby's pace: for so long nobody leads after a leader has resigned, and no job may wait for a second by that."""


class Leadership:
    """Takes the lease when it is free and renews it; `held` says whether this process may act.

    Each renewal finds out whether jobs wait, and then sets `wake`, which wakes the dispatch: nobody need have told it.
    And whether any is claimed or runs: while none does, much that a leader would look after needs no look.
    """

    name = "leadership"

    def __init__(self, database: Database, holder: UUID, wake: threading.Event | None = None) -> None:
        self.database = database
        self.holder = holder
        self.wake = wake or threading.Event()
        self.in_motion = True
        """Whether any job was claimed or ran at the last renewal."""
        self._held_until = 0.0
        self._answered_since = math.inf
        self._answered_at = -math.inf
        self._leads = False  # as it was told last: a leader that stood still for its whole term did not hear of it

    @property
    def held(self) -> bool:
        """Whether the lease is surely still ours: counted from before it was asked for."""
        return time.monotonic() < self._held_until

    @property
    def listened_seconds(self) -> float:
        """For how long the database has answered without a break, also while another led: then workers could beat."""
        return max(0.0, time.monotonic() - self._answered_since)

    def run_once(self) -> float:
        """Take or renew the lease."""
        asked_at = time.monotonic()
        term = self._ask(asked_at)
        leads = term is not None
        self._held_until = asked_at + TERM.total_seconds() if leads else 0.0
        self._heed(term)
        if leads != self._leads:
            self._leads = leads
            log.info("leadership_changed", leads=leads)
        took = time.monotonic() - asked_at
        return max(0.0, (RENEW_EVERY if leads else TRY_EVERY).total_seconds() - took)

    def _ask(self, asked_at: float) -> Term | None:
        # Whoever did not ask for a whole term stood still, and maybe all of its machine with its workers.
        if asked_at - self._answered_at > TERM.total_seconds():
            self._answered_since = math.inf
        try:
            with self.database.heart() as session:
                term = lease.lead(session, LEASE, self.holder, TERM)
        except Unavailable:
            self._answered_since = math.inf
            raise
        self._answered_at = time.monotonic()
        self._answered_since = min(self._answered_since, self._answered_at)
        return term

    def _heed(self, term: Term | None) -> None:
        self.in_motion = term is None or term.in_motion
        if term is not None and term.waiting:
            self.wake.set()

    def resign(self) -> None:
        """Let a standby take over at once."""
        self._held_until = 0.0
        with self.database.heart() as session:
            lease.resign(session, LEASE, self.holder)
