"""Names and ids as they stand in the path of a request."""

from urllib.parse import quote
from uuid import UUID


def id_in_path(given: str | UUID) -> str:
    """An id. Raises ValueError for what is none."""
    return str(UUID(str(given)))


def name_in_path(given: str) -> str:
    """A name, whatever characters it has."""
    return quote(given, safe="")
