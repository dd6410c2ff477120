"""What stands beside the folders imports none of them; import-linter knows packages only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {path.stem for path in ROOT.glob("*.py")}


def _imported(source: str) -> set[str]:
    """The top-level names of what a source imports, wherever it does."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(("module", "may"), [("settings", {"setting_forms"}), ("setting_forms", set())])
def test_a_module_beside_the_folders_imports_none_of_them(module: str, may: set[str]) -> None:
    assert {"models", "jobs", "workers", "api", "cli", "settings", "setting_forms"} <= OURS
    assert _imported((ROOT / f"{module}.py").read_text()) & OURS == may


def test_an_import_is_seen_in_each_of_its_forms() -> None:
    sources = ["import models.job", "from models.job import Job", "def f():\n    from models import job"]

    assert [_imported(source) for source in sources] == [{"models"}] * 3
