"""Documents whose examples are run as they stand, in one session of a shell and one of Python, and compared.

A fenced block of `sh` or `python` is run; a block of `text` right after it is what it must print. Ids, times and tokens
may differ.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 60
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VOLATILE = {
    "<id>": re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"),
    "<time>": re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
}

# Shells and interpreters keep what a reader's keep: variables, functions, imports.
_SHELL = """set -euo pipefail
if [ -e .session ]; then . ./.session; fi
{block}
{{ declare -p | grep -v '^declare -[a-zA-Z]*r' || true; declare -f; }} > .session
"""
_PYTHON = """import json, sys
names = {"__name__": "__main__"}
for block in json.loads(sys.argv[1]):
    exec(compile(block, "<example>", "exec"), names)
    print(sys.argv[2], flush=True)
"""
_END = "--- end of the example ---"


@dataclass(frozen=True)
class Example:
    """A block to run, and what it must print; None: whatever it likes."""

    language: str
    text: str
    prints: str | None


def examples(page: str, language: str) -> list[Example]:
    """The examples in a language, in their order."""
    blocks = [(found[1], found[2], found.end(), found.start()) for found in _FENCE.finditer(page)]
    found = []
    for (kind, text, end, _), following in zip(blocks, [*blocks[1:], None], strict=True):
        told = following is not None and following[0] == "text" and not page[end : following[3]].strip()
        if kind == language:
            found.append(Example(kind, text, following[1] if told and following else None))
    return found


def told(text: str) -> str:
    """A text without what differs from run to run."""
    for name, pattern in _VOLATILE.items():
        text = pattern.sub(name, text)
    return text.rstrip()


def run_shell(block: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What a block prints, in a session that goes on from block to block in the same folder. It must not fail."""
    return _run(["bash", "-c", _SHELL.format(block=block)], folder, environment)


def run_python(blocks: list[str], folder: Path, environment: Mapping[str, str]) -> list[str]:
    """What each of some blocks prints, run one after the other in one interpreter. None may fail."""
    printed = _run([sys.executable, "-c", _PYTHON, json.dumps(blocks), _END], folder, environment)
    return printed.split(f"{_END}\n")[: len(blocks)]


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\nfails:\n{done.stdout}{done.stderr}"
    return done.stdout
