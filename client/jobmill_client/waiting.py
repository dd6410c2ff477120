"""Following a job until it ends: the server holds each look until then, or else is asked no sooner than it wants."""

import time
from collections.abc import Iterator

from jobmill_client.answers import Answer
from jobmill_client.connection import Connection
from jobmill_client.errors import WaitTimedOut

FINAL = frozenset({"succeeded", "dead", "cancelled", "discarded"})
LONGEST_LOOK_SECONDS = 20.0
"""For how long the server is asked to hold a look, well under the minute at which proxies cut silent connections."""
PATIENCE_SECONDS = 60.0
"""How long a server may be gone, as while it restarts, before a wait gives up."""
SOONEST = 1.0
"""From one held look to the next: what is held for shorter was let go by a server that stops."""
# Between looks, if the server neither holds them nor says when to ask again.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0
GROWTH = 1.5


def watch(connection: Connection, job_id: str, seconds: float, every: float = LONGEST_LOOK_SECONDS) -> Iterator[Answer]:
    """The job now and whenever a look finds it changed, to its end.

    `every`: the seconds that a look may be held, whole ones and one at least. `Retry-After` tells when the job may have
    ended, and is for looks that the server does not hold: after one that it held the next follows at once.

    Raises WaitTimedOut, and what reading can raise.
    """
    deadline = time.monotonic() + seconds
    pause, state, etag = FIRST_PAUSE, "unknown", None
    while True:
        began = time.monotonic()
        answer = _look(connection, job_id, etag, every, deadline - began)
        if answer.document:
            state, etag = str(answer.document.get("state")), answer.etag
            yield answer
        if state in FINAL:
            return
        now = time.monotonic()
        if now >= deadline:
            raise WaitTimedOut(job_id, state, seconds)
        time.sleep(max(0.0, min(began + _until_next(answer, pause), deadline) - now))
        pause = min(pause * GROWTH, LONGEST_PAUSE)


def _until_next(answer: Answer, pause: float) -> float:
    """Seconds from the beginning of one look to that of the next."""
    if answer.held:
        return SOONEST
    return pause if answer.retry_after is None else answer.retry_after


def _look(connection: Connection, job_id: str, etag: str | None, every: float, left: float) -> Answer:
    held = max(1, int(min(every, left))) if left >= 1 else 0
    headers = {"Prefer": f"wait={held}"} if held else {}
    if etag is not None:
        headers["If-None-Match"] = etag
    patience = max(1.0, min(left, PATIENCE_SECONDS))
    return connection.get(f"/v1/jobs/{job_id}", headers=headers, held=held, patience=patience)
