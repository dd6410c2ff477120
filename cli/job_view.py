"""How a job looks to a person."""

import json
from collections.abc import Mapping
from typing import Any

from cli import output
from models.states import State

Job = Mapping[str, Any]
LIST_COLUMNS = ("id", "state", "type", "queue", "attempt", "created_at", "finished_at")
# What is longer is cut; arguments more than results, since whoever asks has most likely written them.
LONGEST_ARGS = 400
LONGEST_RESULT = 8000
TIMES = ("created_at", "due_at", "started_at", "finished_at", "cancel_requested_at")


def row(job: Job) -> output.Row:
    """A job as a line of a list."""
    return [attempt(job) if column == "attempt" else job.get(column) for column in LIST_COLUMNS]


def details(job: Job) -> output.Pairs:
    """A job with all that a person asks about."""
    yield from ((name, job.get(name)) for name in ("id", "type", "queue", "state", "priority"))
    yield "attempt", attempt(job)
    yield "lost", job.get("lost") or None
    yield "progress", progress(job) or None
    yield from ((name, job.get(name)) for name in TIMES)
    yield from ((name, job.get(name)) for name in ("worker_id", "schedule_id", "unique_key", "idempotency_key"))
    yield "tags", " ".join(f"{name}={value}" for name, value in (job.get("tags") or {}).items()) or None
    yield "error", error(job.get("error"))
    yield "args", _bounded(job.get("args"), LONGEST_ARGS)
    yield "result", _bounded(job.get("result"), LONGEST_RESULT)


def attempt(job: Job) -> str:
    """`2/5`."""
    return f"{job.get('attempt', 0)}/{job.get('max_attempts', '?')}"


def progress(job: Job) -> str:
    """`40% reading`, or nothing; how far a job was that succeeded tells nobody anything."""
    told = {} if job.get("state") == State.SUCCEEDED else job.get("progress") or {}
    percent = told.get("percent")
    return " ".join(filter(None, [None if percent is None else f"{percent:.0f}%", told.get("message")]))


def line(job: Job) -> str:
    """Where a job is, in a line; when it waits for another attempt, also what became of the last."""
    failed = error(job.get("error")) if job.get("state") == State.QUEUED else None
    return " ".join(filter(None, [str(job.get("state")), f"(attempt {attempt(job)})", progress(job), failed]))


def error(document: Mapping[str, Any] | None) -> str | None:
    """`ValueError: no such column`."""
    if not document:
        return None
    return ": ".join(str(document[part]) for part in ("type", "message") if document.get(part))


def _bounded(value: object, longest: int) -> object:
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= longest else f"{text[:longest]}... (all of it: --json)"


def explanation(found: Mapping[str, Any]) -> output.Pairs:
    """Why a job is where it is: the reason that decides, and those that would keep it as well."""
    yield "state", found.get("state")
    yield from _reason("reason", found)
    for other in found.get("also") or ():
        yield from _reason("also", other)


def _reason(name: str, found: Mapping[str, Any]) -> output.Pairs:
    yield name, found.get("reason")
    yield from ((part, found.get(part)) for part in ("message", "since", "until"))
    told = found.get("detail") or {}
    yield from ((part, value) for part, value in told.items() if not isinstance(value, dict))
    yield "error", error(told.get("error"))
