"""Waiting for a job to end, on behalf of a person who watches."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cli.failures import Interrupted
from jobmill_client.answers import Answer
from jobmill_client.connection import Connection
from jobmill_client.waiting import watch

LOOK_SECONDS = 1.0
"""A look is held no longer, so that progress is seen while it is made."""

Report = Callable[[Mapping[str, Any]], None]


def wait(server: Connection, job_id: str, seconds: float, report: Report) -> Answer:
    """The job once it has ended; `report` sees it at every look. Raises Interrupted, and what `watch` raises."""
    try:
        return deque(_reported(watch(server, job_id, seconds, LOOK_SECONDS), report), maxlen=1).pop()
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped waiting; the job goes on. Wait again with: jobmill jobs wait {job_id}") from None


def _reported(answers: Iterator[Answer], report: Report) -> Iterator[Answer]:
    for answer in answers:
        report(answer.document)
        yield answer
