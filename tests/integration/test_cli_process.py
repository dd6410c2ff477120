"""The command as people and scripts start it: a process with a pipe or a terminal."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

ID = "01a20a68-14c5-749a-aed9-5ee1760574c8"
KEY = "jm_test_" + "k" * 43
JOBMILL = Path(sys.executable).parent / "jobmill"
DEADLINE = 30


@pytest.fixture
def environment(httpserver: HTTPServer) -> dict[str, str]:
    return {**os.environ, "JOBMILL_URL": httpserver.url_for(""), "JOBMILL_API_KEY": KEY, "COLUMNS": "100"}


def job(state: str, percent: int) -> dict[str, Any]:
    return {"id": ID, "state": state, "progress": {"percent": percent, "message": f"at {percent}"}}


def test_ctrl_c_while_waiting_ends_with_130_and_leaves_the_job_alone(
    httpserver: HTTPServer, environment: dict[str, str], eventually: Callable[..., Any]
):
    httpserver.expect_request(f"/v1/jobs/{ID}").respond_with_json(job("running", 1))
    waits = subprocess.Popen(
        [JOBMILL, "jobs", "wait", ID], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    eventually(lambda: len(httpserver.log) >= 2, within_seconds=DEADLINE)
    waits.send_signal(signal.SIGINT)
    stdout, stderr = waits.communicate(timeout=DEADLINE)
    assert (waits.returncode, stdout) == (130, "")
    assert "the job goes on" in stderr
    assert "Traceback" not in stderr
    assert {request.method for request, _ in httpserver.log} == {"GET"}


def test_a_terminal_shows_a_bar_and_a_pipe_beside_it_only_the_document(
    httpserver: HTTPServer, environment: dict[str, str]
):
    for document in (job("running", 40), job("succeeded", 40)):
        httpserver.expect_ordered_request(f"/v1/jobs/{ID}").respond_with_json(document)
    terminal, side = pty.openpty()
    done = subprocess.run(
        [JOBMILL, "jobs", "wait", ID, "--json"],
        env={**environment, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=side,
        timeout=DEADLINE,
        check=True,
    )
    os.close(side)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert json.loads(done.stdout) == job("succeeded", 40)
    assert "100%" in shown
    assert "at 40" in shown
    assert "━" in shown


def test_submitting_and_waiting_imports_neither_the_database_nor_flask_nor_dramatiq(
    httpserver: HTTPServer, environment: dict[str, str]
):
    httpserver.expect_request("/v1/jobs", method="POST").respond_with_json(job("queued", 0), status=202)
    httpserver.expect_request(f"/v1/jobs/{ID}").respond_with_json(job("succeeded", 100))
    program = "import sys\nfrom cli.main import main\n"
    program += "main(['jobs', 'submit', 'demo.echo', '--arg', 'value=1', '--wait'], standalone_mode=False)\n"
    program += "print('loaded:', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.rpartition("loaded:")[2].split()}
    assert "httpx2" in loaded
    assert not loaded & {"sqlalchemy", "flask", "dramatiq", "pika", "alembic", "pydantic"}


def test_a_reader_that_leaves_early_makes_no_noise(httpserver: HTTPServer, environment: dict[str, str]):
    page = {"data": [job("queued", 0)] * 200, "next_cursor": None}
    httpserver.expect_request("/v1/jobs").respond_with_json(page)
    done = subprocess.run(
        ["bash", "-c", f"{JOBMILL} jobs list | head -1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert done.stdout.startswith("ID")
    assert done.stderr == ""
