"""Log lines tell of the job that their thread is at."""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any
from uuid import UUID

from structlog.contextvars import bind_contextvars, get_contextvars

from models.moves import Started
from workers.log_fields import about, add_job

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"

WRITES = """
import logging
from uuid import UUID
import structlog
from cli import logs
from models.moves import Started
from settings import Settings
from workers.log_fields import about

logs.set_up(Settings(_env_file=None, log_level="INFO", log_format="json"))
told = ("acme.job", "default", {}, 1, 3, 60, {}, None, "req-1", None, None)
with about(Started(UUID(int=1), 7, UUID(int=99), *told)):
    structlog.get_logger("ours").info("ours")
    logging.getLogger("theirs").warning("theirs")
structlog.get_logger("ours").info("afterwards")
"""


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


def test_what_a_handler_bound_and_left_is_said_of_nothing_else():
    with about(started(1)):
        bind_contextvars(tenant_id="x", page=3)
    assert get_contextvars() == {}
    with suppress(ValueError), about(started(2)):
        bind_contextvars(page=4)
        raise ValueError("no luck")
    assert get_contextvars() == {}


def test_a_processs_own_lines_and_those_of_libraries_tell_of_the_job():
    written = subprocess.run([sys.executable, "-c", WRITES], capture_output=True, text=True, timeout=60, check=True)
    lines = {line["event"]: line for line in map(json.loads, written.stderr.splitlines())}
    for event in ("ours", "theirs"):
        assert (lines[event]["job_id"], lines[event]["request_id"]) == (str(UUID(int=1)), "req-1")
    assert "job_id" not in lines["afterwards"]
