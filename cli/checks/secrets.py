"""Checks of secrets: none is easy to guess, and none that is in use ends soon. None is ever shown."""

import re
import stat
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

from cli.checks.findings import Finding, Patient, fine, warning, wrong
from cli.embedded import KEY_FILE
from jobs import api_keys, secret_key, signing_keys
from models import identity, inspection
from models import signing_keys as kept_keys
from setting_forms import API_KEY_FORM

FEWEST_DIFFERENT = 10
SHORTEST_SECRET = 32
RUN = 8
SOON = timedelta(days=14)
OLD_SIGNING_KEY = timedelta(days=365)
MOST_TOLD = 20
_WORDS = re.compile("change.?me|secret|password|example|jobmill|default|openssl", re.IGNORECASE)


def weakness(secret: str) -> str | None:
    """Why a secret may be guessed, in words that do not tell it; None if nothing speaks for that."""
    if len(set(secret)) < FEWEST_DIFFERENT:
        return f"it has fewer than {FEWEST_DIFFERENT} different characters"
    if secret in (secret + secret)[1:-1]:
        return "it repeats itself"
    if _WORDS.search(secret):
        return "it holds a word that stands in examples"
    return "it counts up or down" if _counts(secret) else None


def _counts(secret: str) -> bool:
    steps = "".join({1: "+", -1: "-"}.get(ord(b) - ord(a), ".") for a, b in pairwise(secret))
    return "+" * RUN in steps or "-" * RUN in steps


def given(patient: Patient) -> Iterator[Finding]:
    """The secrets that settings give are hard to guess."""
    found = [*_secret_key(patient), *_bootstrap_key(patient), *_key_file(patient)]
    yield from found or [fine("The secrets of the settings are long and random.")]


def _secret_key(patient: Patient) -> Iterator[Finding]:
    key = patient.settings.secret_key
    if key is not None and (why := weakness(key.get_secret_value())):
        yield wrong(f"JOBMILL_SECRET_KEY may be guessed: {why}. Make one before there are keys: openssl rand -hex 32")
    elif key is None and not patient.settings.embedded:
        yield warning(
            "JOBMILL_SECRET_KEY is unset: what API keys are hashed with stands beside them in the database. "
            "Setting it makes every key worthless, so set it before there are many."
        )


def same_key(patient: Patient) -> Iterator[Finding]:
    """The secret key of these settings is the installation's."""
    with patient.database.reading() as session:
        try:
            secret_key.compare(session, patient.settings)
        except secret_key.WrongSecretKey as error:
            yield wrong(str(error))
        else:
            yield fine("The secret key is that of the installation.")


def _bootstrap_key(patient: Patient) -> Iterator[Finding]:
    token = patient.settings.bootstrap_api_key
    form = API_KEY_FORM.fullmatch(token.get_secret_value()) if token else None
    if form is None:
        return
    if why := weakness(form[2]):
        yield wrong(f"JOBMILL_BOOTSTRAP_API_KEY may be guessed: {why}. Give it 43 random letters and digits.")
    elif len(form[2]) < SHORTEST_SECRET:
        yield warning(f"JOBMILL_BOOTSTRAP_API_KEY has a secret of {len(form[2])} characters. Give it 43 random ones.")


def _key_file(patient: Patient) -> Iterator[Finding]:
    path = patient.settings.data_dir / KEY_FILE
    if patient.settings.embedded and path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield wrong(f"Others may read {path}, an admin's key. Run: chmod 600 {path}")


def expiring(patient: Patient) -> Iterator[Finding]:
    """No API key in use ends within a fortnight."""
    with patient.database.reading() as session:
        keys = identity.list_expiring(session, SOON, MOST_TOLD)
    for key in keys:
        yield warning(f"The API key {key.id} ({key.name}) expires at {key.expires_at:%FT%TZ}. Make its successor.")
    if not keys:
        yield fine(f"No API key expires within {SOON.days} days.")


def signing(patient: Patient) -> Iterator[Finding]:
    """The key that signs tokens can be read, and is not old."""
    with patient.database.reading() as session:
        signer = next((key for key in kept_keys.list_published(session) if key.signs), None)
        pepper, now = api_keys.pepper(session, patient.settings), inspection.clock(session)
    rotate = "Run: jobmill signing-keys rotate"
    if signer is None:
        yield fine("No token was signed yet.")
    elif signing_keys.private(signer, pepper) is None:
        yield wrong(
            f"The signing key {signer.id} was kept under another JOBMILL_SECRET_KEY: no token is given. {rotate}"
        )
    elif now - signer.signs_from >= OLD_SIGNING_KEY:
        yield warning(f"The signing key {signer.id} has signed for {(now - signer.signs_from).days} days. {rotate}")
    else:
        yield fine(f"The signing key {signer.id} signs.")
