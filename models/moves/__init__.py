"""The named moves: every statement that writes a job's state, one per move.

Each is one statement over a set of jobs, guarded by state and, where a worker or an operator acts on what
it read before, by lease. The rows that come back are those that moved; what is missing was stale. None
commits. The moves themselves are told in `models.states`.
"""

from models.moves.dispatching import claim, claim_shares, record, release, release_from, start
from models.moves.finishing import bury, interrupt, rescue, retry, snooze, stop, succeed, succeed_unheard
from models.moves.frame import Ending, Moved, Started
from models.moves.operating import cancel, discard, edit, redrive, run_now
from models.moves.pruning import prune, prune_letters

__all__ = [
    "Ending",
    "Moved",
    "Started",
    "bury",
    "cancel",
    "claim",
    "claim_shares",
    "discard",
    "edit",
    "interrupt",
    "prune",
    "prune_letters",
    "record",
    "redrive",
    "release",
    "release_from",
    "rescue",
    "retry",
    "run_now",
    "snooze",
    "start",
    "stop",
    "succeed",
    "succeed_unheard",
]
