"""Crash points: every declared one stands in the product once, and none does anything unless it is armed."""

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import crashpoints
from models.crashpoints import POINTS, CrashPointReached, Fault, crashpoint
from settings import BadSetting

ROOT = Path(__file__).parents[2]
FOLDERS = ("models", "jobs", "workers", "api", "cli")


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    crashpoints.arm("")


def _uses(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "crashpoint":
            yield ast.literal_eval(node.args[0])


def test_every_declared_point_stands_in_the_product_exactly_once_and_no_other_does() -> None:
    sources = [path.read_text() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]

    assert Counter(name for source in sources for name in _uses(source)) == dict.fromkeys(POINTS, 1)


def test_a_use_is_seen() -> None:
    assert list(_uses("if held:\n    crashpoint('a.b')")) == ["a.b"]


def test_every_point_says_what_is_true_there() -> None:
    assert all(sentence.endswith(".") for sentence in POINTS.values())


def test_an_unarmed_point_does_nothing() -> None:
    crashpoint("prune.before_commit")


@pytest.mark.parametrize(
    ("faults", "meant"),
    [
        ("", []),
        ("prune.before_commit", [Fault("prune.before_commit", 1, "kill")]),
        ("prune.before_commit:3", [Fault("prune.before_commit", 3, "kill")]),
        (
            "prune.before_commit=stop, worker.in_commit:2=raise",
            [Fault("prune.before_commit", 1, "stop"), Fault("worker.in_commit", 2, "raise")],
        ),
    ],
)
def test_the_setting_names_point_passage_and_action(faults: str, meant: list[Fault]) -> None:
    assert crashpoints.parse(faults) == meant


@pytest.mark.parametrize(
    "faults",
    [
        "prune.before_comit",
        "prune.before_commit:0",
        "prune.before_commit:x",
        "prune.before_commit=explode",
        "prune.before_commit=",
        "prune.before_commit,",
        "prune.before_commit,prune.before_commit=stop",
    ],
)
def test_a_wrong_setting_is_refused_and_leaves_all_as_it_was(faults: str) -> None:
    with pytest.raises(BadSetting, match=r"JOBMILL_FAULTS is wrong: .* A right one: "):
        crashpoints.arm(faults)
    crashpoint("prune.before_commit")


def test_only_the_passage_that_was_named_raises() -> None:
    crashpoints.arm("prune.before_commit:2=raise")
    crashpoint("prune.before_commit")
    crashpoint("bury.before_commit")

    with pytest.raises(CrashPointReached, match=r"prune\.before_commit"):
        crashpoint("prune.before_commit")
    crashpoint("prune.before_commit")


def _passing(faults: str) -> subprocess.Popen[bytes]:
    program = (
        "from models import crashpoints\n"
        f"crashpoints.arm({faults!r})\n"
        "crashpoints.crashpoint('prune.before_commit')\n"
        "print('went on', flush=True)\n"
    )
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)


def test_kill_ends_the_process_there_as_sigkill_does() -> None:
    process = _passing("prune.before_commit=kill")
    out, _ = process.communicate(timeout=20)

    assert process.returncode == -signal.SIGKILL
    assert b"crashpoint_reached" in out
    assert b"went on" not in out


def test_stop_freezes_the_process_there_until_it_is_continued() -> None:
    process = _passing("prune.before_commit=stop")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)

    os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=20)

    assert out.endswith(b"went on\n")


def test_forked_processes_share_the_count_so_that_a_replacement_survives() -> None:
    program = (
        "import os\n"
        "from models import crashpoints\n"
        "crashpoints.arm('prune.before_commit=kill')\n"
        "for _ in range(2):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        crashpoints.crashpoint('prune.before_commit')\n"
        "        os._exit(0)\n"
        "    print(os.waitpid(child, 0)[1], flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, timeout=20, check=True)

    assert done.stdout.split()[-2:] == [b"%d" % signal.SIGKILL, b"0"]
