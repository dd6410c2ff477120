"""Remakes the lock files from pyproject.toml, the client's and bench/requirements.in, and checks offline that they fit.

Each lock's first line holds a digest of what it was made from; `--check` compares it. Other arguments go to uv.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLES = ("requires-python", "dependencies", "optional-dependencies")
UV = ROOT / ".venv" / "bin" / "uv"
PROJECT, PEERS = "pyproject.toml", "bench/requirements.in"
LOCKS = {
    "requirements/dev.lock": [PROJECT, "--extra", "dev"],
    "requirements/run.lock": [PROJECT, "--constraints", "requirements/dev.lock"],  # the same, so tests speak for it
    "requirements/bench.lock": [PEERS],
}


def first_line(source: str) -> str:
    """The line that ties a lock to what its source asks for."""
    asked = _project_asks() if source == PROJECT else (ROOT / source).read_text().split("\n")
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return f"# Made by `make lock` from the dependencies in {source}, sha256 {digest}\n"


def _project_asks() -> list[list[object]]:
    projects = [
        tomllib.loads((ROOT / file).read_text())["project"] for file in ("pyproject.toml", "client/pyproject.toml")
    ]
    return [[project.get(table) for table in TABLES] for project in projects]


def remake(lock: str, options: list[str]) -> None:
    """Compile one lock for every platform; versions it already names stay unless an option says otherwise."""
    fixed = [
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
        "--no-header",
        "--no-emit-package=jobmill-client",  # no registry has it: bin/setup installs it from client/
        "--annotation-style",
        "line",
    ]
    command = [str(UV), "pip", "compile", "--quiet", *fixed, *options, "--output-file", lock]
    subprocess.run(command, cwd=ROOT, check=True)
    path = ROOT / lock
    path.write_text(first_line(options[0]) + path.read_text())


def _fits(lock: str, source: str) -> bool:
    return (ROOT / lock).read_text().startswith(first_line(source))


def main(arguments: list[str]) -> int:
    """Remake the locks, or with --check tell which of them is out of date."""
    if arguments != ["--check"]:
        for lock, options in LOCKS.items():
            remake(lock, options + arguments)
        return 0
    stale = {lock: source for lock, (source, *_) in LOCKS.items() if not _fits(lock, source)}
    for lock, source in stale.items():
        print(f"{lock} was not made from the dependencies {source} now asks for. Run: make lock", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
