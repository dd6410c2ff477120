"""Secrets as they are kept in the database: encrypted under a key that follows from the pepper.

What a secret belongs to is bound in, so that one cannot be put in another's place. A copy of the database alone opens
nothing where JOBMILL_SECRET_KEY is kept apart.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12


def derived(pepper: bytes, kind: str) -> bytes:
    """The key for one kind of use, from which neither the pepper nor another kind's key follows."""
    return HKDF(SHA256(), 32, salt=None, info=f"jobmill {kind}".encode()).derive(pepper)


class Sealer:
    """Seals and opens one kind of secret."""

    def __init__(self, pepper: bytes, kind: str) -> None:
        self._cipher = AESGCM(derived(pepper, kind))

    def seal(self, secret: bytes, of: str) -> bytes:
        """The secret as it is kept; `of` names what it belongs to."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, of.encode())

    def open(self, sealed: bytes, of: str) -> bytes | None:
        """The secret; None if it was sealed under another pepper, or belongs to something else."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], of.encode())
        except InvalidTag:
            return None
