"""Take one guard after another out of a copy of the tree, and see the tests fail that are named for it.

A guard whose tests still pass without it is not tested, and a mutation whose text is no longer in its file tests
nothing: both end this with status 1. `make mutants` runs all, `python bin/mutate.py lease` those with that word.
"""

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_SECONDS = 300


class Wrong(Exception):  # noqa: N818
    """Why a mutation says nothing, or a guard is not tested."""


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of every file that is in the repository or would be."""
    with tempfile.TemporaryDirectory(prefix="jobmill-mutants-") as folder:
        copy = Path(folder)
        for name in _output("git", "ls-files", "--cached", "--others", "--exclude-standard").split("\n"):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        _compile(copy)
        _assert_imported_from(copy)
        yield copy


def _compile(copy: Path) -> None:
    """Once for all mutants: a file that one has changed is told by its hash, not by its time, and compiled anew."""
    hashed = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(copy, quiet=2, invalidation_mode=hashed)


def kill(mutant: Mutant, copy: Path) -> float:
    """Make the edit in the copy, run the named tests, undo it; gives the seconds it took. Raises Wrong."""
    file = copy / mutant.file
    original = file.read_text()
    if original.count(mutant.text) != 1:
        raise Wrong(f"{mutant.file} has not once: {mutant.text!r}. Let the mutation follow the code.")
    mutated = original.replace(mutant.text, mutant.instead)
    compile(mutated, mutant.file, "exec")
    file.write_text(mutated)
    began = time.monotonic()
    try:
        status, output = run_tests(copy, mutant.tests)
    finally:
        file.write_text(original)
    _judge(mutant, status, output)
    return time.monotonic() - began


def run_tests(copy: Path, tests: Iterable[str]) -> tuple[int, str]:
    """The tests' exit status and the end of what they said."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=_environment(copy),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Wrong(f"the tests did not end within {TIMEOUT_SECONDS} s") from None
    return done.returncode, (done.stdout + done.stderr)[-3000:]


def _judge(mutant: Mutant, status: int, output: str) -> None:
    if status == 0:
        raise Wrong(f"survived: {', '.join(mutant.tests)} passed without the guard")
    if status != 1 or "\nFAILED " not in output:
        raise Wrong(f"the tests did not fail but break (status {status}):\n{output}")


def _assert_imported_from(copy: Path) -> None:
    """The installed package is this tree; what is imported in the copy must be the copy's."""
    code = "import models, workers; print(models.__file__, workers.__file__)"
    found = _output(sys.executable, "-c", code, cwd=copy, env=_environment(copy)).split()
    if not all(Path(name).is_relative_to(copy.resolve()) for name in found):
        raise Wrong(f"the copy is not what is imported there, but {found}")


def _environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy.resolve())}


def _output(*command: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=True).stdout.strip()


def main(words: list[str]) -> int:
    """Kill all mutants, or those whose guard has one of the words; prints a table."""
    chosen = [each for each in MUTANTS if not words or any(word in each.guard for word in words)]
    wrong = 0
    with copied_tree() as copy:
        status, output = run_tests(copy, sorted({test for mutant in chosen for test in mutant.tests}))
        if status:
            raise SystemExit(f"The tests fail before anything is mutated:\n{output}")
        for mutant in chosen:
            try:
                print(f"{kill(mutant, copy):5.1f} s  caught  {mutant.guard}", flush=True)
            except Wrong as reason:
                wrong += 1
                print(f"         WRONG   {mutant.guard}: {reason}", flush=True)
    print(f"{len(chosen)} guards taken out one by one, {len(chosen) - wrong} missed by their tests as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
