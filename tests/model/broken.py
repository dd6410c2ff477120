"""Statements and decisions of the product, each broken in one place: the model must see the difference.

A variant is an edit of a function's source, compiled in the function's own module and put wherever it is used.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from sqlalchemy import text

from jobs import submit
from models import queries, reports, worker
from models.database import Database
from models.moves import dispatching, finishing, frame, operating, pruning, telling
from workers import decide, executor, recorder, running
from workers.duties import reconcile

FOLDERS = ("models", "jobs", "workers", "tests.model")


@dataclass(frozen=True)
class Variant:
    """One thing that is wrong. `of` is a function of a module or of a class."""

    name: str
    of: Callable[..., Any]
    instead_of: str
    is_: str

    def __str__(self) -> str:
        return self.name


VARIANTS = [
    # The guards
    Variant("the lease is not looked at", frame.fenced, "_c.lease == rows.c.lease, ", ""),
    Variant(
        "the state is not looked at",
        frame.fenced,
        "_c.lease == rows.c.lease, in_source_of(move)",
        "_c.lease == rows.c.lease",
    ),
    Variant(
        "a cancelled job can be cancelled again",
        operating._cancel,
        "in_source_of(Move.CANCEL), _c.cancel_requested_at.is_(None)",
        "in_source_of(Move.CANCEL)",
    ),
    Variant(
        "a retry forgets that its job is to be cancelled",
        finishing._retry,
        ".where(_c.cancel_requested_at.is_(None))",
        "",
    ),
    Variant(
        "a rescue forgets that its job is to be cancelled", finishing._rescue, "(cancelled, State.CANCELLED), ", ""
    ),
    Variant("a checkpoint is kept under any lease", reports._checkpoint, '_c.lease == bindparam("of_lease"), ', ""),
    Variant("progress is kept under any lease", reports._progress, "_c.lease == rows.c.lease, ", ""),
    # The lease
    Variant(
        "a claim does not raise the lease",
        dispatching._claim,
        "dialect), dialect)",
        "dialect), dialect).values(lease=_c.lease)",
    ),
    Variant(
        "a release lowers the lease",
        dispatching._release,
        "state=State.QUEUED",
        "state=State.QUEUED, lease=_c.lease - 1",
    ),
    Variant("a redrive lowers the lease", operating._redrive, "attempt=0,", "attempt=0, lease=0,"),
    Variant("a rescue raises no loss", finishing._rescue, "lost=_c.lost + 1", "lost=_c.lost"),
    Variant("two losses are death", finishing._rescue, ">= LOSSES_UNTIL_DEAD", ">= LOSSES_UNTIL_DEAD - 1"),
    Variant(
        "a job that a loss would bury begins beside others",
        dispatching._start,
        "started.where(_c.lost < LOSSES_UNTIL_ALONE)",
        "started",
    ),
    # Attempts
    Variant("a start counts no attempt", dispatching._start, "attempt=_c.attempt + 1", "attempt=_c.attempt"),
    Variant("an interrupt costs an attempt", finishing._given_back, "attempt=ATTEMPT_GIVEN_BACK,", ""),
    Variant("a rescue costs an attempt", finishing._rescue, "attempt=ATTEMPT_GIVEN_BACK,", ""),
    Variant("a redrive gives no fresh attempts", operating._redrive, "attempt=0,", ""),
    Variant(
        "one attempt too many",
        decide._after_failure,
        "job.attempt >= job.max_attempts",
        "job.attempt > job.max_attempts",
    ),
    # Time
    Variant(
        "a claim takes what is not due",
        dispatching._claim,
        "_due(in_state(State.QUEUED))",
        """select(_c.id).where(in_state(State.QUEUED), _c.queue == bindparam("of_queue"),
            _c.priority == bindparam("of_priority")).order_by(_c.due_at, _c.id)""",
    ),
    Variant(
        "a claim takes the newest first",
        dispatching._claim,
        "_due(in_state(State.QUEUED))",
        "_due(in_state(State.QUEUED)).order_by(None).order_by(_c.due_at.desc(), _c.id.desc())",
    ),
    Variant("a retry is due at once", finishing._retry, "rows.c.delay_seconds", "0"),
    Variant("an interrupted job loses its place", finishing._given_back, "state=", "due_at=now(), state="),
    Variant("a rescued job loses its place", finishing._rescue, "lost=_c.lost + 1,", "lost=_c.lost + 1, due_at=now(),"),
    Variant("a worker is never silent", worker.silent, "DEAD_AFTER.total_seconds()", "600"),
    Variant("what just ended is pruned with what is old", pruning.prune, "-older_than.total_seconds()", "0"),
    # Who has what
    Variant("a doubled message begins its job twice", running.InHand.take, "if ref not in self._taken", ""),
    Variant(
        "a start whose answer was lost is not found",
        executor.Executor._start_or_find,
        "return started + found",
        "return started",
    ),
    Variant(
        "an end whose answer was lost is taken for stale",
        recorder.Recorder._apply,
        "done = queries.ended_by(session, ref, self.actor)",
        "done = None",
    ),
    Variant("another's end is taken for one's own", queries.ended_by, ", c.actor == actor", ""),
    Variant("a claim is renewed under any lease", reports._renewal, "_c.lease == rows.c.lease, ", ""),
    # Dead letters
    Variant("a burial does not say of what", finishing._bury, "error_type=rows.c.error_type", "error_type=null()"),
    Variant("what dies of a loss is of no group", finishing._rescue, "(dead, rows.c.fingerprint)", "(dead, null())"),
    Variant(
        "an edit does not look at what it replaces",
        operating._edit,
        "cast(_c.args, Text) == rows.c.before",
        "rows.c.before.is_not(None)",
    ),
    # History
    Variant(
        "history forgets that an attempt was given back",
        frame.remember,
        "job.attempt + (move in GIVE_BACK)",
        "job.attempt",
    ),
    Variant("a retry leaves no history", frame.remember, "if events:", "if events and move != Move.RETRY:"),
    Variant("history tells everything twice", frame.remember, "for job in moved:", "for job in moved * 2:"),
    # Keys
    Variant(
        "an idempotency key is everyone's", queries.find_by_idempotency_keys, "of_tenant(_c.tenant_id, tenant_id), ", ""
    ),
    Variant("a key may come with another body", submit._by_idempotency_key, "known_hash != new.request_hash", "False"),
]

UNTOLD = [
    Variant("a cancel tells nobody", operating.cancel, "tell(", "(lambda _s, moved: moved)("),
    Variant(
        "a success is kept although somebody listens",
        finishing._succeed_unheard,
        ".where(~heard(EVENTS[State.SUCCEEDED]))",
        "",
    ),
    Variant("every end is told of as a death", telling._notices, "EVENTS[job.state]", "EVENTS[State.DEAD]"),
]
"""Those that only somebody notices who listens."""

RARE = [
    Variant("an edit keeps the work on the old arguments", operating._edit, ", checkpoint=null()", ""),
    Variant(
        "a redrive does not look for who holds the key",
        operating._redrive,
        "rows.c.place == 1, ~held",
        "rows.c.place == 1",
    ),
    Variant(
        "claims never expire",
        queries.expired_claims,
        "_c.lease_expires_at < now()",
        "_c.lease_expires_at < seconds_from_now(-600)",
    ),
    Variant(
        "a snooze forgets that its job is to be cancelled",
        finishing._given_back,
        ".where(_c.cancel_requested_at.is_(None))",
        "",
    ),
    Variant(
        "the newest claim is thought lost first",
        reconcile.missing,
        "claims[:lost], claims[lost:]",
        "claims[len(claims) - lost:], claims[:len(claims) - lost]",
    ),
]
"""What takes so many steps to notice that only the long list tries."""

INDICES = {
    "the idempotency key is not unique": "jobs_idempotency_key",
    "the unique key is not unique": "jobs_unique_key",
}
"""The rules that are indices of the database; without one, a job is recorded twice."""


@contextmanager
def broken(variant: Variant) -> Iterator[None]:
    """The product with that one thing wrong, as long as the block lasts. Raises where the source has moved on."""
    original = inspect.unwrap(variant.of)
    source = textwrap.dedent(inspect.getsource(original))
    if source.count(variant.instead_of) != 1:
        raise LookupError(f"{variant.of.__qualname__} has not once: {variant.instead_of}")
    owners = _owners(variant.of)
    scope: dict[str, Any] = {}
    module = sys.modules[original.__module__]
    exec(compile(source.replace(variant.instead_of, variant.is_), module.__file__ or "", "exec"), vars(module), scope)  # noqa: S102
    (wrong,) = scope.values()
    try:
        _put(owners, wrong)
        yield
    finally:
        _put(owners, variant.of)


@contextmanager
def without_index(database: Database, name: str) -> Iterator[None]:
    """The database without that index, and as it was afterwards."""
    with database.reading() as session:
        made = session.scalar(text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": name})
    with database.transaction() as session:
        session.execute(text(f"DROP INDEX {name}"))
    try:
        yield
    finally:
        with database.transaction() as session:
            session.execute(text("DELETE FROM jobs"))
            session.execute(text(made))


def _owners(function: Callable[..., Any]) -> list[tuple[Any, str]]:
    """Every name in the product under which the function is called."""
    name = function.__name__
    outer = function.__qualname__.rpartition(".")[0]
    if outer:
        return [(getattr(sys.modules[function.__module__], outer), name)]
    return [(module, name) for module in _ours() if getattr(module, name, None) is function]


def _put(owners: list[tuple[Any, str]], function: Any) -> None:
    for owner, name in owners:
        setattr(owner, name, function)
    for module in _ours():  # statements are built once and kept
        for kept in list(vars(module).values()):
            if hasattr(kept, "cache_clear") and getattr(kept, "__module__", "").startswith("models."):
                kept.cache_clear()


def _ours() -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.startswith(FOLDERS)]
