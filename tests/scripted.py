"""A server that answers as a test says, without a socket, and remembers what it was asked."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx2

ADDRESS = "http://jobs.example.org"
KEY = "jm_test_" + "k" * 43
ID = "01a20a68-14c5-749a-aed9-5ee1760574c8"

Said = httpx2.Response | Exception | Callable[[httpx2.Request], httpx2.Response]


def job(state: str = "queued", **members: Any) -> dict[str, Any]:
    """A job as the API tells it."""
    document: dict[str, Any] = {
        "id": ID, "type": "demo.echo", "queue": "default", "state": state, "priority": 0, "args": {}, "result": None,
        "error": None, "progress": None, "attempt": 1, "max_attempts": 5, "lost": 0, "timeout_seconds": 300,
        "created_at": "2026-11-23T22:17:12.358190Z", "due_at": "2026-11-23T22:17:12.358194Z", "dispatched_at": None,
        "started_at": None, "finished_at": None, "cancel_requested_at": None, "tags": {}, "unique_key": None,
        "idempotency_key": None, "worker_id": None, "schedule_id": None,
    }  # fmt: skip
    return document | members


def says(document: Any, status: int = 200, **headers: str) -> httpx2.Response:
    """An answer with a document."""
    return httpx2.Response(status, json=document, headers={name.replace("_", "-"): headers[name] for name in headers})


def problem(status: int, code: str = "", **members: Any) -> httpx2.Response:
    """A problem, to be tried again at once if at all."""
    return says({"status": status, "code": code, "title": "No", **members}, status, Retry_After="0")


class Scripted(httpx2.BaseTransport):
    """Gives its answers in turn, the last for ever."""

    def __init__(self, *answers: Said) -> None:
        self.answers = list(answers)
        self.asked: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.asked.append(request)
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Exception):
            raise said
        if not isinstance(said, httpx2.Response):
            return said(request)
        return httpx2.Response(said.status_code, headers=said.headers, content=said.content)

    def sent(self, header: str) -> Iterable[str | None]:
        """That header of each request."""
        return [request.headers.get(header) for request in self.asked]

    def document(self, at: int = -1) -> Any:
        """What the body of a request said."""
        return json.loads(self.asked[at].content)
