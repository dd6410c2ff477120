"""`jobmill up`, which is what `make run` starts: work to see at once, a key to go on with, and a clean end."""

import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.ledger import Ledger
from tests.acceptance.process import Process, free_port, jobmill

IRIS = Path(__file__).parents[2] / "examples" / "iris.csv"
TOKEN = re.compile(r"\bjm_[A-Za-z0-9]+_[A-Za-z0-9_-]+")
UP_SECONDS = 40


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {"JOBMILL_DATA_DIR": str(tmp_path / "data"), "PORT": str(free_port())}


@pytest.fixture
def up(settings: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    """The command of `make run`, not started yet."""
    process = Process("up", "--demo", IRIS, settings=settings, folder=tmp_path)
    yield process
    process.ask_to_end()
    process.end()


def serves(up: Process) -> bool:
    assert up.alive, up.words
    return "Ctrl-C stops it" in up.words


def key_in(settings: dict[str, str]) -> Path:
    return Path(settings["JOBMILL_DATA_DIR"]) / "api_key"


def test_the_first_start_shows_a_job_at_work_and_the_key_and_a_second_one_keeps_both(
    up: Process, settings: dict[str, str], eventually: Callable[..., Any]
):
    up.start()
    eventually(lambda: serves(up), UP_SECONDS)
    first = up.words
    states = re.findall(r"^ +\d+ ms  (\w+)$", first, re.MULTILINE)
    assert (states[0], states[-1]) == ("queued", "succeeded")
    assert "150 rows" in first
    assert "sepal_length   number   35 distinct  4.3 to 7.9, mean 5.843" in first
    address = f"http://127.0.0.1:{settings['PORT']}"
    assert f"serves on {address}" in first
    (token,) = TOKEN.findall(first)
    assert key_in(settings).read_text() == f"{token}\n"
    assert key_in(settings).stat().st_mode & 0o777 == 0o600
    assert key_in(settings).parent.stat().st_mode & 0o777 == 0o700
    with httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as client:
        (job,) = client.get("/v1/jobs").json()["data"]
        assert (job["type"], job["state"]) == ("csv.profile", "succeeded")
    up.send(signal.SIGTERM)
    assert up.wait() == 0

    up.start()
    eventually(lambda: up.words.count("Ctrl-C stops it") == 2, UP_SECONDS)
    second = up.words.removeprefix(first)
    assert TOKEN.findall(second) == []
    assert str(key_in(settings)) in second
    with httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as client:
        assert job in client.get("/v1/jobs").json()["data"]
    up.send(signal.SIGINT)
    assert up.wait() == 0
    assert "Traceback" not in up.words


def test_ctrl_c_lets_a_running_job_finish(
    up: Process, settings: dict[str, str], eventually: Callable[..., Any], ledger: Ledger
):
    up.start()
    eventually(lambda: serves(up), UP_SECONDS)
    answer = httpx2.post(
        f"http://127.0.0.1:{settings['PORT']}/v1/jobs",
        json={"type": "ledger.work", "args": ledger.gated_args},
        headers={"Authorization": f"Bearer {key_in(settings).read_text().strip()}"},
    )
    assert answer.status_code == 202, answer.text
    eventually(ledger.starts)
    up.send(signal.SIGINT)
    eventually(lambda: "Stopping" in up.words)
    ledger.open_gate()
    assert up.wait() == 0
    assert len(ledger.starts()) == len(ledger.ends()) == 1


def test_a_second_process_on_the_same_directory_is_refused_and_disturbs_nothing(
    up: Process, settings: dict[str, str], tmp_path: Path, eventually: Callable[..., Any]
):
    up.start()
    eventually(lambda: serves(up), UP_SECONDS)
    refused = jobmill("up", settings=settings | {"PORT": str(free_port())}, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"Error: Another jobmill runs on {settings['JOBMILL_DATA_DIR']}.")
    assert up.alive
    up.send(signal.SIGTERM)
    assert up.wait() == 0


def test_a_taken_port_is_told_before_anything_is_begun(settings: dict[str, str], tmp_path: Path):
    with socket.create_server(("127.0.0.1", int(settings["PORT"]))):
        refused = jobmill("up", settings=settings, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"Error: Cannot listen on 127.0.0.1:{settings['PORT']}")
    assert "PORT=" in line
    assert not key_in(settings).exists()  # it would never be shown


def test_two_ctrl_c_stop_at_once_what_one_lets_finish(
    up: Process, settings: dict[str, str], eventually: Callable[..., Any], ledger: Ledger
):
    up.start()
    eventually(lambda: serves(up), UP_SECONDS)
    headers = {"Authorization": f"Bearer {key_in(settings).read_text().strip()}"}
    body = {"type": "ledger.work", "args": ledger.gated_args}
    httpx2.post(f"http://127.0.0.1:{settings['PORT']}/v1/jobs", json=body, headers=headers).raise_for_status()
    eventually(ledger.starts)
    up.send(signal.SIGINT)
    eventually(lambda: "Stopping" in up.words)
    up.send(signal.SIGINT)
    began = time.monotonic()
    assert up.wait() == 128 + signal.SIGINT
    assert time.monotonic() - began < 3
    assert ledger.ends() == []
