"""Cursors: where a list goes on, signed so that nobody can forge one or use another's."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

from api.problems import Problem

LONGEST = 400
_TAG_BYTES = 16


@dataclass(frozen=True)
class Cursors:
    """Makes and reads the cursors of one list for one tenant; `key` is the installation's pepper.

    `list_name` tells lists apart: its address and filters, since a page of other filters would skip or repeat.
    """

    key: bytes
    list_name: str
    tenant_id: UUID | None

    def after(self, last: str) -> str:
        """The cursor to the entries behind the one that `last` names."""
        place = last.encode()
        return base64.urlsafe_b64encode(self._tag(place) + place).decode().rstrip("=")

    def read(self, cursor: str) -> str:
        """What a cursor stands for; a Problem if it was not made for this list and tenant."""
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        tag, place = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        # What is spelt otherwise than we spell it was not given out either.
        if not hmac.compare_digest(tag, self._tag(place)) or self.after(place.decode()) != cursor:
            raise Problem("invalid-cursor", "This cursor was not given out for this list with these filters.")
        return place.decode()

    def _tag(self, place: bytes) -> bytes:
        scope = f"cursor\0{self.list_name}\0{self.tenant_id}\0".encode()
        return hmac.new(self.key, scope + place, hashlib.sha256).digest()[:_TAG_BYTES]
