"""A connection to the server for the length of a command; what goes wrong meanwhile ends in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from cli.access import access
from cli.problems import failure
from jobmill_client.connection import Connection, Patience
from jobmill_client.credentials import Bearer
from jobmill_client.errors import JobmillError

CALL_SECONDS = 15.0
A_FEW_TIMES = Patience(retries=4, seconds=12.0)


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """The server at `url`, with this environment's key. Raises Failure."""
    given = access(url)
    agent = f"jobmill-cli/{version('jobmill')}"
    try:
        with Connection(
            given.url, Bearer(given.token), timeout=CALL_SECONDS, patience=A_FEW_TIMES, user_agent=agent
        ) as server:
            yield server
    except JobmillError as error:
        raise failure(error) from error
