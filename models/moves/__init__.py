"""The named moves: every statement that writes a job's state, one per move.

Each is one statement over a set of jobs, guarded by state and, where a worker or an operator acts on what
it read before, by lease. The rows that come back are those that moved; what is missing was stale. None
commits. The moves themselves are told in `models.states`.
"""

from models.moves.dispatching import claim, record, release, start
from models.moves.finishing import bury, interrupt, rescue, retry, snooze, stop, succeed
from models.moves.frame import Ending, Moved, Started
from models.moves.operating import cancel, discard, edit, prune, redrive, run_now

__all__ = [
    "Ending",
    "Moved",
    "Started",
    "bury",
    "cancel",
    "claim",
    "discard",
    "edit",
    "interrupt",
    "prune",
    "record",
    "redrive",
    "release",
    "rescue",
    "retry",
    "run_now",
    "snooze",
    "start",
    "stop",
    "succeed",
]
