"""Jobs that failed for good, as types: what they died of, and what may be done with one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict

from jobmill_client.documents import Document, Failure, Job


class DeadFilters(TypedDict, total=False):
    """Which dead letters to list: `error` is the class of the error, `group` one of the groups' names.

    `endpoint_id`: deliveries to that webhook endpoint.
    """

    type: str
    queue: str
    error: str
    group: str
    endpoint_id: str
    died_after: datetime | str
    died_before: datetime | str
    order: Literal["newest", "oldest"]


class AttemptFailure(Failure):
    """Why an attempt failed: the place in your code, and the traceback."""

    place: str | None = None
    trace: str | None = None


class Attempt(Document):
    """An attempt that failed, or was lost with its worker."""

    attempt: int
    at: datetime
    move: str
    state: str
    lease: int
    actor: str
    reason: str | None
    error: AttemptFailure


class DeadLetter(Job):
    """A job that failed for good, and the name of the group of those that died of the same thing."""

    group: str | None
    place: str | None

    def replay(self) -> Job:
        """Queue it again, with fresh attempts. Raises Conflict if it is dead no more, or its unique key is held."""
        return self._asked.replay(self.id)

    def discard(self) -> Job:
        """Give it up for good. Raises Conflict if it is dead no more."""
        return self._asked.discard(self.id)

    def edit(self, args: Mapping[str, Any]) -> "WholeDeadLetter":
        """Give it other arguments, all of them. Raises InvalidRequest, Conflict."""
        return self._asked.edit_dead_letter(self.id, args)


class WholeDeadLetter(DeadLetter):
    """A job that failed for good with its attempts, oldest first."""

    attempts: list[Attempt]


class DeadGroup(Document):
    """The dead letters of one type that died of the same thing: how many, since when, and the last of them."""

    group: str
    type: str
    error_type: str | None
    message: str | None
    place: str | None
    count: int
    first_seen: datetime
    last_seen: datetime
    sample_id: str


def told(filters: Mapping[str, Any]) -> dict[str, Any]:
    """The filters as parameters of a request."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in filters.items()}
