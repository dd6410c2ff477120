"""The README's own commands, run as they stand there against a real embedded Jobmill, so that they cannot rot."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEADLINE = 60
USUAL_ADDRESS = "http://127.0.0.1:8000"

# What differs from run to run; the other members must be as the README shows them.
VOLATILE = {"id", "worker_id", "created_at", "due_at", "dispatched_at", "started_at", "finished_at", "progress"}
FINAL = {"succeeded", "dead", "cancelled", "discarded"}


def blocks(section: str) -> list[tuple[str, str]]:
    """The fenced blocks of a section, as (language, text)."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(section: str) -> list[str]:
    return [text for language, text in blocks(section) if language == "sh"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the clone, so that what the commands leave behind goes with it."""
    path = tmp_path / "jobmill"
    path.mkdir()
    (path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (path / "examples").symlink_to(ROOT / "examples")
    return path


@pytest.fixture
def environment() -> dict[str, str]:
    """What the processes get: nothing of Jobmill's but a free port."""
    ours = ("JOBMILL_", "DATABASE_URL", "RABBITMQ_URL", "REDIS_URL", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "PORT": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@contextmanager
def serving(command: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a command that serves until the block ends; gives the address that it says."""
    said = folder / "said.txt"
    with said.open("w") as out:
        process = subprocess.Popen(["bash", "-c", f"exec env {command}"], cwd=folder, env=environment, stdout=out)
    try:
        yield _address(process, said)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


def _address(process: subprocess.Popen[bytes], said: Path) -> str:
    deadline = time.monotonic() + DEADLINE
    while not (found := re.search(r"serves on (http://\S+)", said.read_text())):
        assert process.poll() is None, f"it ended: {said.read_text()}"
        assert time.monotonic() < deadline, f"it does not serve: {said.read_text()}"
        time.sleep(0.05)
    return found[1]


def shell(script: str, folder: Path, environment: dict[str, str]) -> str:
    """What a script, run by itself, prints; it must not fail."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return done.stdout


def shown(job: dict[str, Any]) -> dict[str, Any]:
    """A job without what differs from run to run, by name whether it is there."""
    return {name: name in job if name in VOLATILE else value for name, value in job.items()}


def test_submitting_and_polling_with_curl_gives_what_the_readme_shows(checkout: Path, environment: dict[str, str]):
    submit, poll, by_command = commands("Submit and poll")
    queued, succeeded = (json.loads(text) for language, text in blocks("Submit and poll") if language == "json")
    with serving("jobmill up", checkout, environment) as address:
        submit = submit.replace(USUAL_ADDRESS, address)
        answer = json.loads(shell(submit, checkout, environment))
        assert shown(answer) == shown(queued)

        environment |= {"JOBMILL_URL": address, "JOBMILL_API_KEY": (checkout / ".jobmill/api_key").read_text().strip()}
        deadline = time.monotonic() + DEADLINE
        while (job := json.loads(shell(poll, checkout, environment)))["state"] not in FINAL:
            assert time.monotonic() < deadline, f"it does not end: {job}"
            time.sleep(0.1)
        assert shown(job) == shown(succeeded)
        assert job["id"] == answer["id"]

        again = json.loads(shell(submit, checkout, environment))
        assert again["id"] == answer["id"], "the same Idempotency-Key makes no second job"
        assert re.search(r"^state +succeeded$", shell(by_command, checkout, environment), re.MULTILINE)
        (python,) = (text for language, text in blocks("Submit and poll") if language == "python")
        assert shell(f"python - <<'END'\n{python}END", checkout, environment) == "2\n"


def test_the_example_of_an_own_job_type_passes_its_test_and_runs(checkout: Path, environment: dict[str, str]):
    prepare, test, serve, submit = commands("Write your own job type")
    shell(prepare, checkout, environment)
    folder = checkout.parent / "acme"
    for language, text in blocks("Write your own job type"):
        if language == "python":
            name = text.partition("\n")[0].removeprefix("# ")
            (folder / name).write_text(text)
    assert "1 passed" in shell(test, folder, environment)
    with serving(serve, folder, environment) as address:
        job = json.loads(shell(submit, folder, {**environment, "JOBMILL_URL": address, "JOBMILL_API_KEY": "another's"}))
    assert (job["state"], job["result"]) == ("succeeded", "Hello Ada")


def test_the_example_of_the_how_to_passes_its_own_tests(tmp_path: Path, environment: dict[str, str]):
    how_to = (ROOT / "docs" / "own-job-types.md").read_text(encoding="utf-8")
    for name, example in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", how_to, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(example)
    assert "5 passed" in shell("python -m pytest -q test_imports.py", tmp_path, environment)
