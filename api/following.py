"""Following a job without asking over and over: `Prefer: wait` (RFC 7240), and a stream of Server-Sent Events.

Neither holds a connection to the database or a place among the requests at work while nothing happens. See
docs/decisions/waiting-clients.md.
"""

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import orjson
from flask import request

from api.documents import job_document
from api.endpoint import Reply
from api.fieldsets import Fieldset
from api.operation import TakenHeader
from api.problems import Problem
from api.watcher import Full, Watch, Watcher
from models.job import Job

LONGEST_WAIT_SECONDS = 60
LONGEST_STREAM_SECONDS = 60.0
"""Rights are looked at when a stream begins: a key that was revoked reads on for so long. Readers come again."""
ALIVE_SECONDS = 15.0
"""After so long a silence a stream says that it is alive: proxies close what is silent for a minute."""
STALL_SECONDS = 15.0
RECONNECT_MILLISECONDS = 1000

PREFER = TakenHeader(
    "Prefer",
    ".*",
    "",
    "",
    f"`wait=30` has the answer wait until the job is final, 1 to {LONGEST_WAIT_SECONDS} seconds.",
    "wait=30",
)
LAST_EVENT_ID = TakenHeader(
    "Last-Event-ID", ".*", "", "", "The `id` of the last event that was seen; it is not sent again.", "kq3x0yT9zXQ2oYb1"
)

_WAIT = re.compile(r'(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])', re.IGNORECASE)


def wait_seconds() -> int:
    """How long the request prefers to wait; 0: not at all. What cannot be understood is no preference."""
    wanted = _WAIT.search(",".join(request.headers.getlist("Prefer")))
    return min(int(wanted[1]), LONGEST_WAIT_SECONDS) if wanted else 0


def when_final(watcher: Watcher, job: Job, seconds: int, reply: Callable[[Job], Reply]) -> Reply:
    """What to answer as soon as the job is final, or else when the time is over; at once if too many wait already."""
    try:
        with watcher.watch(job) as watch:
            _wait(watch, time.monotonic() + seconds)
    except Full:
        return reply(job)
    answer = reply(watch.job or job)
    return replace(answer, headers={**answer.headers, "Preference-Applied": f"wait={seconds}"})


def _wait(watch: Watch, deadline: float) -> None:
    while not (watch.over or (watch.job and watch.job.final)):
        left = deadline - time.monotonic()
        if left <= 0 or not watch.next(left):
            return


def stream(watcher: Watcher, job: Job, fields: Fieldset | None = None) -> Reply:
    """The job's states and progress as events, until it is final. Raises Problem if too many are followed already."""
    seen = request.headers.get(LAST_EVENT_ID.name)
    if job.final and _event(job, fields)[0] == seen:
        return Reply(None, 204, stream=())  # which tells an EventSource not to come again
    held = ExitStack()
    try:
        watch = held.enter_context(watcher.watch(job))
    except Full:
        detail = "As many clients follow jobs in this process as may."
        raise Problem("too-many-streams", detail, headers={"Retry-After": "5"}) from None
    headers = {"X-Accel-Buffering": "no"}
    return Reply(None, headers=headers, stream=_Events(held, _pieces(watch, seen, fields)))


class _Events:
    """The events of a stream. A server closes it in any case, also when it has not begun."""

    def __init__(self, held: ExitStack, pieces: Iterator[bytes]) -> None:
        self._held = held
        self._pieces = self._until_the_end(pieces)
        self._connection = request.environ.get("gunicorn.socket")
        if self._connection is not None:
            # A reader that takes nothing for so long is given up; without this gunicorn waits for ever.
            self._before = self._connection.gettimeout()
            self._connection.settimeout(STALL_SECONDS)

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def _until_the_end(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        yield from pieces
        self.close()

    def close(self) -> None:
        """Give the watch back."""
        self._held.close()
        if self._connection is not None and self._connection.fileno() >= 0:
            self._connection.settimeout(self._before)


def _pieces(watch: Watch, seen: str | None, fields: Fieldset | None) -> Iterator[bytes]:
    ends = time.monotonic() + LONGEST_STREAM_SECONDS
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n".encode()
    while watch.job:
        job, over = watch.job, watch.over
        name, event = _event(job, fields)
        if name != seen:
            yield event
            seen = name
        if job.final or over or time.monotonic() > ends:
            return
        if not watch.next(ALIVE_SECONDS):
            yield b": alive\n\n"


def _event(job: Job, fields: Fieldset | None) -> tuple[str, bytes]:
    """An event and its id, which is made of what it says: the same on every process."""
    whole = job_document(job)
    document = orjson.dumps(fields.of(whole) if fields else whole)
    name = base64.urlsafe_b64encode(hashlib.sha256(document).digest()[:12]).decode()
    return name, b"event: job\nid: " + name.encode() + b"\ndata: " + document + b"\n\n"
