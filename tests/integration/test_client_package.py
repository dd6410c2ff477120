"""The client as a package of its own: built, installed without the server, and used."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import requires, version
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

CLIENT = Path(__file__).parents[2] / "client"
DEADLINE = 60
USE = """
import importlib.util, sys
import jobmill_client
from jobmill_client import Client, Submission
assert jobmill_client.__file__.startswith(sys.prefix), jobmill_client.__file__
found = [name for name in ("api", "cli", "jobs", "models", "workers", "settings") if importlib.util.find_spec(name)]
assert not found, found
print(Client("http://127.0.0.1:8000", "jm_key_secret"), Submission(type="demo.echo").type)
"""


def run(*command: str | Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, env=kept | environment, capture_output=True, text=True, timeout=DEADLINE, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(CLIENT, folder / "client", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source)
    return next(folder.glob("*.whl"))


def test_it_holds_its_modules_its_types_and_its_licence_and_nothing_else(wheel: Path):
    modules = {f"jobmill_client/{path.name}" for path in (CLIENT / "jobmill_client").glob("*.py")}
    names = set(ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == modules | {"jobmill_client/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_asks_for_three_packages(wheel: Path):
    archive = ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    asked = [line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist: ")]
    assert sorted(line.split()[1].partition(">")[0].partition("<")[0] for line in asked) == [
        "httpx2",
        "pydantic",
        "tenacity",
    ]


def test_the_server_takes_the_client_of_its_folder_and_no_other_of_that_name():
    (asked,) = (line for line in map(Requirement, requires("jobmill") or ()) if line.name == "jobmill-client")
    own = Version(version("jobmill-client"))
    assert own in asked.specifier
    assert own.local, "a public index could have it"
    others = ["0.1.0", "0.1.9", "1.0", "99!1", f"{own.public}.post1", f"{own.public}+other"]
    assert not [other for other in others if asked.specifier.contains(other, prereleases=True)]


def test_it_is_used_where_no_server_is(wheel: Path, tmp_path: Path):
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path)
    python = tmp_path / "bin" / "python"
    run(sys.executable, "-m", "pip", f"--python={python}", "install", "-q", "--no-deps", "--no-index", wheel)
    # What it needs is borrowed. Found by this path, the server's editable install is not: that takes a site directory.
    printed = run(python, "-c", USE, PYTHONPATH=sysconfig.get_path("purelib"))
    assert printed == "Client('http://127.0.0.1:8000') demo.echo\n"
