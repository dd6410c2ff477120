"""The keys that sign our tokens: making, keeping and rotating them.

The private half is encrypted under a key that follows from the pepper, with its id bound in: a copy of the database
alone signs nothing where JOBMILL_SECRET_KEY is kept apart.
"""

from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc.jwk import OKPKey
from sqlalchemy.orm import Session

from jobs.sealing import Sealer
from models import signing_keys
from models.signing_keys import SigningKey

LEAD = timedelta(minutes=5)
"""How long a key is published before it signs, so that everybody who keeps our keys a while knows it by then."""
OVERLAP = timedelta(minutes=20)
"""How long a key is published after it signs no more: 15 minutes of a token's life, clocks, and others' caches."""


def rotate(session: Session, pepper: bytes, *, at_once: bool = False) -> str:
    """Publish a new key, which signs in five minutes, and let the others end after it; gives its id.

    `at_once` is for a key that leaked: the new one signs now, and no token signed by another is good any more.
    """
    key_id = _add(session, pepper, timedelta(0) if at_once else LEAD)
    signing_keys.retire_all(session, timedelta(0) if at_once else LEAD + OVERLAP, but=[key_id])
    return key_id


def make_first(session: Session, pepper: bytes) -> str:
    """Publish a key that signs from now on; gives its id."""
    return _add(session, pepper, timedelta(0))


def public(kept: SigningKey) -> OKPKey:
    """The half that checks."""
    return OKPKey.import_key(Ed25519PublicKey.from_public_bytes(kept.public_key))


def private(kept: SigningKey, pepper: bytes) -> OKPKey | None:
    """The half that signs; None if it was kept under another pepper."""
    raw = _sealer(pepper).open(kept.private_key, kept.id)
    if raw is None:
        return None
    return OKPKey.import_key(Ed25519PrivateKey.from_private_bytes(raw))


def _add(session: Session, pepper: bytes, signs_in: timedelta) -> str:
    pair = Ed25519PrivateKey.generate()
    # Its thumbprint (RFC 7638), so that no two keys can ever share an id.
    key_id = OKPKey.import_key(pair.public_key()).thumbprint()
    kept = _sealer(pepper).seal(pair.private_bytes_raw(), key_id)
    signing_keys.add(session, key_id, pair.public_key().public_bytes_raw(), kept, signs_in)
    return key_id


def _sealer(pepper: bytes) -> Sealer:
    return Sealer(pepper, "signing keys")
