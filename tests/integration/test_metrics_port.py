"""The metrics port of each command: one page, whatever the number of processes behind it."""

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.acceptance.process import JOBMILL, environment, free_port

DEADLINE = 30
REQUESTS = 40


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., psutil.Popen]]:
    """Starts commands, and leaves none of their processes behind."""
    made: list[psutil.Popen] = []

    def start(*arguments: str, **settings: str) -> psutil.Popen:
        with (tmp_path / "log").open("ab") as log:
            env = environment(**settings) | {"TMPDIR": str(tmp_path)}
            made.append(psutil.Popen([JOBMILL, *arguments], env=env, cwd=tmp_path, stdout=log, stderr=log))
        return made[-1]

    yield start
    for process in made:
        if process.is_running():
            process.terminate()
            process.wait(DEADLINE)


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2, trust_env=False).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


def counted(port: int, pattern: str) -> float:
    page = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    return sum(float(value) for value in re.findall(rf"^{pattern} (\S+)$", page, re.MULTILINE))


HEALTHY = r'jobmill_request_seconds_count\{method="GET",route="/healthz",status="200"\}'


def test_the_api_s_page_tells_of_all_its_server_processes(
    started: Callable[..., psutil.Popen], database_url: str, tmp_path: Path, eventually: Callable[..., Any]
):
    port, metrics = free_port(), free_port()
    api = started("api", "--processes=2", DATABASE_URL=database_url, PORT=str(port), JOBMILL_METRICS_PORT=str(metrics))
    url = f"http://127.0.0.1:{port}/healthz"
    eventually(lambda: answers(url), DEADLINE)
    eventually(lambda: len(api.children()) == 2, DEADLINE)
    asked = int(counted(metrics, HEALTHY))  # a question whose answer came too late for us counts too
    # Each process counts in a file of its own, which it makes when it first counts; so does the one that forks them.
    while len(list(tmp_path.glob("jobmill-metrics-*/histogram_*.db"))) < 3 and asked < 2000:
        asked += answers(url)
    asked += sum(answers(url) for _ in range(REQUESTS))
    assert len(list(tmp_path.glob("jobmill-metrics-*/histogram_*.db"))) == 3
    assert [counted(metrics, HEALTHY) for _ in range(5)] == [asked] * 5
    # A process that dies is replaced, and what it counted is kept.
    api.children()[0].kill()
    eventually(lambda: len(api.children()) == 2 and answers(url), DEADLINE)
    eventually(lambda: counted(metrics, HEALTHY) > asked, DEADLINE)
    api.send_signal(signal.SIGTERM)
    assert api.wait(DEADLINE) == os.EX_OK
    assert list(tmp_path.glob("jobmill-metrics-*")) == []


def test_a_process_that_does_everything_tells_of_all_of_it(
    started: Callable[..., psutil.Popen], eventually: Callable[..., Any]
):
    port, metrics = free_port(), free_port()
    started("up", PORT=str(port), JOBMILL_METRICS_PORT=str(metrics))
    eventually(lambda: answers(f"http://127.0.0.1:{port}/healthz"), DEADLINE)
    assert counted(metrics, HEALTHY) >= 1
    assert counted(metrics, "process_resident_memory_bytes") > 0


def test_a_scraper_that_says_nothing_keeps_no_other_from_its_answer(
    started: Callable[..., psutil.Popen], eventually: Callable[..., Any]
):
    port, metrics = free_port(), free_port()
    started("up", PORT=str(port), JOBMILL_METRICS_PORT=str(metrics))
    eventually(lambda: answers(f"http://127.0.0.1:{metrics}/metrics"), DEADLINE)
    with socket.create_connection(("127.0.0.1", metrics)):
        assert answers(f"http://127.0.0.1:{metrics}/metrics")
