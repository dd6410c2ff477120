"""The wall between tenants is spelled in one place: a condition of one's own is one that can be forgotten or wrong."""

import ast
from collections.abc import Iterator
from pathlib import Path

MODELS = Path(__file__).parents[2] / "models"
WALL = MODELS / "tenancy.py"


def _conditions(source: str) -> Iterator[str]:
    """What compares a column `tenant_id` with anything but another column."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and _is_column(node.left) and not _is_column(node.comparators[0]):
            yield ast.unparse(node)


def _is_column(node: ast.expr) -> bool:
    of = node.value if isinstance(node, ast.Attribute) and node.attr == "tenant_id" else None
    return isinstance(of, ast.Name | ast.Attribute) and ast.unparse(of).rpartition(".")[2] in {"c", "_c", "tag"}


def test_only_of_tenant_compares_a_row_s_tenant() -> None:
    found = {path.name: list(_conditions(path.read_text())) for path in MODELS.rglob("*.py") if path != WALL}

    assert len(found) > 10
    assert {name: conditions for name, conditions in found.items() if conditions} == {}


def test_a_condition_of_its_own_is_seen() -> None:
    assert list(_conditions("_c.tenant_id == tenant_id")) == ["_c.tenant_id == tenant_id"]
    assert list(_conditions("other.c.tenant_id == _c.tenant_id")) == []
