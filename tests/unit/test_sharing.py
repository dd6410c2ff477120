"""Tests that share an installation go to one process, and those of any other file stay together."""

import ast
from pathlib import Path

import pytest

from tests.sharing import FOLDER, SHARING, BySharing

SHARED = {"installation", "breakable"}
ACCEPTANCE = Path(__file__).parents[1] / "acceptance"


@pytest.mark.parametrize(
    ("name", "together"),
    [
        (f"{FOLDER}test_client.py::test_a[full]", "full"),
        (f"{FOLDER}test_command.py::test_b[full-7]", "full"),
        (f"{FOLDER}test_command.py::test_b[a word-embedded]", "embedded"),
        (f"{FOLDER}test_explain.py::test_c", f"{FOLDER}test_explain.py"),
        (f"{FOLDER}test_hostile.py::test_d[full]", f"{FOLDER}test_hostile.py"),
        ("tests/faults/test_client.py::test_e[full]", "tests/faults/test_client.py"),
    ],
)
def test_a_test_goes_with_the_others_of_its_mode_or_else_with_its_file(name: str, together: str):
    assert object.__new__(BySharing)._split_scope(name) == together


def test_every_file_whose_tests_share_an_installation_is_named():
    assert {file.name for file in ACCEPTANCE.glob("test_*.py") if _asks_for_one(file)} == SHARING


def _asks_for_one(file: Path) -> bool:
    """Whether a test or a fixture of that file has the shared installation as its parameter."""
    functions = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    own = {one.name for one in functions}
    asking = [one for one in functions if one.name.startswith("test_") or one.decorator_list]
    return any({argument.arg for argument in one.args.args} & (SHARED - own) for one in asking)
