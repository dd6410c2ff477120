"""Where one attempt's requests go: its checkpoints, and the session that commits with its success."""

from collections.abc import Callable
from contextlib import ExitStack, suppress

from sqlalchemy.orm import Session

from jobs.context import Answer
from jobs.outcomes import Json, LeaseLost
from jobs.serialise import to_json
from models import reports
from models.crashpoints import crashpoint
from models.database import Database
from models.job import Ref

MOST_CHECKPOINT_BYTES = 64 * 1024


class DatabaseDesk:
    """The worker's end of a `Context`. Whoever made it ends it by `commit` or `roll_back`."""

    def __init__(self, database: Database, ref: Ref) -> None:
        self.database = database
        self.ref = ref
        self.session: Session | None = None
        self._open: ExitStack | None = None

    def save_checkpoint(self, value: Json) -> None:
        """Commit a checkpoint. Raises LeaseLost when the job has gone to another worker."""
        if self.session is not None and self.database.path is not None:
            raise RuntimeError("Save the checkpoint before using context.session: SQLite has only one writer.")
        text = to_json(value, MOST_CHECKPOINT_BYTES).decode()
        if not self.database.run(lambda session: reports.write_checkpoint(session, self.ref, text)):
            raise LeaseLost
        crashpoint("worker.mid_handler")

    def open_session(self) -> Session:
        """The attempt's own session, in a transaction from now until its end."""
        if self.session is None:
            self._open = ExitStack()
            self.session = self._open.enter_context(self.database.transaction())
        return self.session

    def run(self, step: Callable[[Session], Answer]) -> Answer:
        """Do a step in a transaction of its own, and again while the database does not serve it."""
        return self.database.run(step)

    def commit(self) -> None:
        """Commit what the attempt wrote. Raises Unavailable when that is not certain."""
        if self._open is not None:
            self._open.close()

    def roll_back(self) -> None:
        """Undo what the attempt wrote and has not committed; does nothing without a session."""
        if self._open is not None:
            with suppress(Exception):  # the transaction is void either way, and its failure to say so is no news
                self._open.__exit__(_Undone, _Undone(), None)


class _Undone(Exception):  # noqa: N818
    """Ends a transaction without committing it."""
