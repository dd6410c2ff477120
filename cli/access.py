"""Where the server is, and the key that opens it. The key is read here and goes into one header, nowhere else."""

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cli.failures import Failure

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_DATA_DIR = ".jobmill"
KEY_FILE = "api_key"

# An API key or a JWT. Anything else in a header would be repeated in the HTTP library's error.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,8192}")


@dataclass(frozen=True)
class Access:
    """A server's address without a trailing slash, and the bearer token for it."""

    url: str
    token: str = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, by its address."""
        return _is_local(self.url)


def access(url: str) -> Access:
    """Access to the server at `url` with JOBMILL_API_KEY, else with the key file of an embedded server here."""
    url = _checked(url)
    token = os.environ.get("JOBMILL_API_KEY", "").strip()
    source = "JOBMILL_API_KEY"
    if not token:
        path = Path(os.environ.get("JOBMILL_DATA_DIR") or DEFAULT_DATA_DIR) / KEY_FILE
        token, source = _from_file(path, url), str(path)
    if not _TOKEN.fullmatch(token):
        raise Failure(f"What is in {source} is no API key; one looks like jm_<key id>_<secret>.")
    return Access(url, token)


def _from_file(path: Path, url: str) -> str:
    if not _is_local(url):
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
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise Failure(f"JOBMILL_URL (or --url) is no address; a right one: {DEFAULT_URL}") from None
    if parts.username is not None or parts.password is not None:
        raise Failure("JOBMILL_URL (or --url) carries a user or password; the key goes into JOBMILL_API_KEY.")
    if not usable or parts.query or parts.fragment:
        raise Failure(f"JOBMILL_URL (or --url) is no address of a server; a right one: {DEFAULT_URL}")
    return url.rstrip("/")


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
