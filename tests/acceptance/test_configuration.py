"""Wrong configuration: the process says in one line which setting is wrong, shows no secret, and ends with 2."""

import socket
from pathlib import Path

import pytest

from tests.acceptance.process import free_port, jobmill

SECRET = "h4ckme"  # noqa: S105 - planted, to be looked for
DATABASE = f"postgresql://jobmill:{SECRET}@127.0.0.1:1/jobmill"
RABBITMQ = f"amqp://jobmill:{SECRET}@127.0.0.1:1/%2F"
KEY = f"jm_ops1_{SECRET * 6}"
RIGHT = {"DATABASE_URL": DATABASE, "RABBITMQ_URL": RABBITMQ, "JOBMILL_BOOTSTRAP_API_KEY": KEY}

WRONG = {
    "no DATABASE_URL": ("worker", {"DATABASE_URL": ""}, "`jobmill worker` needs DATABASE_URL, for example postgres"),
    "no RABBITMQ_URL": ("worker", {"RABBITMQ_URL": ""}, "`jobmill worker` needs RABBITMQ_URL, for example amqp"),
    "neither": ("worker", {"DATABASE_URL": "", "RABBITMQ_URL": ""}, "`jobmill worker` needs DATABASE_URL"),
    "neither for a dispatcher": (
        "dispatcher",
        {"DATABASE_URL": "", "RABBITMQ_URL": ""},
        "`jobmill dispatcher` needs DATABASE_URL",
    ),
    "a word for a number": ("worker", {"PORT": "x"}, "PORT (from the environment) is wrong"),
    "no such module": ("worker", {"JOBMILL_JOBS": "no.such.module"}, "JOBMILL_JOBS=no.such.module cannot be loaded"),
    "another database": (
        "worker",
        {"DATABASE_URL": f"mysql://jobmill:{SECRET}@127.0.0.1/jobmill"},
        "DATABASE_URL (from the environment) is wrong",
    ),
    "no API key": ("api", {"JOBMILL_BOOTSTRAP_API_KEY": SECRET}, "JOBMILL_BOOTSTRAP_API_KEY (from the environment)"),
    "the other mode": ("up", {}, "DATABASE_URL is set, and `jobmill up` runs on SQLite only."),
}


@pytest.mark.parametrize(("command", "changed", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_told_in_one_line(command: str, changed: dict[str, str], said: str, tmp_path: Path):
    refused = jobmill(command, settings=RIGHT | changed, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"Error: {said}")
    assert SECRET not in line


def test_a_module_that_is_broken_is_told_with_its_error(tmp_path: Path):
    (tmp_path / "broken_jobs.py").write_text("from jobs.registry import job\n\n@job('no args')\ndef f(): ...\n")
    settings = RIGHT | {"JOBMILL_JOBS": "broken_jobs", "PYTHONPATH": str(tmp_path)}
    refused = jobmill("worker", settings=settings, folder=tmp_path)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: JOBMILL_JOBS=broken_jobs cannot be loaded: BadJobType: ")


def test_a_database_that_does_not_answer_is_told_with_its_address_and_without_its_password(tmp_path: Path):
    refused = jobmill("worker", settings=RIGHT, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (3, "")
    *_, line = refused.stderr.splitlines()  # after what it has to say of the broker, which it asks first
    assert "127.0.0.1" in line
    assert "port 1" in line
    assert SECRET not in refused.stderr


def test_a_database_without_tables_is_told_with_the_command_that_makes_them(empty_database_url: str, tmp_path: Path):
    refused = jobmill("api", settings=RIGHT | {"DATABASE_URL": empty_database_url}, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.endswith("Run: jobmill db upgrade")


def test_a_taken_port_is_told_by_the_api_too(database_url: str, tmp_path: Path):
    settings = RIGHT | {"DATABASE_URL": database_url, "PORT": str(free_port())}
    with socket.create_server(("127.0.0.1", int(settings["PORT"]))):
        refused = jobmill("api", settings=settings, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"Error: Cannot listen on 127.0.0.1:{settings['PORT']}")


def test_a_taken_metrics_port_is_told(database_url: str, tmp_path: Path):
    settings = RIGHT | {"DATABASE_URL": database_url, "JOBMILL_METRICS_PORT": str(free_port())}
    with socket.create_server(("0.0.0.0", int(settings["JOBMILL_METRICS_PORT"]))):  # noqa: S104 - where metrics are
        refused = jobmill("worker", settings=settings, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: Cannot serve metrics on port ")
