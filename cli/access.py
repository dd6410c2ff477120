"""Where the server is, and the key that opens it. The key is read here and goes into one header, nowhere else."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from cli.failures import Failure
from jobmill_client import address

DEFAULT_URL = address.EXAMPLE
DEFAULT_DATA_DIR = ".jobmill"
KEY_FILE = "api_key"


@dataclass(frozen=True)
class Access:
    """A server's address without a trailing slash, and the bearer token for it."""

    url: str
    token: str = field(repr=False)


def access(url: str) -> Access:
    """Access to the server at `url` with JOBMILL_API_KEY, else with the key file of an embedded server here."""
    url = _checked(url)
    token = os.environ.get("JOBMILL_API_KEY", "").strip()
    source = "JOBMILL_API_KEY"
    if not token:
        path = Path(os.environ.get("JOBMILL_DATA_DIR") or DEFAULT_DATA_DIR) / KEY_FILE
        token, source = _from_file(path, url), str(path)
    if not address.is_token(token):
        raise Failure(f"What is in {source} is no API key; one looks like jm_<key id>_<secret>.")
    return Access(url, token)


def _from_file(path: Path, url: str) -> str:
    if not address.is_local(url):
        # The file's key opens the server that wrote it; another machine has no business seeing it.
        raise Failure(f"No API key: set JOBMILL_API_KEY to one of {url} (make it there: jobmill keys create).")
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(
            f"No API key: JOBMILL_API_KEY is not set and {path} cannot be read ({_why(error)}). "
            "Make a key with: jobmill keys create"
        ) from None


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _checked(url: str) -> str:
    try:
        return address.server_address(url)
    except ValueError as error:
        raise Failure(f"JOBMILL_URL (or --url) {error}") from None
