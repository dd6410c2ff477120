"""The keys of our own tokens, as one process knows them.

They are read again every half minute, and for an unknown id once a second at most: another process may have made a
first key just now, and whoever makes ids up must not make us ask the database each time.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from joserfc.jwk import OKPKey
from sqlalchemy.orm import Session

from api.patience import PATIENCE
from jobs import signing_keys
from jobs.tokens import OUR_ALGORITHM
from models import signing_keys as kept_keys
from models.database import Database

KEPT_SECONDS = 30.0
ASKED_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class _Keys:
    """The published keys by id, and the one that signs now."""

    public: dict[str, OKPKey] = field(default_factory=dict)
    signing: tuple[str, OKPKey] | None = None


class KeyRing:
    """Finds the key that a token was signed with, and the one to sign with."""

    def __init__(
        self, database: Database, pepper: Callable[[Session], bytes], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._pepper = pepper
        self._clock = clock
        self._lock = threading.Lock()
        self._keys = _Keys()
        self._read_at = -KEPT_SECONDS

    def find(self, key_id: str) -> OKPKey | None:
        """The published key of that id."""
        kept_for = KEPT_SECONDS if key_id in self._keys.public else ASKED_EVERY_SECONDS
        return self._known(kept_for).public.get(key_id)

    def signing(self, tell: Callable[[Session, str], None]) -> tuple[str, OKPKey]:
        """The key to sign with, and its id. The first is made when it is first needed; `tell` of it where it is."""
        return self._known(KEPT_SECONDS).signing or self._known(0).signing or self._first(tell)

    def published(self) -> list[dict[str, Any]]:
        """The keys as a JSON Web Key Set lists them (RFC 7517)."""
        return [
            {**key.as_dict(private=False), "kid": key_id, "use": "sig", "alg": OUR_ALGORITHM}
            for key_id, key in self._known(ASKED_EVERY_SECONDS).public.items()
        ]

    def _known(self, kept_for: float) -> _Keys:
        with self._lock:
            if self._clock() - self._read_at >= kept_for:
                self._keys = self._database.read(self._read, PATIENCE)
                self._read_at = self._clock()
            return self._keys

    def _read(self, session: Session) -> _Keys:
        pepper = self._pepper(session)
        listed = kept_keys.list_published(session)
        pairs = ((kept.id, signing_keys.private(kept, pepper)) for kept in listed if kept.signs)
        return _Keys(
            {kept.id: signing_keys.public(kept) for kept in listed},
            next(((key_id, key) for key_id, key in pairs if key is not None), None),
        )

    def _first(self, tell: Callable[[Session, str], None]) -> tuple[str, OKPKey]:
        self._database.run(
            lambda session: tell(session, signing_keys.make_first(session, self._pepper(session))), PATIENCE
        )
        made = self._known(0).signing
        if made is None:
            raise LookupError("the signing key that was made just now is not there")
        return made
