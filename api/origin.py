"""Where a request comes from and by which way: as its peer is, or as a trusted proxy says."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from flask import current_app, g, request

from api.services import Services

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def client_address() -> str:
    """The client's address, found out once a request."""
    if "client_address" not in g:
        services: Services = current_app.extensions["jobmill"]
        forwarded = ",".join(request.headers.getlist("X-Forwarded-For"))
        g.client_address = found(request.remote_addr or "", forwarded, services.settings.trusted_proxies)
    address: str = g.client_address
    return address


def by_https() -> bool:
    """Whether the client came by https, which we do not speak ourselves: a trusted proxy says so, and the last word."""
    services: Services = current_app.extensions["jobmill"]
    told = ",".join(request.headers.getlist("X-Forwarded-Proto")).split(",")[-1].strip().lower()
    return told == "https" and _among(_parsed(request.remote_addr or ""), services.settings.trusted_proxies)


def found(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """The first address, from the peer backwards through X-Forwarded-For, that is no trusted proxy.

    What a client itself wrote there stands before what our proxies added, and is never reached. An entry that is no
    address ends the way: the last one known is the client.
    """
    known = _parsed(peer)
    if known is None:
        return peer
    for entry in reversed(forwarded.split(",")):
        before = _parsed(entry.strip())
        if before is None or not _among(known, trusted):
            break
        known = before
    return str(known)


def _among(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # The same client, whichever way the socket is open (RFC 4291, 2.5.5.2).
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
