"""Remakes the lock files from pyproject.toml, and checks without a network that they were made from it.

Each lock's first line holds a digest of the tables it was made from; `--check` compares it. Other arguments go to uv.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
LOCKS = {
    "requirements/dev.lock": ["--extra", "dev"],
    "requirements/run.lock": ["--constraints", "requirements/dev.lock"],  # the same versions, so tests speak for it
}


def first_line() -> str:
    """The line that ties a lock to what pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [project["requires-python"], project["dependencies"], project["optional-dependencies"]]
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
