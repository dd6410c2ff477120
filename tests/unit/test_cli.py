import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli import main as root
from cli.failures import Exit, told
from cli.lazy import Lazy, LazyGroup
from jobs.api_keys import BootstrapKeyRefused
from models.database import AlreadyOpen
from models.errors import SchemaMismatch, Unavailable
from settings import BadSetting


def failing(error: BaseException) -> click.Group:
    @click.group(cls=root.Jobmill, lazy={})
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise error

    return group


def loaded_by(*args: str) -> set[str]:
    """The modules that a command imports, without our own."""
    program = f"import sys\nfrom cli.main import main\nmain({list(args)}, standalone_mode=False)\n"
    program += "print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()}


def test_the_help_names_every_command_and_imports_none_of_them():
    heavy = {"sqlalchemy", "flask", "dramatiq", "httpx2", "rich", "pydantic", "jobs", "models", "settings"}
    assert not loaded_by("--help") & heavy
    told_by_help = CliRunner().invoke(root.main, ["--help"]).stdout
    assert all(f"\n  {name} " in told_by_help for name in root.COMMANDS)


@pytest.mark.parametrize("group", ["jobs", "job-types", "workers", "webhooks"])
def test_commands_over_http_import_no_database_and_no_broker(group):
    assert not loaded_by(group, "--help") & {"sqlalchemy", "flask", "dramatiq", "pika", "alembic"}


@pytest.mark.parametrize("name", ["up", "api", "dispatcher", "worker", "worker-child"])
def test_a_process_that_stays_does_without_rich(name):
    loaded = loaded_by(name, "--help")
    assert "structlog" in loaded
    assert "rich" not in loaded


@pytest.mark.parametrize("name", ["jobs", "job-types", "workers", "webhooks", "keys", "tenants"])
def test_every_command_of_the_table_is_there(name):
    command = root.COMMANDS[name].load()
    assert command.name == name
    assert command.get_short_help_str()


def test_every_exit_code_is_in_the_help():
    told_by_help = CliRunner().invoke(root.main, ["--help"]).stdout
    assert all(f" {code.value}  " in told_by_help for code in Exit)


def test_the_version_is_that_of_the_distribution():
    assert CliRunner().invoke(root.main, ["--version"]).stdout == f"jobmill {version('jobmill')}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadSetting("PORT is wrong"), 2),
        (SchemaMismatch("Run: jobmill db upgrade"), 2),
        (AlreadyOpen("Another jobmill runs"), 2),
        (BootstrapKeyRefused("The key ops1 was revoked"), 2),
        (Unavailable("The database is away"), 3),
    ],
)
def test_an_expected_error_is_one_clear_line(error, code):
    result = CliRunner().invoke(failing(error), ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"Error: {error}\n")


def test_ctrl_c_ends_with_130():
    result = CliRunner().invoke(failing(KeyboardInterrupt()), ["fail"])
    assert (result.exit_code, result.stderr) == (130, "Error: Stopped by Ctrl-C.\n")


def test_a_bug_keeps_its_traceback():
    bug = ZeroDivisionError("a bug")
    assert CliRunner().invoke(failing(bug), ["fail"]).exception is bug
    assert told(bug) is None


def test_a_command_line_that_is_not_utf_8_is_wrong_usage():
    result = CliRunner().invoke(root.main, ["jobs", "list", "--queue", "\udcff"])
    assert result.exit_code == 2
    assert "not UTF-8" in result.stderr


def test_a_lazy_command_is_loaded_when_it_is_called():
    group = LazyGroup("group", lazy={"types": Lazy("cli.job_types:job_types", "Types.")})
    assert "See which types" in CliRunner().invoke(group, ["types", "--help"]).stdout
    assert CliRunner().invoke(group, ["nothing"]).exit_code == 2


def test_the_manual_names_every_command_and_exit_code():
    manual = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for group in ("jobs", "queues", "job-types", "workers", "keys", "tenants"):
        command = root.COMMANDS[group].load()
        assert isinstance(command, click.Group)
        assert all(f"`jobmill {group} {name}" in manual for name in command.commands)
    assert all(f"| {code.value} | " in manual for code in Exit)
