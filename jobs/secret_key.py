"""Whether a process has the secret key that its installation uses.

One with another key would seal secrets that no other can open, and each of those would take it for the receiver's
fault. So the database holds a mark of the key, which tells nothing of it, and whoever has another does not start.
"""

import hmac

from sqlalchemy.orm import Session

from jobs import api_keys
from jobs.sealing import derived
from models import identity, secret_key
from settings import Settings

_MARKED = b"the secret key of this installation"
_CHANGE = (
    "To change the key for good, see `Change the secret key` in docs/operate.md, then run: jobmill secret-key adopt"
)


class WrongSecretKey(Exception):  # noqa: N818
    """The process has another secret key than its installation; the message says what to set."""


def mark_of(pepper: bytes) -> bytes:
    """By what a pepper is known again: an HMAC under a key that follows from it, as no other use of it does."""
    return hmac.digest(derived(pepper, "mark of the secret key"), _MARKED, "sha256")


def require(session: Session, settings: Settings) -> None:
    """Raises WrongSecretKey unless these settings have the installation's key; for start-up.

    The first that has JOBMILL_SECRET_KEY says which it is. Whoever has none takes the database's own secret, and says
    nothing until something is sealed with it, so that a process forgotten at the first start does not decide.
    """
    known = secret_key.find(session)
    if known is None and settings.secret_key is not None:
        known = secret_key.keep_first(session, _mark(session, settings))
    _refuse_another(session, settings, known)


def compare(session: Session, settings: Settings) -> None:
    """Raises WrongSecretKey like `require`, and keeps nothing."""
    _refuse_another(session, settings, secret_key.find(session))


def pledge(session: Session, pepper: bytes) -> None:
    """Before something is sealed for every process: raises WrongSecretKey unless the others can open it."""
    mark = mark_of(pepper)
    known = secret_key.find(session) or secret_key.keep_first(session, mark)
    if not hmac.compare_digest(known, mark):
        raise WrongSecretKey(
            "This process has another JOBMILL_SECRET_KEY than its installation. "
            "Set the same for every process, and start it again."
        )


def adopt(session: Session, settings: Settings) -> bool:
    """Let these settings' key be the installation's from now on; False if it was already."""
    mark = _mark(session, settings)
    if secret_key.find(session) == mark:
        return False
    secret_key.replace(session, mark)
    return True


def _mark(session: Session, settings: Settings) -> bytes:
    return mark_of(api_keys.pepper(session, settings))


def _refuse_another(session: Session, settings: Settings, known: bytes | None) -> None:
    if known is None or hmac.compare_digest(known, _mark(session, settings)):
        return
    if settings.secret_key is None:
        why = "JOBMILL_SECRET_KEY is unset here, and the installation has one. Set it as the other processes have it."
    elif known == mark_of(identity.installation_secret(session)):
        why = "JOBMILL_SECRET_KEY is set here, and the installation uses the one in its database. Unset it."
    else:
        why = (
            "JOBMILL_SECRET_KEY is not the installation's. Set the same for every process, and after a restore that "
            "of the backup; `jobmill check` tells when it is right."
        )
    raise WrongSecretKey(f"{why} {_CHANGE}")
