"""How often a principal may do what: classes of routes, the policy of each, and the arithmetic of a sliding window.

A window slides by weighing: what was used in the window before counts by the part of it that is still within sight.
That needs two numbers a principal and class, errs by little, and never lets through a double burst at a border.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class RouteClass(StrEnum):
    """Requests that are counted together. A batch counts as its jobs."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"
    TOKEN = "token"  # noqa: S105 - the name of a class
    GUESS = "guess"
    """Requests with wrong credentials, from one address or network."""


@dataclass(frozen=True)
class Policy:
    """So many requests in any so many seconds."""

    quota: int
    seconds: int

    def within(self, other: "Policy | None") -> bool:
        """Whether it lets through no more than the other, at once or in the long run; None is no limit."""
        if other is None:
            return True
        return self.quota <= other.quota and self.quota * other.seconds <= other.quota * self.seconds

    def __str__(self) -> str:
        return f"{self.quota}/{self.seconds}"


Policies = Mapping[RouteClass, Policy | None]


def parse(text: str) -> Policy | None:
    """The policy of `quota/seconds`; `none` is no limit. Raises ValueError."""
    if text == "none":
        return None
    quota, slash, seconds = text.partition("/")
    if not (slash and quota.isdecimal() and seconds.isdecimal() and int(quota) and int(seconds)):
        raise ValueError("a rate limit is requests/seconds, such as 600/60, or none")
    return Policy(int(quota), int(seconds))


@dataclass(frozen=True)
class Used:
    """What of a policy is used: in which window, in it, and in the one before."""

    window: int = 0
    now: int = 0
    before: int = 0


@dataclass(frozen=True)
class Standing:
    """How a principal stands after a request: whether it was let through, what is left, and when there is more."""

    policy: Policy
    taken: bool
    left: int
    resets_in: int
    retry_in: int


def take(used: Used, policy: Policy, at: float, many: int = 1) -> tuple[Used, bool]:
    """So many requests more, if there is room for them all."""
    window = math.floor(at / policy.seconds)
    if used.window != window:
        used = Used(window, 0, used.now if used.window == window - 1 else 0)
    if _weighed(used, policy, at) + many > policy.quota:
        return used, False
    return Used(window, used.now + many, used.before), True


def standing(used: Used, policy: Policy, at: float, many: int = 1, *, taken: bool) -> Standing:
    """What to tell whoever wanted so many."""
    left = max(0, math.floor(policy.quota - _weighed(used, policy, at)))
    elapsed = at - used.window * policy.seconds
    retry_in = 0 if taken else max(1, math.ceil(_room_at(used, policy, many) - elapsed))
    return Standing(policy, taken, left, max(1, math.ceil(policy.seconds - elapsed)), retry_in)


def _weighed(used: Used, policy: Policy, at: float) -> float:
    elapsed = at - used.window * policy.seconds
    return used.before * (1 - elapsed / policy.seconds) + used.now


def _room_at(used: Used, policy: Policy, many: int) -> float:
    """Seconds from the beginning of the window until there is room for so many more."""
    room = policy.quota - many
    if used.now <= room:
        return policy.seconds * (1 - (room - used.now) / max(1, used.before))
    return policy.seconds * (2 - room / used.now)
