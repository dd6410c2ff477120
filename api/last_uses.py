"""When each key was last used: written once a minute at most, after the answer, and never at a request's cost."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from models import identity
from models.database import Database
from models.errors import Unavailable

log = structlog.get_logger(__name__)

AT_MOST_EVERY = timedelta(minutes=1)
# A little longer, so that what this process wrote last is a minute old by the database's clock, too.
_NOTED_EVERY_SECONDS = AT_MOST_EVERY.total_seconds() + 1


class LastUses:
    """What one process has to say about its keys' use, and when it last said it."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: dict[str, float] = {}
        self._unwritten: set[str] = set()

    def note(self, key_id: str) -> bool:
        """The key is used now; whether there is anything to write."""
        now = self._clock()
        noted = self._noted.get(key_id)
        if noted is not None and now - noted < _NOTED_EVERY_SECONDS:
            return False
        with self._lock:
            self._noted[key_id] = now
            self._unwritten.add(key_id)
        return True

    def write(self) -> None:
        """Write what was noted. While the database is away it is forgotten, and noted again at the next use."""
        with self._lock:
            key_ids, self._unwritten = self._unwritten, set()
        if not key_ids:
            return
        try:
            with self._database.single() as session:
                identity.touch_keys(session, sorted(key_ids), AT_MOST_EVERY)
        except Unavailable as error:
            log.info("last_use_unwritten", cause=str(error))
            with self._lock:
                for key_id in key_ids:
                    self._noted.pop(key_id, None)
