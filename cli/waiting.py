"""Waiting for a job to end: polling at a pace the server may set, and never past the deadline."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from cli.failures import Interrupted, TimedOut
from cli.server import Answer, Server
from models.states import FINAL

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0
GROWTH = 1.5
# How long a server may be gone, as while it restarts, before a wait gives up.
PATIENCE_SECONDS = 60.0

Report = Callable[[Mapping[str, Any]], None]


def wait(server: Server, job_id: str, seconds: float, report: Report) -> Answer:
    """The job once it has ended; `report` sees it at every poll.

    Raises TimedOut, Interrupted, and what reading a job can raise.
    """
    try:
        return _poll(server, job_id, seconds, report)
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped waiting; the job goes on. Wait again with: jobmill jobs wait {job_id}") from None


def _poll(server: Server, job_id: str, seconds: float, report: Report) -> Answer:
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE
    while True:
        left = deadline - time.monotonic()
        answer = server.get(f"/v1/jobs/{job_id}", patience=max(1.0, min(left, PATIENCE_SECONDS)))
        report(answer.document)
        if answer.document.get("state") in FINAL:
            return answer
        left = deadline - time.monotonic()
        if left <= 0:
            state = answer.document.get("state")
            raise TimedOut(
                f"The job is still {state} after {seconds:g} s, and goes on. "
                f"Wait again with: jobmill jobs wait {job_id}"
            )
        time.sleep(min(left, pause if answer.retry_after is None else answer.retry_after))
        pause = min(pause * GROWTH, LONGEST_PAUSE)
