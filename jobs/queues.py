"""What an operator may do with a queue: look at it, pause and resume it, limit it.

Queues are shared by all tenants, so only an operator of the installation changes one; a tenant sees its own jobs in it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from jobs.scopes import Principal
from models import moves, queue, queue_figures
from models.queue import Queue
from models.queue_figures import QueueFigures

MOST_RELEASED = 10_000
"""More than a dispatcher ever puts on the broker; should there be more, it takes back the rest."""

Change = tuple[Queue, Queue]


class NoSuchQueue(Exception):  # noqa: N818
    """No queue of that name, or none that the principal may see."""


class Shared(Exception):  # noqa: N818
    """A tenant would have changed what it shares with others."""

    def __init__(self) -> None:
        super().__init__("Queues are shared by all tenants: pausing or limiting one takes a platform key.")


@dataclass(frozen=True)
class Overview:
    """A queue as it is: what was said of it, and what is in it of the principal's."""

    queue: Queue
    figures: QueueFigures


def overviews(session: Session, principal: Principal, behind: str | None, limit: int) -> list[Overview]:
    """The queues that there are to the principal, by name."""
    names = queue_figures.queue_names(session, principal.tenant_id, behind, limit)
    return _overviews(session, principal, names, queue.find_queues(session, names))


def overview(session: Session, principal: Principal, name: str) -> Overview:
    """One queue. Raises NoSuchQueue."""
    said = queue.find_queues(session, [name])
    (found,) = _overviews(session, principal, [name], said)
    if not (said or _has_anything(session, principal, found)):
        raise NoSuchQueue(f"There is no queue {name[:100]!r}.")
    return found


def pause(session: Session, principal: Principal, name: str) -> tuple[Change, int]:
    """Let none of its jobs begin; gives how it was and is, and how many jobs came back from the broker.

    Raises NoSuchQueue, Shared.
    """
    change = _changed(session, principal, name, lambda: queue.pause(session, name, principal.actor))
    return change, len(moves.release_from(session, name, MOST_RELEASED))


def resume(session: Session, principal: Principal, name: str) -> Change:
    """Let its jobs begin again; gives how it was and is. Raises NoSuchQueue, Shared."""
    return _changed(session, principal, name, lambda: queue.resume(session, name))


def limit(session: Session, principal: Principal, name: str, **limits: float | None) -> Change:
    """Set its limits, those that are told; gives how it was and is. Raises NoSuchQueue, Shared."""
    return _changed(session, principal, name, lambda: queue.limit(session, name, **limits))


def _changed(session: Session, principal: Principal, name: str, change: Callable[[], Change]) -> Change:
    overview(session, principal, name)
    if principal.tenant_id is not None:
        raise Shared
    return change()


def _overviews(
    session: Session, principal: Principal, names: Sequence[str], said: Mapping[str, Queue]
) -> list[Overview]:
    figures = queue_figures.figures_of(session, names, principal.tenant_id)
    found = [said.get(name, Queue(name)) for name in names]
    if principal.tenant_id is not None:  # to which the platform's operators are nobody it knows
        found = [replace(one, paused_by=None) for one in found]
    return [Overview(one, figures[one.name]) for one in found]


def _has_anything(session: Session, principal: Principal, found: Overview) -> bool:
    if found.figures.workers or found.figures.counts.total():
        return True
    return principal.tenant_id is not None and queue_figures.has_jobs(session, found.queue.name, principal.tenant_id)
