"""Cursors: where a list goes on, signed so that nobody can forge one or use another's."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

from api.problems import Problem

_TAG_BYTES = 16
_ID_BYTES = 16


@dataclass(frozen=True)
class Cursors:
    """Makes and reads the cursors of one list for one tenant; `key` is the installation's pepper."""

    key: bytes
    list_name: str
    tenant_id: UUID | None

    def after(self, last: UUID) -> str:
        """The cursor to the entries behind `last`."""
        return base64.urlsafe_b64encode(last.bytes + self._tag(last.bytes)).decode().rstrip("=")

    def read(self, cursor: str) -> UUID:
        """The id that a cursor stands for; a Problem if it was not made for this list and tenant."""
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        last, tag = raw[:_ID_BYTES], raw[_ID_BYTES:]
        if not hmac.compare_digest(tag, self._tag(last)):
            raise Problem("invalid-cursor", "This cursor was not given out for this list.")
        return UUID(bytes=last)

    def _tag(self, last: bytes) -> bytes:
        scope = f"cursor\0{self.list_name}\0{self.tenant_id}\0".encode()
        return hmac.new(self.key, scope + last, hashlib.sha256).digest()[:_TAG_BYTES]
