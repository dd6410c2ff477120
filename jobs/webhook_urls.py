"""Which URLs webhooks may be sent to, as far as a URL tells by itself; each connection is decided upon once more."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs import addresses
from jobs.addresses import Network
from jobs.outbound_errors import AddressRefused

MOST_CHARACTERS = 2048
REFUSED = "address-refused"


@dataclass(frozen=True)
class Reach:
    """Where calls may go besides public addresses by https."""

    allow_http: bool = False
    allowed: Sequence[Network] = ()


PUBLIC = Reach()


def refusal(url: str, reach: Reach) -> str | None:
    """Why nothing is sent to a URL; None: its text speaks for it."""
    try:
        host = addresses.target(url, allow_http=reach.allow_http).host
        spelled = addresses.literal(host)
        addresses.checked(host, [] if spelled is None else [spelled], reach.allowed)
    except AddressRefused as error:
        return str(error)
    return None
