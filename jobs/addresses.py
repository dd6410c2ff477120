"""Where we may call out to: decides about URLs and IP addresses, and touches no network itself.

A client names the URLs of webhooks and of `http.request`, so without this guard it could read what only
our own machines should reach. The decision counts where a connection is opened (`jobs.pinned`), on the
very address connected to; deciding on a URL earlier only gives a clearer error.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import httpx2

from jobs.outbound_errors import AddressRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
LONGEST_HOST_NAME = 253
# No top-level domain looks so: it is an address in some reader's eyes (https://url.spec.whatwg.org/#ends-in-a-number-checker).
ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")
PORT = re.compile(r"[1-9][0-9]{0,4}")
MOST_PORT = 65_535
DEFAULT_PORTS = {"https": 443, "http": 80}

# https://www.iana.org/assignments/iana-ipv4-special-registry, whole, with its globally reachable entries:
# nobody's service lives there. `ipaddress.is_global` leaves several of these open.
DENIED_IPV4 = {
    IPv4Network(network): what
    for network, what in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared address space",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "protocol assignments",
        "192.0.2.0/24": "documentation",
        "192.31.196.0/24": "AS112",
        "192.52.193.0/24": "AMT",
        "192.88.99.0/24": "6to4 relay",
        "192.168.0.0/16": "private",
        "192.175.48.0/24": "AS112",
        "198.18.0.0/15": "benchmarking",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
        # A public number that Azure's hosts answer themselves, with metadata of the machine:
        # https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
        "168.63.129.16/32": "metadata service",
    }.items()
}
# Everything that is not global unicast is denied, so only the exceptions within it are listed
# (https://www.iana.org/assignments/iana-ipv6-special-registry). They hold IPv4 addresses or nobody.
GLOBAL_IPV6 = IPv6Network("2000::/3")
DENIED_IPV6 = {
    IPv6Network("2001::/23"): "protocol assignments",
    IPv6Network("2001:db8::/32"): "documentation",
    IPv6Network("2002::/16"): "6to4",
    IPv6Network("2620:4f:8000::/48"): "AS112",
    IPv6Network("3fff::/20"): "documentation",
}


@dataclass(frozen=True)
class Target:
    """A checked URL's parts; `host` is lower case, IDNA encoded and without trailing dot."""

    scheme: str
    host: str
    port: int
    path: bytes


def target(url: str, *, allow_http: bool = False) -> Target:
    """The parts of a URL that we may call, as far as its text tells. Raises AddressRefused."""
    parsed = _parsed(url)
    if parsed.scheme != "https" and not (allow_http and parsed.scheme == "http"):
        raise AddressRefused(f"The URL must start with https://{' or http://' if allow_http else ''}.")
    authority = _authority(url)
    if "@" in authority:
        raise AddressRefused("The URL must not hold a user name or password; send them in a header.")
    return Target(parsed.scheme, _host(parsed), _port(authority) or DEFAULT_PORTS[parsed.scheme], parsed.raw_path)


def literal(host: str) -> Address | None:
    """The address that a host spells out in any form that a resolver takes, such as `0x7f.1`; else None."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        return None


def checked(host: str, answers: Iterable[Address], allowed: Iterable[Network] = ()) -> tuple[Address, ...]:
    """The addresses of a host, as they may be connected to. Raises AddressRefused if any one is denied.

    One bad answer refuses all: a name that leads inside as well as outside is no honest peer.
    """
    allowed = tuple(allowed)
    addresses = tuple(plain(answer) for answer in answers)
    for address in addresses:
        if why := denial(address, allowed):
            raise AddressRefused(f"{host} leads to an address that we do not call: {why}.")
    return addresses


def denial(address: Address, allowed: Iterable[Network] = ()) -> str | None:
    """Why we do not call this address, or None if we may; `allowed` opens what it names."""
    address = plain(address)
    if getattr(address, "scope_id", None):
        return "it names a zone of this machine"
    if any(address in network for network in allowed):
        return None
    if isinstance(address, IPv6Address) and address not in GLOBAL_IPV6:
        return f"it is outside {GLOBAL_IPV6} (global unicast)"
    denied: dict[IPv4Network, str] | dict[IPv6Network, str]
    denied = DENIED_IPV4 if isinstance(address, IPv4Address) else DENIED_IPV6
    return next((f"it is in {network} ({what})" for network, what in denied.items() if address in network), None)


def plain(address: Address) -> Address:
    """The IPv4 address within a v4-mapped one (RFC 4291, 2.5.5.2); any other as it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _parsed(url: str) -> httpx2.URL:
    if "\\" in url:
        raise AddressRefused("The URL must not hold a backslash.")
    try:
        return httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise AddressRefused(f"This is no URL: {str(error).rstrip('.')}.") from None
    except UnicodeEncodeError:
        raise AddressRefused("This is no URL: it holds half a character (a surrogate).") from None


def _authority(url: str) -> str:
    return re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]


def _host(parsed: httpx2.URL) -> str:
    # A trailing dot only marks the name as absolute; certificates and SNI (RFC 6066, 3) go without.
    host = parsed.raw_host.decode().removesuffix(".")
    if ":" in host and "%" not in host:
        return host
    if len(host) > LONGEST_HOST_NAME or not HOST_NAME.fullmatch(host):
        raise AddressRefused("The URL needs a host: a DNS name, or an IP address without zone.")
    if ENDS_IN_NUMBER.fullmatch(host) and literal(host) is None:
        raise AddressRefused("The URL's host ends in a number, but is no IP address.")
    return host


def _port(authority: str) -> int | None:
    # Read here, since int() takes more than digits, and other readers take less.
    _, colon, port = authority.rpartition("]")[2].partition(":")
    if not colon:
        return None
    if not PORT.fullmatch(port) or int(port) > MOST_PORT:
        raise AddressRefused(f"The URL's port must be a number from 1 to {MOST_PORT}, not {port[:20]!r}.")
    return int(port)
