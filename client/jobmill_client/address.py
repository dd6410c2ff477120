"""Where a server is, and what opens it: checked before anything is sent, without repeating a secret."""

import ipaddress
import re
from urllib.parse import urlsplit

EXAMPLE = "http://127.0.0.1:8000"

# An API key or a JWT. Anything else in a header would be repeated in the HTTP library's error.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,8192}")


def server_address(url: str) -> str:
    """The address of a server, without a trailing slash. Raises ValueError, whose text follows the name of the url."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(f"is no address; a right one: {EXAMPLE}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("carries a user or password; the key is given by itself.")
    if not usable or parts.query or parts.fragment:
        raise ValueError(f"is no address of a server; a right one: {EXAMPLE}")
    return url.rstrip("/")


def is_local(url: str) -> bool:
    """Whether the server is on this machine, by its address."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_token(text: str) -> bool:
    """Whether it has the form of an API key or a JWT."""
    return _TOKEN.fullmatch(text) is not None
