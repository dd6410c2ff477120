"""Remakes the lock files from pyproject.toml and the client's, and checks offline that they were made from them.

Each lock's first line holds a digest of the tables it was made from; `--check` compares it. Other arguments go to uv.
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
LOCKS = {
    "requirements/dev.lock": ["--extra", "dev"],
    "requirements/run.lock": ["--constraints", "requirements/dev.lock"],  # the same versions, so tests speak for it
}


def first_line() -> str:
    """The line that ties a lock to what pyproject.toml asks for."""
    projects = [
        tomllib.loads((ROOT / file).read_text())["project"] for file in ("pyproject.toml", "client/pyproject.toml")
    ]
    asked = [[project.get(table) for table in TABLES] for project in projects]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return f"# Made by `make lock` from the dependencies in pyproject.toml, sha256 {digest}\n"


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
    command = [str(UV), "pip", "compile", "--quiet", *fixed, *options, "--output-file", lock, "pyproject.toml"]
    subprocess.run(command, cwd=ROOT, check=True)
    path = ROOT / lock
    path.write_text(first_line() + path.read_text())


def main(arguments: list[str]) -> int:
    """Remake both locks, or with --check tell which of them is out of date."""
    if arguments != ["--check"]:
        for lock, options in LOCKS.items():
            remake(lock, options + arguments)
        return 0
    stale = [lock for lock in LOCKS if not (ROOT / lock).read_text().startswith(first_line())]
    for lock in stale:
        print(f"{lock} was not made from the dependencies pyproject.toml now asks for. Run: make lock", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
