"""Log lines tell of the job that their thread is at."""

import threading
from typing import Any
from uuid import UUID

from models.moves import Started
from workers.log_fields import about, add_job

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


def started(number: int, traceparent: str | None = None) -> Started:
    told = ("acme.job", "default", {}, 1, 3, 60, {}, None, f"req-{number}", traceparent, None)
    return Started(UUID(int=number), 7, UUID(int=99), *told)


def line(**said: Any) -> dict[str, Any]:
    return dict(add_job(None, "info", said))


def test_a_line_tells_of_the_job_that_its_thread_is_at():
    with about(started(1)):
        assert line(event="hello") == {
            "event": "hello",
            "job_id": str(UUID(int=1)),
            "job_type": "acme.job",
            "tenant_id": str(UUID(int=99)),
            "request_id": "req-1",
        }
        with about(started(2, TRACE)):
            assert (line()["job_id"], line()["trace_id"]) == (str(UUID(int=2)), "a" * 32)
        assert line()["job_id"] == str(UUID(int=1))
    assert line() == {}


def test_what_a_line_says_itself_it_keeps():
    with about(started(1)):
        assert line(job_id="another", request_id=None) == {
            **line(),
            "job_id": "another",
            "request_id": None,
        }


def test_another_thread_is_at_no_job():
    heard = []
    with about(started(1)):
        other = threading.Thread(target=lambda: heard.append(line()))
        other.start()
        other.join()
    assert heard == [{}]
