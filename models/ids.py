"""Ids for everything: UUIDv7 (RFC 9562), which sort by the time they were made."""

from datetime import datetime
from uuid import UUID

from uuid_utils import compat


def new_id() -> UUID:
    """A fresh UUIDv7, monotonic within this process even inside one millisecond."""
    return compat.uuid7()


def earliest_id(moment: datetime) -> UUID:
    """What sorts before every id that was made at that moment or later."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
