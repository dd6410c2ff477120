"""Rate limits of requests: who is counted for what, what every answer tells of it, and who is turned away.

Fields and problem by draft-ietf-httpapi-ratelimit-headers-10.
"""

import time
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address, ip_network

from flask import Response, g

from api import metrics
from api.limiter import Blocked, Limiter
from api.origin import client_address
from api.problems import Flaw, Problem
from api.services import Services
from jobs import rates
from jobs.rates import Policy, RouteClass, Standing
from jobs.scopes import Principal

MOST_BLOCKED = 10_000
_NETWORK_BITS = 64
"""What of an IPv6 address its holder cannot choose."""


def count(services: Services, principal: Principal, route_class: RouteClass) -> None:
    """Count the request for its principal; a Problem if it is one too many."""
    policy = policy_of(services, principal.rate_limits, route_class)
    if policy is not None:
        _take(services.limiter, f"{route_class}:{principal.actor}", route_class, policy)


def count_more(services: Services, principal: Principal, route_class: RouteClass, more: int) -> None:
    """Count the request as so many more; a Problem if there is no room for them all, or never will be."""
    policy = policy_of(services, principal.rate_limits, route_class)
    if policy is None or more < 1:
        return
    if more >= policy.quota:
        detail = f"{more + 1} jobs are more than the {policy.quota} that you may submit in {policy.seconds} s at most."
        flaw = Flaw("body", "/jobs", "more-than-quota", detail)
        raise Problem("invalid-request", "The batch is larger than your rate limit; send smaller ones.", [flaw])
    _take(services.limiter, f"{route_class}:{principal.actor}", route_class, policy, more)


def policy_of(services: Services, own: Mapping[str, str], route_class: RouteClass) -> Policy | None:
    """The policy for a principal with these limits of its own; None is no limit."""
    return rates.parse(own[route_class]) if route_class in own else services.policies[route_class]


def told(principal: Principal, own: Mapping[RouteClass, str]) -> dict[str, str]:
    """The limits of a key that is made with these, by a principal whose own it gets for the rest."""
    return {**principal.rate_limits, **{str(one): limit for one, limit in own.items()}}


def refuse_looser(services: Services, maker: Principal, limits: Mapping[RouteClass, str]) -> None:
    """A Problem if one of the limits lets through more than its maker has. The platform sets what it likes."""
    looser = [one for one in limits if not _within(services, maker, one, limits[one])]
    if looser and maker.tenant_id is not None:
        raise Problem("forbidden", f"A key gives no looser limits than it has: {', '.join(looser)}.")


def _within(services: Services, maker: Principal, route_class: RouteClass, limit: str) -> bool:
    wanted, most = rates.parse(limit), policy_of(services, maker.rate_limits, route_class)
    return most is None or (wanted is not None and wanted.within(most))


def refuse_guesser(services: Services, key_id: str) -> None:
    """A Problem while too many wrong secrets for that key come from this address: right or wrong, none is tried."""
    blocked = services.blocked.get((_whence(), key_id))
    if blocked is not None and blocked.until > time.monotonic():
        g.standing = (RouteClass.GUESS, blocked.standing)
        raise _too_many(RouteClass.GUESS, max(1, round(blocked.until - time.monotonic())))


def count_guess(services: Services, key_id: str | None) -> None:
    """Count wrong credentials for where they come from; a Problem if they are too many, and no more for that key.

    They are counted apart from those whom we know, and by nothing that whoever guesses can make up. Others at that
    address, behind the same proxy perhaps, come in all the same: with right credentials, for other keys.
    """
    policy = services.policies[RouteClass.GUESS]
    if policy is None:
        return
    try:
        _take(services.strangers, f"{RouteClass.GUESS}:{_whence()}", RouteClass.GUESS, policy)
    except Problem:
        if key_id is not None:
            _block(services, (_whence(), key_id), g.standing[1])
        raise


def tell(answer: Response) -> Response:
    """Add to an answer how its principal stands."""
    if standing := g.get("standing"):
        route_class, known = standing
        answer.headers["RateLimit-Policy"] = f'"{route_class}";q={known.policy.quota};w={known.policy.seconds}'
        answer.headers["RateLimit"] = f'"{route_class}";r={known.left};t={known.resets_in}'
    return answer


def _take(limiter: Limiter, who: str, route_class: RouteClass, policy: Policy, many: int = 1) -> None:
    found = limiter.take(who, policy, many)
    g.standing = (route_class, found)
    if not found.taken:
        raise _too_many(route_class, found.retry_in)


def _whence() -> str:
    """The client's address; of IPv6 its network, within which one client has as many addresses as he likes."""
    try:
        address = ip_address(client_address())
    except ValueError:
        return client_address()
    return str(ip_network((address, _NETWORK_BITS), strict=False)) if isinstance(address, IPv6Address) else str(address)


def _block(services: Services, pair: tuple[str, str], found: Standing) -> None:
    services.blocked.pop(pair, None)
    while len(services.blocked) >= MOST_BLOCKED:
        services.blocked.pop(next(iter(services.blocked)), None)
    services.blocked[pair] = Blocked(time.monotonic() + found.retry_in, found)


def _too_many(route_class: RouteClass, retry_in: int) -> Problem:
    metrics.rate_limited.labels(route_class).inc()
    return Problem(
        "quota-exceeded",
        f"Too many requests of the class {route_class}. There is room again in {retry_in} s.",
        headers={"Retry-After": str(retry_in)},
        extra={"violated-policies": [route_class]},
    )
