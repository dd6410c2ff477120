"""The job that a thread is at: each log line that is written meanwhile tells of it.

Most jobs write none. So what a line needs is put together when there is one, and not for each job.
"""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from structlog.contextvars import clear_contextvars

if TYPE_CHECKING:
    from models.moves import Started

_at: ContextVar["Started | None"] = ContextVar("at", default=None)


@contextmanager
def about(job: "Started") -> Iterator[None]:
    """Every line written within, by whichever library, tells of this job.

    What its handler has bound to the thread, and left, is said of nothing else afterwards.
    """
    token = _at.set(job)
    try:
        yield
    finally:
        _at.reset(token)
        clear_contextvars()


def add_job(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog's; what a line says itself it keeps."""
    job = _at.get()
    if job is not None:
        line.setdefault("job_id", str(job.id))
        line.setdefault("job_type", job.type)
        line.setdefault("tenant_id", str(job.tenant_id))
        line.setdefault("request_id", job.request_id)
        if job.traceparent:
            line.setdefault("trace_id", job.traceparent.split("-")[1])
    return line
